"""The engine: runs the flows of many leaves at once. The gateway decides how many requests are in flight.

A leaf is begun when the wire would run dry without it, so that memory does not grow with the taxonomy. A row fails
alone when its answer is not as asked, or does not come while others do; any other error of a model stops the run.
Nothing is saved here but whole leaves: what a stop leaves behind is in the ledger, and the same flows run again take it
from there for free.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

from ..core.progress import Task
from ..core.records import Kind, Preference, Provenance, Question, Reject, Sample
from ..llm.ask import Gateway
from ..taxonomy.chunks import Chunk
from ..taxonomy.leaf import Leaf
from .filters import without_duplicates
from .flow import Failure, LeafRun, Model, Outcome, Tally, together
from .flows.knowledge import knowledge
from .flows.preferences import preferences
from .flows.skills import skills
from .flows.tests import tests
from .recipe import Recipe
from .settings import KnowledgeSettings


@dataclass(frozen=True)
class Job:
    """One leaf to be made: all that its flow needs."""

    leaf: Leaf
    recipe: Recipe
    chunks: Sequence[Chunk]
    source: Provenance
    """What all its samples have in common."""
    seed: int
    """What its draws follow from."""


@dataclass(frozen=True)
class Made:
    """What came out of one leaf. The order of samples and rejects follows from the answers, not from their timing."""

    job: Job
    samples: list[Sample]
    preferences: list[Preference]
    tests: list[Question]
    rejects: list[Reject]
    failures: list[Failure]
    tally: Tally

    @property
    def unanswered(self) -> dict[str, str]:
        """As in the tally, of what came out: rows that were begun ahead, and not needed, may lack answers too."""
        ended = {failure.request for failure in self.failures}
        return {key: problem for key, problem in self.tally.unanswered.items() if key in ended}


async def run_jobs(
    jobs: Iterable[Callable[[], Job]],
    *,
    teacher: Gateway,
    judge: Gateway,
    task: Task,
    save: Callable[[Made], None],
    others: Mapping[str, Model] = MappingProxyType({}),
) -> None:
    """Run the flows of many leaves at once and `save` each as soon as it is done; each job is read when it begins.

    Raises the first ModelError that concerns more than a row, TaxonomyError when a leaf cannot be read, and whatever
    `save` raises; then the other flows are cancelled.
    """
    pulse = _Pulse(task, teacher, judge)
    places = asyncio.Semaphore(2 * teacher.most)

    async def make(read: Callable[[], Job]) -> None:
        try:
            job = read()
            run = LeafRun(job.leaf, job.recipe, job.source, teacher, judge, Tally(), pulse.told, job.seed, others)
            save(_made(job, await run_flow(run, job.chunks), run.tally))
        finally:
            places.release()

    async with together() as group:
        for read in jobs:
            await places.acquire()
            await teacher.room()
            group.create_task(make(read))
    pulse.end()


class _Pulse:
    """What the progress line says while answers come in."""

    _EVERY_S = 0.5

    def __init__(self, task: Task, teacher: Gateway, judge: Gateway) -> None:
        self._task, self._gateways = task, list(dict.fromkeys([teacher, judge]))
        self._outcomes: Counter[str] = Counter()
        self._began = self._noted = time.monotonic()

    def told(self, outcome: str) -> None:
        """An answer was used (""), or something became `accepted`, `rejected` or `failed`."""
        if outcome:
            self._outcomes[outcome] += 1
        else:
            self._task.advance()
        if (now := time.monotonic()) - self._noted >= self._EVERY_S:
            self._noted = now
            tokens = sum(gateway.stats.completion_tokens for gateway in self._gateways) / (now - self._began)
            in_flight = sum(gateway.wire.in_flight for gateway in self._gateways)
            self._say(f"{in_flight} in flight", f"{tokens:,.0f} tokens/s")

    def end(self) -> None:
        """All leaves are done."""
        self._say()

    def _say(self, *speed: str) -> None:
        parts = [f"{number} {name}" for name, number in sorted(self._outcomes.items())]
        cost = self._gateways[0].wire.budget.cost
        self._task.note(", ".join([*parts, *speed, *([f"{cost:,.2f} spent"] if cost else [])]))


async def run_flow(run: LeafRun, chunks: Sequence[Chunk]) -> list[Outcome]:
    """What is made of a leaf: tests first, for no sample may repeat them; the samples; then pairs about those."""
    recipe, settings = run.recipe, run.recipe.settings
    tested = await tests(run, recipe.tests, chunks) if recipe.tests else []
    run = run.holding_out([question for question in tested if isinstance(question, Question)])
    made = await (
        knowledge(run, settings, chunks) if isinstance(settings, KnowledgeSettings) else skills(run, settings)
    )
    samples = [sample for sample in made if isinstance(sample, Sample)]
    paired = await preferences(run, recipe.preferences, samples, chunks) if recipe.preferences else []
    return [*tested, *made, *paired]


_KINDS: tuple[str, ...] = get_args(Kind)


def _made(job: Job, outcomes: Sequence[Outcome], tally: Tally) -> Made:
    """Outcomes by kind, each kind in the flow's order; of what asks the same, the first stays."""
    samples = sorted((o for o in outcomes if isinstance(o, Sample)), key=lambda sample: _KINDS.index(sample.kind))
    kept, duplicates = without_duplicates(samples, job.recipe.settings.near_duplicate)
    rejects = [*(o for o in outcomes if isinstance(o, Reject)), *duplicates]
    rejects.sort(key=lambda reject: _KINDS.index(reject.sample.kind))
    return Made(
        job,
        kept,
        [o for o in outcomes if isinstance(o, Preference)],
        [o for o in outcomes if isinstance(o, Question)],
        rejects,
        [o for o in outcomes if isinstance(o, Failure)],
        tally,
    )
