"""Filters against copies of what is known beforehand: held-out questions, and the seeds that were to be varied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...core.held_out import Leak, leak_finder
from ...core.records import Question, Sample
from ...core.reworded import Likeness
from ..words import similarity
from .drop import Drop, Filter


def not_held_out(questions: Sequence[Question], likeness: Likeness | None = None) -> Filter:
    """Drop a sample with a copy or near copy of a held-out question in any turn: what the cycle would refuse.

    With `likeness` the same question reworded is dropped too; its score tells the cosine.
    """
    leaks_in = leak_finder(questions, likeness)

    def is_new(sample: Sample) -> Drop | None:
        leaks = leaks_in(sample) if questions else []
        return Drop("held_out_copy", _told(leaks[0])) if leaks else None

    return is_new


def _told(leak: Leak) -> str:
    cosine = f" ({leak.overlap:.3f})" if leak.kind == "reworded" else ""
    return f"{leak.kind}{cosine} of {leak.question_id}"


def not_like(questions: Iterable[str], threshold: float) -> Filter:
    """Drop a question that is nearly one of these (the seeds that it was to vary)."""
    known = list(questions)

    def is_new(sample: Sample) -> Drop | None:
        score = max((similarity(question, sample.question) for question in known), default=0.0)
        return Drop("copy_of_seed", f"{score:.2f}") if score >= threshold else None

    return is_new
