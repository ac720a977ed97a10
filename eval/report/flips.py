"""The questions on which two models' answers differ most: what got worse, and what got better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...core.records import Question
from ..compare import Better
from ..evaluation import Answer, Evaluation


class Flip(NamedTuple):
    """A question and both answers to it."""

    question: Question
    before: Answer
    after: Answer
    way: int
    """1 where the later answer alone is right, or a judge who compared both preferred it; -1 the other way round."""
    by_duel: bool
    """Whether it was preferred."""

    @property
    def steps(self) -> tuple[int, int, float]:
        """How much better the later answer is: its way, the judge's grade, token F1."""
        graded = self.before.grade is not None and self.after.grade is not None
        grades = (self.after.grade or 0) - (self.before.grade or 0) if graded else 0
        return self.way, grades, self.after.f1 - self.before.f1


def worst(evaluation: Evaluation, before: str, after: str) -> Sequence[Flip]:
    """Right before and wrong now or less preferred, then graded lower, the worst first; must-pass questions lead."""
    found = [flip for flip in _flips(evaluation, before, after) if flip.steps[:2] < (0, 0)]
    return sorted(found, key=lambda flip: (not flip.question.must_pass, *flip.steps, flip.question.id))


def best(evaluation: Evaluation, before: str, after: str) -> Sequence[Flip]:
    """Wrong before and right now or preferred, then graded higher, the best first."""
    found = [flip for flip in _flips(evaluation, before, after) if flip.steps[:2] > (0, 0)]
    return sorted(found, key=lambda flip: (*(-step for step in flip.steps), flip.question.id))


def _flips(evaluation: Evaluation, before: str, after: str) -> list[Flip]:
    """Of the questions that both answered and that could be judged."""
    old, new, better = evaluation.answers_of(before), evaluation.answers_of(after), Better(evaluation, before, after)
    flips: list[Flip] = []
    for question in evaluation.questions:
        way = {before: -1, after: 1}.get(better.of(question.id), 0)
        answers, by_duel = (old[question.id], new[question.id]), better.by_duel(question.id)
        if by_duel or "unjudged" not in {answer.outcome for answer in answers}:
            flips.append(Flip(question, *answers, way, by_duel))
    return flips
