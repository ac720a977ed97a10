"""Intervals and tests for counts of right answers: exact where that is cheap, in pure Python.

Checked against scipy in the tests. No torch, no numpy: the gate runs on a machine without either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from ..core.records import Record


class Rate(Record):
    """`correct` of `total`, with a Wilson interval."""

    correct: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share of right answers, 0 to 1; 0 where nothing was asked."""
        return self.correct / self.total if self.total else 0.0


def wilson(correct: int, total: int, *, level: float = 0.95) -> Rate:
    """The rate with its score interval without continuity correction (Wilson 1927, JASA 22:209-212).

    Unlike the normal approximation it holds its level for few questions and for rates near 0 and 1. Nothing asked
    gives the interval 0 to 1.
    """
    if not 0 <= correct <= total:
        raise ValueError(f"{correct} correct of {total}")
    if total == 0:
        return Rate(correct=0, total=0, low=0.0, high=1.0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = correct / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low = 0.0 if correct == 0 else (centre - spread) / scale
    high = 1.0 if correct == total else (centre + spread) / scale
    return Rate(correct=correct, total=total, low=low, high=high)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value of two models on the same questions (McNemar 1947, Psychometrika 12:153-157).

    `gained` questions only the second model answers rightly, `lost` only the first. Without a difference each of them
    falls on either side like a fair coin, so this is a binomial test of 1/2; the questions on which both models agree
    say nothing.
    """
    flips = gained + lost
    tail = sum(math.comb(flips, count) for count in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**flips)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given (Holm 1979, Scandinavian Journal of Statistics 6:65-70).

    Calling a result shown where its adjusted value is at most alpha keeps the chance of even one false call among all
    of them at alpha, whatever their dependence.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, highest)
    return adjusted
