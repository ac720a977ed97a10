"""Bring the store up to date with the taxonomy: make what is missing, and nothing else."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..core.atomic import remove_leftovers
from ..core.config import Config
from ..core.errors import TaxonomyError
from ..core.progress import Progress, Task
from ..core.records import Provenance, TokensUsed
from ..llm.ask import Gateway
from ..llm.budget import Budget
from ..llm.embedding import fetch_embedder
from ..llm.endpoint import identity
from ..llm.ledger import Ledger
from ..llm.loop import run_to_end
from ..llm.turns import Turns
from ..taxonomy.chunks import Chunk, split
from ..taxonomy.documents import load_documents
from ..taxonomy.leaf import Leaf
from ..taxonomy.source import Source
from .engine import Job, Made, run_jobs
from .flow import Model, Tally
from .forecast import Forecast, forecast, guess, learned
from .others import Students, other_models
from .recipe import Recipe, load_recipes
from .scale_out import collect, run_on_ray
from .settings import KnowledgeSettings
from .store import Entry, Requests, complete_entries, entry_path, open_entry, write_entry
from .unmade import NotComplete, Unmade, first_of


@dataclass(frozen=True)
class Planned:
    """A leaf, what it is to be made with, and whether the store has it."""

    leaf: Leaf
    recipe: Recipe
    folder: Path
    complete: bool


@dataclass(frozen=True)
class Setup:
    """What samples are made with, and where everything lies: the library knows no workspace."""

    source: Source
    config: Config
    store: Path
    ledger: Path
    documents: Path
    """Where those of other repositories are kept."""
    students: Students | None = None
    """Asked where a recipe says so."""


def plan(leaves: Sequence[Leaf], config: Config, store: Path) -> list[Planned]:
    """What there is to do, without asking a model. Raises ConfigError or YamlProblems for a wrong recipe or prompt."""
    recipes, teacher = load_recipes(config), identity(config.teacher)
    complete = {recipe.fingerprint: complete_entries(store, recipe, teacher) for recipe in recipes.values()}
    planned: list[Planned] = []
    for leaf in leaves:
        recipe = recipes[leaf.kind]
        there = complete[recipe.fingerprint].get(leaf.fingerprint)
        planned.append(Planned(leaf, recipe, there or entry_path(store, leaf, recipe, teacher), there is not None))
    return planned


def bring_up_to_date(
    leaves: Sequence[Leaf], setup: Setup, progress: Progress, *, budget: Budget | None = None, ray: str = ""
) -> list[Entry]:
    """Make what the store lacks and return the entry of every leaf, in the order of `leaves`.

    No model is started when nothing is missing, or when the ledger has every answer. `ray` is a cluster's address, or
    `local`, to work there, without a budget. The caller holds the workspace's lock. Stopped anywhere and called again,
    it goes on.

    Raises NotComplete when all others are made, for leaves whose documents cannot be read or that lack answers which
    may still come. Raises ConfigError, ModelError (a row whose answer is not as asked is no error: see the manifest),
    DataError, and BudgetSpent, with the leaves that were done in the store.
    """
    planned = plan(leaves, setup.config, setup.store)
    remove_leftovers(setup.store)
    missing, unmade = _foreseen(planned, setup)
    if unmade:
        progress.say(f"cannot be read, and left out: {first_of(unmade)}")
    if missing:
        unmade += _make(missing, setup, progress, budget, ray)
    lacking = {leaf for leaf, _ in unmade}
    made = [each for each in planned if each.leaf.id not in lacking]
    entries = [open_entry(each.folder, each.leaf.id, reused=each.complete) for each in made]
    if unmade:
        raise NotComplete(entries, sorted(unmade))
    return entries


def foresee(leaves: Sequence[Leaf], setup: Setup) -> tuple[list[Forecast], list[Unmade]]:
    """What bringing the store up to date would ask and cost, for each leaf that is not complete; nothing is sent.

    Besides, the leaves whose documents cannot be read. Raises ConfigError and YamlProblems, as doing it would.
    """
    missing, unmade = _foreseen(plan(leaves, setup.config, setup.store), setup)
    jobs = ((functools.partial(_job, each.planned, setup), each.expected) for each in missing)
    return forecast(jobs, setup.config, setup.ledger, setup.students), unmade


def read_chunks(planned: Planned, source: Source, config: Config, cache: Path) -> list[Chunk]:
    """A leaf's documents as its recipe cuts them; none for a skill. Raises TaxonomyError when one cannot be read."""
    settings = planned.recipe.settings
    if not isinstance(settings, KnowledgeSettings):
        return []
    documents = load_documents(planned.leaf, source, cache, config.documents)
    return [chunk for document in documents for chunk in split(document, settings.chunk_tokens)]


def _job(planned: Planned, setup: Setup) -> Job:
    leaf, recipe, config = planned.leaf, planned.recipe, setup.config
    shared = Provenance(
        leaf=leaf.id,
        leaf_fingerprint=leaf.fingerprint,
        commit=setup.source.name,
        recipe=recipe.name,
        recipe_fingerprint=recipe.fingerprint,
        teacher=identity(config.teacher),
    )
    return Job(leaf, recipe, read_chunks(planned, setup.source, config, setup.documents), shared, config.seed)


class _Foreseen(NamedTuple):
    """A leaf to be made. `guessed` follows from it and its recipe, `expected` from what other leaves took as well."""

    planned: Planned
    guessed: int
    expected: int


def _foreseen(planned: Sequence[Planned], setup: Setup) -> tuple[list[_Foreseen], list[Unmade]]:
    """The leaves that are not complete, with the answers that they will take, and those that cannot be read."""
    foreseen, unread = list[_Foreseen](), list[Unmade]()
    teacher, factors = identity(setup.config.teacher), dict[str, float]()
    for each in (each for each in planned if not each.complete):
        recipe = each.recipe
        if recipe.fingerprint not in factors:
            factors[recipe.fingerprint] = learned(complete_entries(setup.store, recipe, teacher).values())
        try:
            guessed = guess(_job(each, setup))
        except TaxonomyError as error:
            unread.append(Unmade.of(each.leaf.id, error))
        else:
            foreseen.append(_Foreseen(each, guessed, round(guessed * factors[recipe.fingerprint])))
    return foreseen, unread


def _make(
    missing: Sequence[_Foreseen], setup: Setup, progress: Progress, budget: Budget | None, ray: str
) -> list[Unmade]:
    """Make these leaves; returned are those that lack answers which may still come."""
    config, recipes = setup.config, [each.planned.recipe for each in missing]
    if recipes[0].held_out_cosine:
        fetch_embedder(progress)  # before anything is paid for
    unmade, total = list[Unmade](), sum(each.expected for each in missing)
    jobs = (functools.partial(_job, each.planned, setup) for each in missing)
    with Ledger(setup.ledger) as book, progress.task("generate", total=total, unit="answers") as task:
        collect(book)
        save = _saver(missing, config, book, task, unmade)
        if ray:
            run_on_ray(
                jobs, ray, recipes=recipes, students=setup.students, config=config, ledger=book, task=task, save=save
            )
        else:
            turns = Turns()
            gateway = functools.partial(
                Gateway, ledger=book, progress=progress, seed=config.seed, budget=budget, turns=turns
            )
            others = other_models(recipes, setup.students, gateway, book, progress, turns)
            run_to_end(_run_here(jobs, config, gateway, task, save, others))
    return unmade


def _saver(
    missing: Sequence[_Foreseen], config: Config, ledger: Ledger, task: Task, unmade: list[Unmade]
) -> Callable[[Made], None]:
    """What writes a leaf that is done into the store, or (where answers may still come) notes that it is not."""
    by_leaf = {each.planned.leaf.id: each for each in missing}
    judge = identity(config.judge or config.teacher)

    def save(made: Made) -> None:
        leaf, tally = made.job.leaf.id, made.tally
        planned, guessed, expected = by_leaf[leaf]
        task.grow(tally.answers - expected)
        if made.unanswered:
            unmade.append(Unmade(leaf, _in_vain(made.unanswered)))
        else:
            requests = _requests(ledger, tally, guessed)
            write_entry(planned.folder, made, judge=judge, seed=config.seed, requests=requests)

    return save


def _in_vain(unanswered: Mapping[str, str]) -> str:
    number, [(reason, _)] = len(unanswered), Counter(unanswered.values()).most_common(1)
    return f"{number:,} {'request' if number == 1 else 'requests'} got no answer ({reason})"


async def _run_here(
    jobs: Iterable[Callable[[], Job]],
    config: Config,
    gateway: Callable[..., Gateway],
    task: Task,
    save: Callable[[Made], None],
    others: contextlib.AbstractAsyncContextManager[Mapping[str, Model]],
) -> None:
    async with gateway(config.teacher) as teacher, others as beside:
        if config.judge is None:
            await run_jobs(jobs, teacher=teacher, judge=teacher, task=task, save=save, others=beside)
            return
        async with gateway(config.judge, role="judge") as judge:
            await run_jobs(jobs, teacher=teacher, judge=judge, task=task, save=save, others=beside)


def _requests(ledger: Ledger, tally: Tally, guessed: int) -> Requests:
    """What one leaf asked of the models."""
    prompt, completion = Counter[str](), Counter[str]()
    for entry in filter(None, map(ledger.get, tally.keys)):
        prompt[entry.model] += entry.prompt_tokens
        completion[entry.model] += entry.completion_tokens
    asked, paid = tally.asked.total(), tally.paid.total()
    return Requests(
        guessed=guessed,
        asked=asked,
        cached=asked - paid,
        paid=paid,
        prompt_tokens=prompt.total(),
        completion_tokens=completion.total(),
        by_model={model: TokensUsed(prompt=prompt[model], completion=completion[model]) for model in sorted(prompt)},
    )
