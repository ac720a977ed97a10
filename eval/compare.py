"""Two models compared on the same questions, leaf by leaf: what was learned, what was forgotten, what is not known.

"Learned" and "forgotten" are said only when the paired test says so: exact McNemar per leaf, Holm over the leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..core.rate import Rate
from ..core.records import Record
from .evaluation import Evaluation
from .statistics import holm, mcnemar

Finding = Literal["learned", "forgotten", "no change shown", "not measured"]


class Comparison(Record):
    """One leaf, before and after."""

    leaf: str
    before: Rate
    after: Rate
    gained: tuple[str, ...]
    """Ids of the questions that only the later model answers rightly."""
    lost: tuple[str, ...]
    """Ids of the questions that only the earlier model answers rightly."""
    p_value: float
    """Exact McNemar, two-sided, adjusted by Holm for the leaves compared with it; 1 where nothing was measured."""
    verdict: Finding

    @property
    def numbers(self) -> str:
        """Both scores and the test between them, in words."""
        flips = f"{len(self.gained)} gained, {len(self.lost)} lost, {_p(self.p_value)}"
        return f"{_of(self.after)} right, {_of(self.before)} before ({flips})"

    @property
    def sentence(self) -> str:
        """The finding with its numbers, as the report and the gate say it."""
        said = "it has no held-out questions" if self.verdict == "not measured" else self.numbers
        return f"{self.leaf}: {self.verdict}, {said}"


def compare(
    evaluation: Evaluation, before: str, after: str, leaves: Sequence[str], *, significance: float
) -> tuple[Comparison, ...]:
    """Compare the models named `before` and `after` on each of `leaves`, in that order.

    `significance` is the chance of even one false "learned" or "forgotten" among them. A leaf without questions is
    there as "not measured". Raises DataError when a model was not evaluated.
    """
    flips = {leaf: _flips(evaluation, before, after, leaf) for leaf in evaluation.leaves if leaf in leaves}
    adjusted = holm([mcnemar(len(gained), len(lost)) for gained, lost in flips.values()])
    p_values = dict(zip(flips, adjusted, strict=True))
    comparisons: list[Comparison] = []
    for leaf in leaves:
        gained, lost = flips.get(leaf, ((), ()))
        p_value = p_values.get(leaf, 1.0)
        shown: Finding = "learned" if len(gained) > len(lost) else "forgotten"
        comparisons.append(
            Comparison(
                leaf=leaf,
                before=evaluation.rate(before, leaf),
                after=evaluation.rate(after, leaf),
                gained=gained,
                lost=lost,
                p_value=p_value,
                verdict="not measured"
                if leaf not in flips
                else shown
                if p_value <= significance
                else "no change shown",
            )
        )
    return tuple(comparisons)


def _flips(evaluation: Evaluation, before: str, after: str, leaf: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    old, new = evaluation.answers_of(before), evaluation.answers_of(after)
    ids = [question.id for question in evaluation.of_leaf(leaf)]
    gained = tuple(id_ for id_ in ids if new[id_].correct and not old[id_].correct)
    lost = tuple(id_ for id_ in ids if old[id_].correct and not new[id_].correct)
    return gained, lost


def _of(rate: Rate) -> str:
    return f"{rate.correct} of {rate.total}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
