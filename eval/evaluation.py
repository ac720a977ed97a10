"""The record of an evaluation: which models answered what, and what each answer is worth. Saved as `eval.json`."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.errors import DataError
from ..core.rate import Rate, wilson
from ..core.records import Question, Record
from .scores import Score


class Settings(Record):
    """What decides a model's answer besides its weights and the question. Answers under other settings are others."""

    system_prompt: str
    max_new_tokens: int


class Answer(Score):
    """One model's answer to one question, and its scores."""

    text: str


class Evaluation(Record):
    """Models scored on the same held-out questions."""

    settings: Settings
    models: Mapping[str, str]
    """Name -> fingerprint of the weights, in the order in which they are shown."""
    questions: tuple[Question, ...]
    answers: Mapping[str, Mapping[str, Answer]]
    """Model name -> question id -> answer. Every model answered every question."""

    @property
    def leaves(self) -> tuple[str, ...]:
        """The leaves that have questions, sorted."""
        return tuple(sorted({question.leaf for question in self.questions}))

    def of_leaf(self, leaf: str) -> tuple[Question, ...]:
        """The questions of one leaf, as they stand in it."""
        return tuple(question for question in self.questions if question.leaf == leaf)

    def answers_of(self, model: str) -> Mapping[str, Answer]:
        """A model's answers by question id. Raises DataError for a model that was not asked."""
        if model not in self.answers:
            raise DataError(f"{model!r} was not evaluated, only {', '.join(self.answers)}")
        return self.answers[model]

    def rate(self, model: str, leaf: str) -> Rate:
        """How many of a leaf's questions a model answers rightly. Raises DataError for a model that was not asked."""
        given = self.answers_of(model)
        answers = [given[question.id] for question in self.of_leaf(leaf)]
        return wilson(sum(answer.correct for answer in answers), len(answers))
