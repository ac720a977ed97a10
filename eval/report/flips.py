"""The questions on which two models' answers differ most: what got worse, and what got better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...core.records import Question
from ..evaluation import Answer, Evaluation


class Flip(NamedTuple):
    """A question and both answers to it."""

    question: Question
    before: Answer
    after: Answer

    @property
    def steps(self) -> tuple[int, int, float]:
        """How much better the later answer is: right or not, the judge's grade, token F1."""
        graded = self.before.grade is not None and self.after.grade is not None
        grades = (self.after.grade or 0) - (self.before.grade or 0) if graded else 0
        return self.after.correct - self.before.correct, grades, self.after.f1 - self.before.f1


def worst(evaluation: Evaluation, before: str, after: str) -> Sequence[Flip]:
    """Right before and wrong now, then graded lower, the worst first; must-pass questions before all others."""
    found = [flip for flip in _flips(evaluation, before, after) if flip.steps[:2] < (0, 0)]
    return sorted(found, key=lambda flip: (not flip.question.must_pass, *flip.steps, flip.question.id))


def best(evaluation: Evaluation, before: str, after: str) -> Sequence[Flip]:
    """Wrong before and right now, then graded higher, the best first."""
    found = [flip for flip in _flips(evaluation, before, after) if flip.steps[:2] > (0, 0)]
    return sorted(found, key=lambda flip: (*(-step for step in flip.steps), flip.question.id))


def _flips(evaluation: Evaluation, before: str, after: str) -> list[Flip]:
    """Of the questions that both answered and that could be judged."""
    old, new = evaluation.answers_of(before), evaluation.answers_of(after)
    flips = [Flip(question, old[question.id], new[question.id]) for question in evaluation.questions]
    return [flip for flip in flips if "unjudged" not in {flip.before.outcome, flip.after.outcome}]
