"""How long a phase's rows are, and what becomes of those that are too long: never in silence (DESIGN, section 7)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from ..core.errors import CheckFailed
from ..core.records import Record
from .masking import Tokens
from .methods.prompts import PromptTokens
from .methods.row import Row
from .packing import DocumentTokens
from .varlen import shared_beginning

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
    """At how many positions some of the rows is trained: as one padded batch, those go through the output head."""
    return len({place for row in rows for place in row.places})


def shared_tokens(rows: Sequence[Row]) -> int:
    """How many tokens conversations begin with that need to go through the model once (`varlen`)."""
    return shared_beginning([row.columns() for row in rows if isinstance(row, Tokens)])


def fitted(rows: Sequence[Row], phase: Resolved) -> list[Row | None]:
    """Each row as the phase trains it: cut where it is too long and the plan says so; None: it is dropped.

    A row is cut at its end, so that an answer that was cut has no end-of-turn token to be trained. One whose answer is
    cut off as a whole is dropped. A document is split (`packing`).
    """
    return [
        row if row.length <= phase.max_length or isinstance(row, DocumentTokens) else _cut(row, phase) for row in rows
    ]


def check_lost(rows: Sequence[Row], kept: Sequence[Row | None], phase: Resolved, *, new: int, context: int) -> None:
    """Raise CheckFailed where a phase would train on nothing new, or lose more of its trained tokens than it may.

    The first `new` rows are new; `context` is the most tokens that the model holds.
    """
    trained, left = sum(row.trained for row in rows), sum(row.trained for row in kept if row)
    where, limit = f"phase {phase.name!r}", phase.max_length
    if not trained:
        raise CheckFailed("it would train on no token", where=where, fix="look at its samples with `tilth samples`")
    if trained - left > phase.too_long.lost_share * trained:
        long = [row.length for row in rows if row.length > limit]
        raise CheckFailed(
            f"{len(long)} of {len(rows)} samples have more than {limit} tokens (the longest {max(long)}), and "
            f"{(trained - left) / trained:.2%} of the trained tokens would be lost with them "
            f"({phase.too_long.lost_share:.1%} may be)",
            where=where,
            fix=_fix(rows, phase, context),
        )
    if not any(kept[:new]):
        what = f"it would train on nothing new: all of its {new} new samples have more than {limit} tokens"
        raise CheckFailed(what, where=where, fix=_fix(rows[:new], phase, context))


def _cut(row: Row, phase: Resolved) -> Row | None:
    if phase.too_long.policy == "drop" or not isinstance(row, Tokens):
        return None
    left = row.cut(phase.max_length)
    return left if left.trained else None


def _fix(rows: Sequence[Row], phase: Resolved, context: int) -> str:
    """The shortest `max_length` that would do."""
    lengths = sorted({row.length for row in rows})
    allowed = phase.too_long.lost_share * sum(row.trained for row in rows)
    for length, longer in itertools.pairwise(lengths):
        lost = sum(row.trained for row in rows if row.length >= longer)
        if length <= context and lost <= allowed:
            return f"raise its max_length to {length}"
    if lengths[-1] <= context:
        return f"raise its max_length to {lengths[-1]}"
    room = max(row.max_new_tokens if isinstance(row, PromptTokens) else 0 for row in rows)
    if lengths[-1] - context < room:
        return f"{context} is {phase.holds}: lower its rollout.max_new_tokens to {room - lengths[-1] + context}"
    more = ", or allow more by too_long.lost_share" if lengths[0] <= context else ""
    return f"{context} is {phase.holds}: make the samples shorter{more}"
