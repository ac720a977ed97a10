"""What a run would ask and cost, told before it: nothing is sent.

How many answers a leaf takes is guessed from its recipe, and learned from what other leaves took. What the ledger has
of them is found by running the leaf's flow over it, where every answer that is not there ends its row. Tokens, money
and time follow from the answers that this ledger has of the same models.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..core.config import Config, ModelServer
from ..core.progress import SilentProgress
from ..llm.ask import Gateway
from ..llm.endpoint import at_once, identity
from ..llm.ledger import Ledger
from ..llm.ledger_report import usage
from ..llm.loop import run_to_end
from ..llm.turns import Turns
from .engine import Job, run_flow
from .flow import LeafRun, Tally
from .flows import knowledge, preferences, skills, tests
from .others import STUDENT_STEPS, Students, other_models
from .settings import KnowledgeSettings
from .store import read_manifest

_TYPICAL_PROMPT, _TYPICAL_COMPLETION = 150, 30
"""Tokens of a request where the ledger tells none: the averages of the demo."""
_MOST_LEAVES = 50
"""Of one recipe, to learn from."""
_ENOUGH_ANSWERS = 50
"""From which on time is told: the first answers of a run are of its first, longest step."""


@dataclass(frozen=True)
class Forecast:
    """What the making of a leaf asks. All of it is about so."""

    leaf: str
    calls: int
    """To servers: the student's answers cost nothing."""
    cached: int
    """Those of them that the ledger has the answer to."""
    prompt_tokens: int
    """Of the others."""
    completion_tokens: int
    cost: float
    seconds: float | None
    """None where there are too few answers of this model to tell how long one takes."""


def guess(job: Job, *, judged: bool = True) -> int:
    """About how many answers of servers a leaf takes, cached ones included, if little is dropped.

    Without `judged` those of the judge do not count.
    """
    recipe, settings = job.recipe, job.recipe.settings
    tested = tests.estimate(recipe.tests, job.chunks, judged=judged) if recipe.tests else 0
    lent = {"knowledge_short", "knowledge_long"} if job.leaf.kind == "knowledge" else {job.leaf.kind}
    pairs = recipe.preferences if recipe.preferences and lent.intersection(recipe.preferences.kinds) else None
    paired = preferences.estimate(pairs, judged=judged) if pairs else 0
    if isinstance(settings, KnowledgeSettings):
        return tested + paired + knowledge.estimate(settings, job.chunks, job.leaf, judged=judged)
    return paired + skills.estimate(settings, job.leaf, judged=judged)


def learned(complete: Iterable[Path]) -> float:
    """How many answers leaves took for each that was guessed; of complete folders of the store, made by one recipe.

    What a teacher writes decides how much the filters drop, so a guess may be several times too high.
    """
    guessed = took = 0
    for manifest in map(read_manifest, islice(complete, _MOST_LEAVES)):
        if manifest.requests.guessed:
            guessed += manifest.requests.guessed
            took += sum(use.asked for step, use in manifest.steps.items() if step not in STUDENT_STEPS)
    return took / guessed if guessed else 1.0


def forecast(
    jobs: Iterable[tuple[Callable[[], Job], int]],
    config: Config,
    ledger_path: Path,
    students: Students | None,
) -> list[Forecast]:
    """The forecast of each job, given with the number of answers that it will take. Raises as reading the jobs does."""
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(Ledger(ledger_path, reading=True)) if ledger_path.is_file() else None
        typical = [_Typical.of(ledger, server) for server in (config.teacher, config.judge or config.teacher)]
        return [
            _forecast(job, max(calls, cached), cached, *typical)
            for read, calls in jobs
            for job in [read()]
            for cached in [run_to_end(_cached(job, config, ledger, students)) if ledger else 0]
        ]


@dataclass(frozen=True)
class _Typical:
    """One answer of a server, on average."""

    server: ModelServer
    prompt_tokens: float
    completion_tokens: float
    seconds: float | None

    @classmethod
    def of(cls, ledger: Ledger | None, server: ModelServer) -> _Typical:
        uses = [use for use in usage(ledger) if use.model == identity(server)] if ledger else []
        if not uses:
            return cls(server, _TYPICAL_PROMPT, _TYPICAL_COMPLETION, None)
        count = sum(use.requests for use in uses)
        return cls(
            server,
            sum(use.prompt_tokens for use in uses) / count,
            sum(use.completion_tokens for use in uses) / count,
            sum(use.seconds for use in uses) / count if count >= _ENOUGH_ANSWERS else None,
        )


def _forecast(job: Job, calls: int, cached: int, teacher: _Typical, judge: _Typical) -> Forecast:
    left, guessed = calls - cached, guess(job)
    written = guess(job, judged=False) / guessed if guessed else 1.0
    parts = ((teacher, left * written), (judge, left * (1 - written)))
    prompts = [int(each.prompt_tokens * count) for each, count in parts]
    completions = [int(each.completion_tokens * count) for each, count in parts]
    costs = [each.server.prices.of(*tokens) for (each, _), *tokens in zip(parts, prompts, completions, strict=True)]
    return Forecast(job.leaf.id, calls, cached, sum(prompts), sum(completions), sum(costs), _seconds(parts))


def _seconds(parts: Iterable[tuple[_Typical, float]]) -> float | None:
    """One server after the other, at worst; None where one of them has answered too little."""
    total = 0.0
    for each, count in parts:
        if count and each.seconds is None:
            return None
        total += count * (each.seconds or 0) / min(at_once(each.server), max(count, 1))
    return total


async def _cached(job: Job, config: Config, ledger: Ledger, students: Students | None) -> int:
    """How many answers of servers the ledger has for a leaf."""
    progress, gateways = SilentProgress(), list[Gateway]()

    def gateway(server: ModelServer, role: str = "teacher") -> Gateway:
        gateways.append(Gateway(server, ledger, progress, seed=config.seed, role=role, from_ledger_only=True))
        return gateways[-1]

    async with contextlib.AsyncExitStack() as stack:
        teacher, judge = [
            await stack.enter_async_context(gateway(server))
            for server in (config.teacher, config.judge or config.teacher)
        ]
        asked = {use.model for use in usage(ledger, leaf=job.leaf.id)} - {teacher.name, judge.name}
        opened = other_models([job.recipe], students, gateway, ledger, progress, Turns(), from_ledger_only=True)
        # Who never answered is not looked for: a student may have to be fetched before it has a name.
        others = await stack.enter_async_context(opened) if asked and students else {}
        run = LeafRun(job.leaf, job.recipe, job.source, teacher, judge, Tally(), lambda _: None, job.seed, others)
        await run_flow(run, job.chunks)
        return sum(gateway.stats.cached for gateway in gateways)
