"""How long a phase's rows are, and what becomes of those that are too long: never in silence (DESIGN, section 7)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from ..core.errors import CheckFailed
from ..core.records import Record
from .masking import IGNORED, Tokens
from .methods.row import Row
from .packing import DocumentTokens

if TYPE_CHECKING:
    from .auto import Resolved


ARow = TypeVar("ARow", bound=Row)


class Lengths(Record):
    """Tokens of a phase's rows before any is dropped or cut: half of them have at most `p50`, nine tenths `p90`."""

    p50: int = 0
    p90: int = 0
    p95: int = 0
    p99: int = 0
    longest: int = 0


def length_profile(lengths: Sequence[int]) -> Lengths:
    """Percentiles by nearest rank: each is the length of some row."""
    ranked = sorted(lengths)

    def percentile(percent: int) -> int:
        return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]

    return Lengths(p50=percentile(50), p90=percentile(90), p95=percentile(95), p99=percentile(99), longest=ranked[-1])


def longest_rows(rows: Sequence[ARow], count: int) -> list[ARow]:
    """The `count` longest, or all."""
    return sorted(rows, key=lambda row: -row.length)[:count]


def trained_places(rows: Sequence[Row]) -> int:
    """At how many positions some of the rows is trained: as one batch, those go through the output head."""
    places: set[int] = set()
    for row in rows:
        whole = range(row.length)
        places |= (
            {n for n, label in enumerate(row.labels) if label != IGNORED} if isinstance(row, Tokens) else set(whole)
        )
    return len(places)


def fitted(rows: Sequence[Row], phase: Resolved, context: int) -> list[Row | None]:
    """Each row as the phase trains it: cut where it is too long and the plan says so; None: it is dropped.

    A row is cut at its end, so that an answer that was cut has no end-of-turn token to be trained. One whose answer is
    cut off as a whole is dropped. A document is split (`packing`).
    """
    limit = longest_allowed(phase, context)
    return [row if row.length <= limit or isinstance(row, DocumentTokens) else _cut(row, phase, limit) for row in rows]


def longest_allowed(phase: Resolved, context: int) -> int:
    """The most tokens of a row: the phase's `max_length`, or what the model holds."""
    return min(phase.max_length, context)


def check_lost(rows: Sequence[Row], kept: Sequence[Row | None], phase: Resolved, context: int) -> None:
    """Raise CheckFailed where a phase would train on nothing, or lose more of its trained tokens than it may."""
    trained, left = sum(row.trained for row in rows), sum(row.trained for row in kept if row)
    where = f"phase {phase.name!r}"
    if not trained:
        raise CheckFailed("it would train on no token", where=where, fix="look at its samples with `tilth samples`")
    if trained - left > phase.too_long.lost_share * trained:
        limit = longest_allowed(phase, context)
        long = [row.length for row in rows if row.length > limit]
        raise CheckFailed(
            f"{len(long)} of {len(rows)} samples have more than {limit} tokens (the longest {max(long)}), and "
            f"{(trained - left) / trained:.2%} of the trained tokens would be lost with them "
            f"({phase.too_long.lost_share:.1%} may be)",
            where=where,
            fix=_fix(rows, phase, context, trained),
        )


def _cut(row: Row, phase: Resolved, limit: int) -> Row | None:
    if phase.too_long.policy == "drop" or not isinstance(row, Tokens):
        return None
    left = Tokens(row.input_ids[:limit], row.labels[:limit])
    return left if left.trained else None


def _fix(rows: Sequence[Row], phase: Resolved, context: int, trained: int) -> str:
    """The shortest `max_length` that would do."""
    lengths = sorted({row.length for row in rows})
    for length, longer in itertools.pairwise(lengths):
        lost = sum(row.trained for row in rows if row.length >= longer)
        if length <= context and lost <= phase.too_long.lost_share * trained:
            return f"raise its max_length to {length}"
    if lengths[-1] <= context:
        return f"raise its max_length to {lengths[-1]}"
    return f"{context} is all the model holds: make the samples shorter, or allow more by too_long.lost_share"
