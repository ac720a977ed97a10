"""Bring the store up to date with the taxonomy: make what is missing, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.config import Config
from ..core.progress import Progress, Task
from ..core.records import Provenance
from ..llm.ask import Gateway
from ..llm.budget import Budget
from ..llm.endpoint import identity
from ..llm.ledger import Ledger
from ..taxonomy.chunks import Chunk, split
from ..taxonomy.documents import load_documents
from ..taxonomy.leaf import Leaf
from ..taxonomy.source import Source
from .engine import Job, Made, run_jobs
from .flow import Model, Tally
from .flows import knowledge, preferences, skills, tests
from .forecast import Forecast, forecast
from .others import Students, other_models, refuse_elsewhere
from .recipe import Recipe, load_recipes
from .scale_out import collect, run_on_ray
from .settings import KnowledgeSettings
from .store import Entry, Requests, complete_entries, entry_path, open_entry, remove_leftovers, write_entry


@dataclass(frozen=True)
class Planned:
    """A leaf, what it is to be made with, and whether the store has it."""

    leaf: Leaf
    recipe: Recipe
    folder: Path
    complete: bool


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


def bring_up_to_date(  # noqa: PLR0913 (where everything lies, said by who calls: the library knows no workspace)
    leaves: Sequence[Leaf],
    source: Source,
    *,
    config: Config,
    store: Path,
    ledger: Path,
    cache: Path,
    progress: Progress,
    budget: Budget | None = None,
    ray: str = "",
    students: Students | None = None,
) -> list[Entry]:
    """Make what the store lacks and return the entry of every leaf, in the order of `leaves`.

    No model is started when nothing is missing, or when the ledger has every answer. `cache` is where documents of
    other repositories are kept. `ray` is a cluster's address, or `local`, to work there, without a budget. `students`
    are asked where the recipe says so. The caller holds the workspace's lock. Stopped anywhere and called again, it
    goes on.

    Raises ConfigError, TaxonomyError, ModelError (a row whose answer is not as asked is no error: see the manifest),
    DataError, and BudgetSpent, with the leaves that were done in the store.
    """
    planned = plan(leaves, config, store)
    remove_leftovers(store)
    missing = [each for each in planned if not each.complete]
    if missing:
        recipes = [each.recipe for each in missing]
        if ray:
            refuse_elsewhere(recipes)
        read = functools.partial(_job, source=source, config=config, cache=cache)
        total = sum(_estimate(read(each)) for each in missing)  # what cannot be read is told before anything is spent
        jobs = (functools.partial(read, each) for each in missing)
        with Ledger(ledger) as book, progress.task("generate", total=total, unit="answers") as task:
            collect(book)
            save = _saver(missing, config, book)
            if ray:
                run_on_ray(jobs, ray, config=config, ledger=book, task=task, save=save)
            else:
                gateway = functools.partial(Gateway, ledger=book, progress=progress, seed=config.seed, budget=budget)
                others = other_models(recipes, students, gateway, book, progress)
                asyncio.run(_run_here(jobs, config, gateway, task, save, others))
    return [open_entry(each.folder, each.leaf.id, reused=each.complete) for each in planned]


def foresee(
    leaves: Sequence[Leaf], source: Source, *, config: Config, store: Path, ledger: Path, cache: Path
) -> list[Forecast]:
    """What bringing the store up to date would ask and cost, for each leaf that is not complete; nothing is sent.

    Raises ConfigError, YamlProblems and TaxonomyError, as doing it would.
    """
    missing = [each for each in plan(leaves, config, store) if not each.complete]
    read = functools.partial(_job, source=source, config=config, cache=cache)
    jobs = ((functools.partial(read, each), _estimate(read(each))) for each in missing)
    return forecast(jobs, config, ledger)


def read_chunks(planned: Planned, source: Source, config: Config, cache: Path) -> list[Chunk]:
    """A leaf's documents as its recipe cuts them; none for a skill. Raises TaxonomyError when one cannot be read."""
    settings = planned.recipe.settings
    if not isinstance(settings, KnowledgeSettings):
        return []
    documents = load_documents(planned.leaf, source, cache, config.documents)
    return [chunk for document in documents for chunk in split(document, settings.chunk_tokens)]


def _job(planned: Planned, source: Source, config: Config, cache: Path) -> Job:
    leaf, recipe = planned.leaf, planned.recipe
    shared = Provenance(
        leaf=leaf.id,
        leaf_fingerprint=leaf.fingerprint,
        commit=source.name,
        recipe=recipe.name,
        recipe_fingerprint=recipe.fingerprint,
        teacher=identity(config.teacher),
    )
    return Job(leaf, recipe, read_chunks(planned, source, config, cache), shared, config.seed)


def _estimate(job: Job) -> int:
    """About how many answers a leaf will take, cached ones included; nobody knows before they are there."""
    recipe, settings = job.recipe, job.recipe.settings
    tested = tests.estimate(recipe.tests, job.chunks) if recipe.tests else 0
    paired = preferences.estimate(recipe.preferences) if recipe.preferences else 0
    if isinstance(settings, KnowledgeSettings):
        return tested + paired + knowledge.estimate(settings, job.chunks, job.leaf)
    return paired + skills.estimate(settings, job.leaf)


def _saver(missing: Sequence[Planned], config: Config, ledger: Ledger) -> Callable[[Made], None]:
    """What writes a leaf that is done into the store."""
    folders = {each.leaf.id: each.folder for each in missing}
    judge = identity(config.judge or config.teacher)

    def save(made: Made) -> None:
        requests = _requests(ledger, made.tally)
        write_entry(folders[made.job.leaf.id], made, judge=judge, seed=config.seed, requests=requests)

    return save


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


def _requests(ledger: Ledger, tally: Tally) -> Requests:
    """What one leaf asked of the models."""
    entries = (entry for key in tally.keys if (entry := ledger.get(key)))
    tokens = [(entry.prompt_tokens, entry.completion_tokens) for entry in entries]
    asked, paid = tally.asked.total(), tally.paid.total()
    return Requests(
        asked=asked,
        cached=asked - paid,
        paid=paid,
        prompt_tokens=sum(prompt for prompt, _ in tokens),
        completion_tokens=sum(completion for _, completion in tokens),
    )
