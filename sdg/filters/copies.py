"""Filters against copies of what is known beforehand: held-out questions, and the seeds that were to be varied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...core.held_out import leak_finder
from ...core.records import Question, Sample
from ..words import similarity
from .drop import Drop, Filter


def not_held_out(questions: Sequence[Question]) -> Filter:
    """Drop a sample with a copy or near copy of a held-out question in any turn: what the cycle would refuse."""
    leaks_in = leak_finder(questions)

    def is_new(sample: Sample) -> Drop | None:
        leaks = leaks_in(sample) if questions else []
        return Drop("held_out_copy", f"{leaks[0].kind} of {leaks[0].question_id}") if leaks else None

    return is_new


def not_like(questions: Iterable[str], threshold: float) -> Filter:
    """Drop a question that is nearly one of these (the seeds that it was to vary)."""
    known = list(questions)

    def is_new(sample: Sample) -> Drop | None:
        score = max((similarity(question, sample.question) for question in known), default=0.0)
        return Drop("copy_of_seed", f"{score:.2f}") if score >= threshold else None

    return is_new
