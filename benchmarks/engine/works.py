"""The works that tilth and its peers do alike: in turn, once a round, so that what else the machine does hits all."""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .clients.work import Job
from .engines import Engine, Outcome, run
from .teacher import POISON, Settings, Stats, Teacher

Figures = dict[str, Any]
Measured = dict[str, Figures]
"""Engine -> its figures."""


def one_step(teacher: Teacher, engines: Sequence[Engine], num_rounds: int, scale: float) -> Measured:
    job = Job("rows", _scaled(2000, scale), 256)

    def figures(outcome: Outcome) -> Figures:
        requests = outcome.stats.requests
        return {
            "requests_per_s": requests / outcome.seconds,
            "requests_per_s_on_the_wire": requests / outcome.stats.span_s,
            "cpu_ms_per_request": outcome.cpu_s * 1e3 / requests,
            "most_in_flight": outcome.stats.most_in_flight,
        }

    return in_turn(engines, num_rounds, lambda engine: run(engine, teacher, job, Settings(latency_s=0.05)), figures)


def three_steps(teacher: Teacher, engines: Sequence[Engine], num_rounds: int, scale: float) -> Measured:
    job = Job("steps", _scaled(256, scale), 64)

    def figures(outcome: Outcome) -> Figures:
        return {**in_flight(outcome.stats, 64), "seconds": outcome.seconds, "rows": outcome.rows}

    return in_turn(engines, num_rounds, lambda engine: run(engine, teacher, job, THREE_STEPS), figures)


THREE_STEPS = Settings(latency_s=1.0, sigma=0.5)


def in_flight(stats: Stats, cap: int) -> Figures:
    """Mean requests in flight against the cap: in the middle of the run, and from first request to last answer."""
    return {
        "in_flight_in_the_middle": stats.mean_working_in_the_middle / cap,
        "in_flight_over_all": stats.mean_working / cap,
        "most_in_flight": stats.most_in_flight,
        "requests": stats.requests,
    }


def admits_16(teacher: Teacher, engines: Sequence[Engine], num_rounds: int, scale: float) -> Measured:
    return _limited(teacher, engines, num_rounds, scale, Settings(latency_s=0.3, admits=16))


def queues_beyond_16(teacher: Teacher, engines: Sequence[Engine], num_rounds: int, scale: float) -> Measured:
    return _limited(teacher, engines, num_rounds, scale, Settings(latency_s=0.3, works_on=16))


def _limited(
    teacher: Teacher, engines: Sequence[Engine], num_rounds: int, scale: float, settings: Settings
) -> Measured:
    job = Job("rows", _scaled(1500, scale), 64)

    def figures(outcome: Outcome) -> Figures:
        stats = outcome.stats
        return {
            "used": stats.mean_working / 16,
            "used_in_the_middle": stats.mean_working_in_the_middle / 16,
            "rejected": stats.rejected / stats.requests,
            "mean_waiting": stats.mean_in_flight - stats.mean_working,
            "seconds": outcome.seconds,
            "rows": outcome.rows,
        }

    return in_turn(engines, num_rounds, lambda engine: run(engine, teacher, job, settings), figures)


def refused_row(teacher: Teacher, engines: Sequence[Engine]) -> Measured:
    job = Job("rows", 100, 32, poison=50, poison_word=POISON)

    def figures(outcome: Outcome) -> Figures:
        return {"rows": outcome.rows, "attempts": outcome.stats.refused, "seconds": outcome.seconds}

    return in_turn(engines, 1, lambda engine: run(engine, teacher, job, Settings(latency_s=0.05)), figures)


def killed(teacher: Teacher, engines: Sequence[Engine], num_kills: int) -> Measured:
    """SIGKILL when the teacher has seen a certain number of 600 requests, the same for all; then once more to the end.

    What was paid is all that was asked, so an engine that hangs when it is to go on has paid less than is needed.
    """
    draw, settings = random.Random(0), Settings(latency_s=0.1)  # noqa: S311
    moments = [draw.randrange(60, 540) for _ in range(num_kills)]

    def one(engine: Engine, moment: int) -> Figures:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as state:
            job = Job("rows", 600, 64, kept=True, state=state)
            first = run(engine, teacher, job, settings, until=lambda stats: stats.requests >= moment)
            second = run(engine, teacher, job, settings, timeout_s=60)
        paid = first.stats.requests + second.stats.requests
        return {"paid_by_needed": paid / 600, "rows": second.rows, "error": second.error}

    return {engine.name: _summary([one(engine, moment) for moment in moments]) for engine in engines}


def again(teacher: Teacher, engines: Sequence[Engine]) -> Measured:
    """A finished job of 1,000 rows once more, and then with one row changed."""
    return {engine.name: _again(teacher, engine) for engine in engines}


def _again(teacher: Teacher, engine: Engine) -> Figures:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as state:
        job, settings = Job("rows", 1000, 64, kept=True, state=state), Settings(latency_s=0.01)
        first = run(engine, teacher, job, settings)
        if first.error:
            return {"error": first.error}
        same = run(engine, teacher, job, settings, timeout_s=60)
        changed = run(engine, teacher, replace(job, changed=500), settings, timeout_s=60)
    return {
        "requests_of_the_same": same.stats.requests,
        "requests_with_one_changed": changed.stats.requests,
        **({"error": error} if (error := same.error or changed.error) else {}),
    }


def in_turn(
    engines: Sequence[Engine],
    num_rounds: int,
    measure: Callable[[Engine], Outcome],
    figures: Callable[[Outcome], Figures],
) -> Measured:
    """Measure every engine once a round, in another order each time; medians and ranges of what did not fail."""
    rounds: dict[str, list[Figures]] = {engine.name: [] for engine in engines}
    for number in range(num_rounds):
        first = number % len(engines)
        for engine in [*engines[first:], *engines[:first]]:
            outcome = measure(engine)
            there = {} if outcome.error else figures(outcome)
            rounds[engine.name].append({**there, "error": outcome.error})
            print(f"  {engine.name}: {_shown(rounds[engine.name][-1])}", flush=True)
    return {name: _summary(each) for name, each in rounds.items()}


def _summary(rounds: Sequence[Figures]) -> Figures:
    """Medians, with their ranges where there are several; errors, if any."""
    names = dict.fromkeys(name for each in rounds for name in each if name != "error")
    values = {name: [each[name] for each in rounds if name in each] for name in names}
    summary: Figures = {name: shortened(statistics.median(each)) for name, each in values.items()}
    if len(rounds) > 1:
        summary["range"] = {name: [shortened(min(each)), shortened(max(each))] for name, each in values.items()}
    if errors := [each["error"] for each in rounds if each["error"]]:
        summary["errors"] = errors
    return summary


def shortened(number: float) -> float:
    """To four digits, which is more than is certain."""
    return float(f"{number:.4g}") if isinstance(number, float) else number


def _shown(figures: Figures) -> str:
    return ", ".join(f"{name} {shortened(value)}" for name, value in figures.items() if value != "")


def _scaled(number: int, scale: float) -> int:
    return max(1, round(number * scale))
