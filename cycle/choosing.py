"""The held-out questions that choose between a phase's epochs, where the plan selects by them.

They choose, so they cannot judge: the epoch that is best at a question is flattered by that question. Generated ones
only, never those that people wrote, and half of them: always the same half, for a release that they chose is judged
again as the parent of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..core.fingerprint import fingerprint
from ..core.progress import SilentProgress
from ..core.records import Question
from ..eval.run import evaluate
from ..train.plan import Plan
from .models import answering
from .open_cycle import OpenCycle


def set_apart(cycle: OpenCycle, plan: Plan) -> OpenCycle:
    """The cycle with half of its generated questions moved to those that choose, if a phase of the plan asks for it."""
    choosing = choosers(cycle.tests, plan)
    ids = {test.id for test in choosing}
    return replace(cycle, choosing=choosing, tests=tuple(test for test in cycle.tests if test.id not in ids))


def choosers(tests: Sequence[Question], plan: Plan) -> tuple[Question, ...]:
    """Those of generated questions that choose; none where no phase of the plan asks for it."""
    if all(phase.select.by != "held_out" for phase in plan.phases):
        return ()
    return tuple(test for test in tests if int(fingerprint(test.id), 16) % 2)


def right_answers(cycle: OpenCycle) -> Callable[[Path], int] | None:
    """How many of the questions that choose the model in a folder answers rightly; None where there are none."""
    if not cycle.choosing:
        return None
    workspace = cycle.workspace

    def count(folder: Path) -> int:
        evaluation = evaluate({"epoch": folder}, cycle.choosing, answering(workspace, SilentProgress()))
        return sum(answer.correct for answer in evaluation.answers_of("epoch").values())

    return count
