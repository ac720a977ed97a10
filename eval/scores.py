"""Scores of a short answer against the accepted ones.

Exact match and token F1 follow SQuAD (Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of
Text", section 6.1), with the normalisation of `core.normalise`. The score that decides is `core.answers.is_correct`;
the other two are recorded beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from ..core.answers import first_line, is_correct
from ..core.choices import chosen
from ..core.normalise import normalise
from ..core.records import Question, Record
from .choice import shuffled

RIGHT_FROM = 4
"""The lowest grade of a right answer: what the rubric calls right, with a blemish or without."""


class Score(Record):
    """What one answer to one question is worth."""

    outcome: Literal["right", "wrong", "unjudged"]
    """`unjudged`: a judge was to grade it and could not."""
    exact: bool
    f1: float

    @property
    def correct(self) -> bool:
        """Whether it counts as right."""
        return self.outcome == "right"


def score(answer: str, accepted: Sequence[str]) -> Score:
    """All three scores of a model's answer against the accepted answers."""
    return Score(
        outcome=outcome(right=is_correct(answer, accepted)),
        exact=exact_match(answer, accepted),
        f1=round(f1(answer, accepted), 6),
    )


def score_right(*, right: bool) -> Score:
    """All scores of an answer that is right or is not: an option, a form."""
    return Score(outcome=outcome(right=right), exact=right, f1=float(right))


def score_judged(answer: str, references: Sequence[str], grade: int | None) -> Score:
    """All scores of an answer that a judge graded; no grade: he could not."""
    found = score(answer, references)
    return found.model_copy(update={"outcome": "unjudged" if grade is None else outcome(right=grade >= RIGHT_FROM)})


def names_right_option(answer: str, question: Question) -> bool:
    """Whether an answer names the right option, by its letter or its words, in the order in which they were listed."""
    options = shuffled(question)
    index = chosen(answer, options)
    return index is not None and options[index] == question.answers[0]


def outcome(*, right: bool) -> Literal["right", "wrong"]:
    """The word for it."""
    return "right" if right else "wrong"


def exact_match(answer: str, accepted: Sequence[str]) -> bool:
    """SQuAD's exact match of the first line, over the accepted answers."""
    return normalise(first_line(answer)) in {normalise(text) for text in accepted}


def f1(answer: str, accepted: Sequence[str]) -> float:
    """SQuAD's token F1 of the first line: the best over the accepted answers, 0 to 1."""
    words = normalise(first_line(answer)).split()
    return max((_f1(words, normalise(text).split()) for text in accepted), default=0.0)


def _f1(answer: list[str], reference: list[str]) -> float:
    common = sum((Counter(answer) & Counter(reference)).values())
    return 2 * common / (len(answer) + len(reference)) if common else 0.0
