"""What a run would ask and cost, told before it: nothing is sent.

How many answers a leaf takes is estimated from its recipe. What the ledger has of them is found by running the leaf's
flow over it, where every answer that is not there ends its row. Tokens, money and time follow from the answers that
this ledger has of the same models.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..core.config import Config, ModelServer
from ..core.progress import SilentProgress
from ..llm.ask import Gateway
from ..llm.endpoint import identity
from ..llm.ledger import Ledger
from .engine import Job, run_flow
from .flow import LeafRun, Tally

_TYPICAL_PROMPT, _TYPICAL_COMPLETION = 150, 30
"""Tokens of a request where the ledger tells none: the averages of the demo."""


@dataclass(frozen=True)
class Forecast:
    """What the making of a leaf asks. All of it is about so."""

    leaf: str
    calls: int
    cached: int
    """Those of them that the ledger has the answer to."""
    prompt_tokens: int
    """Of the others."""
    completion_tokens: int
    cost: float
    seconds: float | None
    """None where no answer of this model tells how long one takes."""


def forecast(jobs: Iterable[tuple[Callable[[], Job], int]], config: Config, ledger_path: Path) -> list[Forecast]:
    """The forecast of each job, given with the estimate of its answers. Raises as reading the jobs does."""
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(Ledger(ledger_path)) if ledger_path.is_file() else None
        typical = _Typical.of(ledger, config.teacher)
        return [
            _forecast(job.leaf.id, max(calls, cached), cached, typical, config.teacher)
            for read, calls in jobs
            for job in [read()]
            for cached in [asyncio.run(_cached(job, config, ledger)) if ledger else 0]
        ]


@dataclass(frozen=True)
class _Typical:
    """One answer of the teacher, on average."""

    prompt_tokens: float
    completion_tokens: float
    seconds: float | None

    @classmethod
    def of(cls, ledger: Ledger | None, server: ModelServer) -> _Typical:
        uses = [use for use in ledger.usage() if use.model == identity(server)] if ledger else []
        if not uses:
            return cls(_TYPICAL_PROMPT, _TYPICAL_COMPLETION, None)
        count = sum(use.requests for use in uses)
        return cls(
            sum(use.prompt_tokens for use in uses) / count,
            sum(use.completion_tokens for use in uses) / count,
            sum(use.seconds for use in uses) / count,
        )


def _forecast(leaf: str, calls: int, cached: int, typical: _Typical, server: ModelServer) -> Forecast:
    left = calls - cached
    prompt, completion = int(left * typical.prompt_tokens), int(left * typical.completion_tokens)
    at_once = server.concurrency * max(1, len(server.base_url))
    seconds = None if typical.seconds is None else left * typical.seconds / min(at_once, max(left, 1))
    return Forecast(leaf, calls, cached, prompt, completion, server.prices.of(prompt, completion), seconds)


async def _cached(job: Job, config: Config, ledger: Ledger) -> int:
    """How many answers of a leaf the ledger has."""
    async with contextlib.AsyncExitStack() as stack:
        teacher, judge = [
            await stack.enter_async_context(
                Gateway(server, ledger, SilentProgress(), seed=config.seed, from_ledger_only=True)
            )
            for server in (config.teacher, config.judge or config.teacher)
        ]
        run = LeafRun(job.leaf, job.recipe, job.source, teacher, judge, Tally(), lambda _: None, job.seed)
        await run_flow(run, job.chunks)
        return teacher.stats.cached + judge.stats.cached
