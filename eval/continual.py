"""What a student gains and keeps over many cycles: the accuracy on every leaf after every cycle, and five means of it.

R[k, i] is the accuracy on leaf i after cycle k. A leaf that a model was not asked about (it did not exist yet, or was
removed) is missing in that model's row, or None; a mean is over the leaves that have its numbers, and says which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

from ..core.rate import Rate, wilson
from ..core.records import Record
from .clusters import mean_interval


class Row(Record):
    """One model's accuracy on every leaf."""

    name: str
    first_trained: tuple[str, ...] = ()
    """The leaves that no earlier model was trained on."""
    rates: Mapping[str, Rate | None]

    def rate(self, task: str) -> Rate | None:
        """The accuracy on `task`; None where nothing was asked."""
        rate = self.rates.get(task)
        return rate if rate and rate.total else None


class Matrix(Record):
    """The base model, and the models after each cycle in their order."""

    base: Row
    rows: tuple[Row, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The leaves that were trained, in the order in which they were first."""
        return tuple(task for row in self.rows for task in row.first_trained)


class Estimate(Record):
    """A mean over leaves, each counting the same, with its interval and what it is computed from.

    The interval is the wider, on each side, of two: what other leaves would give (the bootstrap over leaves) and what
    other questions about these leaves would give. Over one leaf it is all that is possible: one leaf does not tell how
    leaves differ. Neither says what another training run would give.
    """

    value: float
    low: float
    high: float
    terms: Mapping[str, float]
    """Leaf -> its value."""


class Summary(Record):
    """What the matrix comes to. None: no leaf has the numbers that the mean is computed from."""

    average_accuracy: Estimate | None
    """Of R[last, i]: ACC of Lopez-Paz & Ranzato 2017, "Gradient Episodic Memory for Continual Learning"."""
    learning_accuracy: Estimate | None
    """Of R[i, i], right after the cycle that first trained the leaf (LA of Riemer et al. 2019, "Learning to Learn
    without Forgetting by Maximizing Transfer and Minimizing Interference")."""
    backward_transfer: Estimate | None
    """Of R[last, i] - R[i, i], over leaves first trained before the last cycle; below 0: forgotten (BWT, "Gradient
    Episodic Memory")."""
    forward_transfer: Estimate | None
    """Of R[i - 1, i] - base[i], over leaves first trained after the first cycle: what earlier cycles taught about a
    leaf before its own (FWT, ibid., with the base model in place of one that was not trained at all)."""
    forgetting: Estimate | None
    """Of the highest of all earlier R[k, i], less R[last, i], over leaves first trained before the last cycle
    (Chaudhry et al. 2018, "Riemannian Walk for Incremental Learning"). The highest of several noisy numbers: with
    nothing forgotten it is above 0 on average, and the more so the more cycles and the fewer questions there are."""


def summarise(matrix: Matrix, *, seed: int, level: float = 0.95) -> Summary:
    """The five means with their intervals at `level`."""

    def estimate(terms: _Terms, lowest: float) -> Estimate | None:
        return _estimate(terms, lowest=lowest, seed=seed, level=level)

    return Summary(
        average_accuracy=estimate(_last(matrix), 0.0),
        learning_accuracy=estimate(_learned(matrix), 0.0),
        backward_transfer=estimate(_kept(matrix), -1.0),
        forward_transfer=estimate(_foreseen(matrix), -1.0),
        forgetting=estimate(_forgotten(matrix), -1.0),
    )


_Terms = Mapping[str, tuple[Rate | None, ...]]
"""Leaf -> its accuracy, or two of which the second is subtracted from the first."""


def _last(matrix: Matrix) -> _Terms:
    return {task: (matrix.rows[-1].rate(task),) for task in matrix.tasks}


def _learned(matrix: Matrix) -> _Terms:
    return {task: (row.rate(task),) for row in matrix.rows for task in row.first_trained}


def _kept(matrix: Matrix) -> _Terms:
    return {
        task: (matrix.rows[-1].rate(task), row.rate(task)) for row in matrix.rows[:-1] for task in row.first_trained
    }


def _foreseen(matrix: Matrix) -> _Terms:
    return {
        task: (before.rate(task), matrix.base.rate(task))
        for before, row in zip(matrix.rows, matrix.rows[1:], strict=False)
        for task in row.first_trained
    }


def _forgotten(matrix: Matrix) -> _Terms:
    return {
        task: (_highest(matrix, task), matrix.rows[-1].rate(task))
        for row in matrix.rows[:-1]
        for task in row.first_trained
    }


def _highest(matrix: Matrix, task: str) -> Rate | None:
    earlier = [rate for row in matrix.rows[:-1] if (rate := row.rate(task))]
    return max(earlier, key=lambda rate: rate.value, default=None)


def _estimate(terms: _Terms, *, lowest: float, seed: int, level: float) -> Estimate | None:
    measured = {task: known for task, rates in terms.items() if len(known := [r for r in rates if r]) == len(rates)}
    if not measured:
        return None
    values = {task: rates[0].value - sum(rate.value for rate in rates[1:]) for task, rates in measured.items()}
    mean = fmean(values.values())
    over_leaves = mean_interval([[value] for value in values.values()], level=level, seed=seed)
    below, above = zip(*(_reach(rates, level) for rates in measured.values()), strict=True)
    low = min(over_leaves[0], mean - math.hypot(*below) / len(values))
    high = max(over_leaves[1], mean + math.hypot(*above) / len(values))
    return Estimate(value=mean, low=max(lowest, low), high=min(1.0, high), terms=values)


def _reach(rates: list[Rate], level: float) -> tuple[float, float]:
    """How far the interval of one leaf's value reaches below and above it.

    The Wilson intervals of its rates, put together by squares (Newcombe 1998, Statistics in Medicine 17:873-890; Zou &
    Donner 2008, Statistics in Medicine 27:1693-1702), as if the two rates were of different questions: of the same
    questions they go up and down together, so it reaches rather too far than not far enough.
    """
    ends = [wilson(rate.correct, rate.total, level=level) for rate in rates]
    below = [rate.value - rate.low for rate in ends]
    above = [rate.high - rate.value for rate in ends]
    return math.hypot(below[0], *above[1:]), math.hypot(above[0], *below[1:])
