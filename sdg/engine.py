"""The engine: runs the flows of many leaves at once. The gateway decides how many requests are in flight.

A row whose answer is not as asked fails alone; any other error of a model stops the run. Nothing is saved here but
whole leaves: what a stop leaves behind is in the ledger, and the same flows run again take it from there for free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from ..core.progress import Task
from ..core.records import Kind, Provenance, Reject, Sample
from ..llm.ask import Gateway
from ..taxonomy.chunks import Chunk
from ..taxonomy.leaf import Leaf
from .filters import without_duplicates
from .flow import Failure, LeafRun, Outcome, Tally, together
from .flows.knowledge import knowledge
from .flows.skills import skills
from .recipe import Recipe
from .settings import KnowledgeSettings


@dataclass(frozen=True)
class Job:
    """One leaf to be made: all that its flow needs, read before the first request."""

    leaf: Leaf
    recipe: Recipe
    chunks: Sequence[Chunk]
    source: Provenance
    """What all its samples have in common."""


@dataclass(frozen=True)
class Made:
    """What came out of one leaf. The order of samples and rejects follows from the answers, not from their timing."""

    job: Job
    samples: list[Sample]
    rejects: list[Reject]
    failures: list[Failure]
    tally: Tally


async def run_jobs(
    jobs: Sequence[Job], *, teacher: Gateway, judge: Gateway, task: Task, save: Callable[[Made], None]
) -> None:
    """Run the flows of all jobs at once and `save` each leaf as soon as it is done.

    Raises the first ModelError that is no BadAnswer, and whatever `save` raises; then the other flows are cancelled.
    """
    outcomes: Counter[str] = Counter()

    def told(outcome: str) -> None:
        if outcome:
            outcomes[outcome] += 1
            task.note(", ".join(f"{number} {name}" for name, number in sorted(outcomes.items())))
        else:
            task.advance()

    async def make(job: Job) -> None:
        run = LeafRun(job.leaf, job.recipe, job.source, teacher, judge, Tally(), told)
        save(_made(job, await _flow(run, job.chunks), run.tally))

    async with together() as group:
        for job in jobs:
            group.create_task(make(job))


async def _flow(run: LeafRun, chunks: Sequence[Chunk]) -> list[Outcome]:
    settings = run.recipe.settings
    if isinstance(settings, KnowledgeSettings):
        return await knowledge(run, settings, chunks)
    return await skills(run, settings)


_KINDS: tuple[str, ...] = get_args(Kind)


def _made(job: Job, outcomes: Sequence[Outcome], tally: Tally) -> Made:
    """Outcomes by kind, each kind in the flow's order; of what asks the same, the first stays."""
    samples = sorted((o for o in outcomes if isinstance(o, Sample)), key=lambda sample: _KINDS.index(sample.kind))
    kept, duplicates = without_duplicates(samples, job.recipe.settings.near_duplicate)
    rejects = [*(o for o in outcomes if isinstance(o, Reject)), *duplicates]
    rejects.sort(key=lambda reject: _KINDS.index(reject.sample.kind))
    return Made(job, kept, rejects, [o for o in outcomes if isinstance(o, Failure)], tally)
