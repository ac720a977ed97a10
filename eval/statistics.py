"""Tests for counts of right answers: exact where that is cheap, in pure Python.

Checked against scipy in the tests. No torch, no numpy: the gate runs on a machine without either.
"""

from __future__ import annotations

from collections.abc import Sequence


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value of two models on the same questions (McNemar 1947, Psychometrika 12:153-157).

    `gained` questions only the second model answers rightly, `lost` only the first. Without a difference each of them
    falls on either side like a fair coin, so this is a binomial test of 1/2; the questions on which both models agree
    say nothing.
    """
    flips = gained + lost
    tail = ways = 1  # to choose `count` of the flips, each from the last: of thousands, they have thousands of digits
    for count in range(min(gained, lost)):
        ways = ways * (flips - count) // (count + 1)
        tail += ways
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
