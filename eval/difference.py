"""By how much two models differ on the same questions, with the interval of it: what the gate holds to its margins.

In pure Python, checked against independent numerics in the tests: the gate runs on a machine without numpy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist

from ..core.records import Record
from .clusters import HALVINGS, mean_interval


class Difference(Record):
    """The share of questions that only the later model answers rightly, less the share that only the earlier does."""

    gained: int
    lost: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The observed difference, -1 to 1; 0 where nothing was asked."""
        return (self.gained - self.lost) / self.total if self.total else 0.0


@functools.lru_cache  # ten thousand leaves have few counts among them
def paired_difference(gained: int, lost: int, total: int, *, level: float = 0.95) -> Difference:
    """The difference with its score interval (Tango 1998, Statistics in Medicine 17:891-908).

    `gained` of the `total` questions only the later model answers rightly, `lost` only the earlier. `level` is
    two-sided: the low end alone is a bound at (1 + level) / 2. Nothing asked gives the interval -1 to 1.
    """
    if min(gained, lost) < 0 or gained + lost > total:
        raise ValueError(f"{gained} gained and {lost} lost of {total}")
    z = _z(level)
    low, high = -_upper_end(lost, gained, total, z), _upper_end(gained, lost, total, z)
    return Difference(gained=gained, lost=lost, total=total, low=low, high=high)


def questions_needed(difference: Difference, *, margin: float, level: float) -> int | None:
    """How many more questions would lift the low end at `level` above `margin`, if the shares stayed as observed.

    0 where it lies above it already; None where the observed difference does not: no number of questions would show
    it. Before any question was asked the shares count as none gained, none lost.

    Only the standard error of the score statistic depends on the number of questions, so the number is known at once.
    """
    if difference.value <= margin:
        return None
    total = max(1, difference.total)
    variance = _variance(difference.gained / total, difference.lost / total, margin)
    enough = math.floor(_z(level) ** 2 * variance / (difference.value - margin) ** 2) + 1
    return max(0, enough - difference.total)


def clustered_interval(
    clusters: Sequence[Sequence[int]], *, level: float = 0.95, seed: int, draws: int = 2_000
) -> tuple[float, float]:
    """The interval of the mean of per-question differences (-1, 0 or 1) that come in clusters.

    The wider end, on each side, of the bootstrap over whole clusters (`clusters.mean_interval`) and of the score
    interval that takes the questions as independent: where no question flips the bootstrap alone would claim to be
    certain. One cluster says nothing about others: -1 to 1.
    """
    filled = [cluster for cluster in clusters if cluster]
    if len(filled) < 2:
        return -1.0, 1.0
    values = [value for cluster in filled for value in cluster]
    alone = paired_difference(values.count(1), values.count(-1), len(values), level=level)
    low, high = mean_interval(filled, level=level, seed=seed, draws=draws)
    return max(-1.0, min(low, alone.low)), min(1.0, max(high, alone.high))


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def _upper_end(gained: int, lost: int, total: int, z: float) -> float:
    """The largest difference that the score test does not refuse."""
    if gained == total:
        return 1.0
    observed = (gained - lost) / total
    inside, outside = observed, 1.0
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        variance = _variance(gained / total, lost / total, middle)
        if total * (middle - observed) ** 2 <= z * z * variance:
            inside = middle
        else:
            outside = middle
    return inside


def _variance(gained: float, lost: float, difference: float) -> float:
    """The variance of one question's difference at its most likely, were `difference` true.

    It is the share of questions that flip less the square of the difference. The most likely share is the larger root
    of Tango's quadratic equation, here for the sum of the two shares: that is symmetric in them, and its discriminant
    is a sum of squares, so nothing cancels.
    """
    flips, observed = gained + lost, gained - lost
    root = math.hypot(
        observed - (2 - flips) * difference, 2 * math.sqrt(gained * lost * (1 - difference) * (1 + difference))
    )
    return (flips + observed * difference + root) / 2 - difference * difference
