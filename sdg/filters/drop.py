"""What every filter is: a function from a sample to None (keep) or to a `Drop`, a reason with its score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...core.records import Sample


class Drop(NamedTuple):
    """Why a sample is dropped."""

    reason: str
    score: str = ""


Filter = Callable[[Sample], Drop | None]


def first_drop(sample: Sample, filters: Sequence[Filter]) -> Drop | None:
    """What the first filter that does not keep the sample says; later ones are not asked."""
    return next((drop for keep_or_drop in filters if (drop := keep_or_drop(sample))), None)
