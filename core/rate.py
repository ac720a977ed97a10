"""A share of counted things, with its interval: a score without one is not shown.

In pure Python, checked against scipy in the tests: the gate runs on a machine without numpy.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from .records import Record


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
