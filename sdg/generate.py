"""Bring the store up to date with the taxonomy: make what is missing, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.config import Config
from ..core.progress import Progress
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
from .flow import Tally
from .flows.knowledge import SENTENCE_END
from .recipe import Recipe, load_recipes
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
) -> list[Entry]:
    """Make what the store lacks and return the entry of every leaf, in the order of `leaves`.

    No model is started when nothing is missing, or when the ledger has every answer. `cache` is where documents of
    other repositories are kept. The caller holds the workspace's lock. Stopped anywhere and called again, it goes on.
    Raises ConfigError, TaxonomyError, ModelError (a row whose answer is not as asked is no error: see the manifest),
    DataError, and BudgetSpent, with the leaves that were done in the store.
    """
    planned = plan(leaves, config, store)
    remove_leftovers(store)
    missing = [each for each in planned if not each.complete]
    if missing:
        read = functools.partial(_job, source=source, config=config, cache=cache)
        asyncio.run(_generate(missing, read, config, ledger, progress, budget or Budget()))
    return [open_entry(each.folder, each.leaf.id, reused=each.complete) for each in planned]


def estimate_calls(planned: Planned, source: Source, config: Config, cache: Path) -> int:
    """About how many answers a leaf will take, cached ones included; nobody knows before they are there.

    Knowledge: for every chunk, `calls_per_chunk` times, one question to a sentence; for every seed and every fourth of
    these questions, its rewordings and a long answer; a judgement of each. Skills:
    `seeds * calls_per_seed * (1 + tasks_per_call * 2)`, without a judge `* 1`. Filters that spare an answer or a
    judgement make it fewer. Raises TaxonomyError when a document cannot be read.
    """
    return _estimate(_job(planned, source, config, cache))


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
    return Job(leaf, recipe, read_chunks(planned, source, config, cache), shared)


def _estimate(job: Job) -> int:
    settings = job.recipe.settings
    judge = int(settings.judge)
    if isinstance(settings, KnowledgeSettings):
        sentences = sum(len(SENTENCE_END.findall(chunk.text)) for chunk in job.chunks) * settings.calls_per_chunk
        answers = sum(len(example.pairs) for example in job.leaf.seed_examples) + sentences // 4
        judged = sentences + answers * (settings.rewordings + 1)
        return len(job.chunks) * settings.calls_per_chunk + answers * 2 + judged * judge
    return len(job.leaf.seed_examples) * settings.calls_per_seed * (1 + settings.tasks_per_call * (1 + judge))


async def _generate(
    missing: Sequence[Planned],
    read: Callable[[Planned], Job],
    config: Config,
    ledger_path: Path,
    progress: Progress,
    budget: Budget,
) -> None:
    folders = {each.leaf.id: each.folder for each in missing}
    judge_name = identity(config.judge or config.teacher)
    total = sum(_estimate(read(each)) for each in missing)  # what cannot be read is told before anything is spent
    async with contextlib.AsyncExitStack() as stack:
        ledger = stack.enter_context(Ledger(ledger_path))
        gateway = functools.partial(Gateway, ledger=ledger, progress=progress, seed=config.seed, budget=budget)
        teacher = await stack.enter_async_context(gateway(config.teacher))
        judge = teacher
        if config.judge is not None:
            judge = await stack.enter_async_context(gateway(config.judge, role="judge"))

        def save(made: Made) -> None:
            requests = _requests(ledger, made.tally)
            write_entry(folders[made.job.leaf.id], made, judge=judge_name, seed=config.seed, requests=requests)

        task = stack.enter_context(progress.task("generate", total=total, unit="answers"))
        jobs = (functools.partial(read, each) for each in missing)
        await run_jobs(jobs, teacher=teacher, judge=judge, task=task, save=save)


def _requests(ledger: Ledger, tally: Tally) -> Requests:
    """What one leaf asked of the models."""
    entries = [entry for key in tally.keys if (entry := ledger.get(key))]
    asked, paid = tally.asked.total(), tally.paid.total()
    return Requests(
        asked=asked,
        cached=asked - paid,
        paid=paid,
        prompt_tokens=sum(entry.prompt_tokens for entry in entries),
        completion_tokens=sum(entry.completion_tokens for entry in entries),
    )
