"""The record of an evaluation: which models answered what, and what each answer is worth. Saved as `eval.json`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import field_serializer, field_validator

from ..core.errors import DataError
from ..core.rate import Rate, wilson
from ..core.records import Question, Record, TokensUsed
from .scores import Score


class Settings(Record):
    """What decides an answer besides the weights and the question. Answers under other settings are others."""

    system_prompt: str
    max_new_tokens: int
    max_new_tokens_judged: int
    choice: Literal["likelihood", "letter"]
    """How a multiple-choice question is answered: by the likeliest option, or in words, by its letter or its own."""


class Judge(Record):
    """Who graded, and how he was asked."""

    model: str
    """As `llm.endpoint.identity` names it."""
    prompt: str
    """Fingerprint of the judging prompts."""


class Judging(Record):
    """What the judge was asked for an evaluation, now or before."""

    requests: int = 0
    """That he answered, well or badly; asked again to mend his answer is one more."""
    tokens: TokensUsed = TokensUsed(prompt=0, completion=0)
    unanswered: int = 0
    """Requests that got no answer, and may get one when they are asked again."""


class Answer(Score):
    """One model's answer to one question, and its scores."""

    text: str
    grade: int | None = None
    """What the judge gave it, 1 to 5."""
    reason: str = ""
    """Why: the judge's words, the forms that it lacks, or what kept it from being judged."""


class Duel(Record):
    """Two models' answers to one question, compared by the judge in both orders."""

    question_id: str
    first: str
    second: str
    """Names of the models."""
    winner: Literal["first", "second", "tie", "unjudged"]
    """Who won in both orders; a judge who prefers a place and no answer makes a tie."""
    orders: tuple[str, str]
    """What the judge said with the first model's answer as A, then as B; empty: nothing that could be used."""


class Evaluation(Record):
    """Models scored on the same held-out questions."""

    settings: Settings
    judge: Judge | None = None
    """None: no question needed one."""
    models: Mapping[str, str]
    """Name -> fingerprint of the weights, in the order in which they are shown."""
    questions: tuple[Question, ...]
    answers: Mapping[str, Mapping[str, Answer]]
    """Model name -> question id -> answer. Every model answered every question."""
    duels: tuple[Duel, ...] = ()
    open_book: Mapping[str, Mapping[str, Answer]] = {}
    """As `answers`, with the best passages of the leaf before the question; of leaves that have a document."""
    judging: Judging | None = None
    """None: an older tilth wrote this, and did not note it."""

    @field_serializer("models")
    def _in_order(self, models: Mapping[str, str]) -> list[tuple[str, str]]:
        """As pairs: the keys of an object are sorted when it is written."""
        return list(models.items())

    @field_validator("models", mode="before")
    @classmethod
    def _from_pairs(cls, models: Any) -> Any:
        try:
            return dict(models)
        except TypeError as error:
            raise ValueError("no pairs of a model's name and its fingerprint") from error

    @cached_property
    def _by_leaf(self) -> Mapping[str, list[Question]]:
        """Leaf -> its questions: of ten thousand leaves each asks for its own."""
        found: defaultdict[str, list[Question]] = defaultdict(list)
        for question in self.questions:
            found[question.leaf].append(question)
        return found

    def __copy__(self) -> Self:
        """A copy looks for itself: `model_copy` may give it other questions."""
        copied = super().__copy__()
        vars(copied).pop("_by_leaf", None)
        return copied

    def renamed(self, name: str, to: str) -> Self:
        """The same with another name for a model."""
        called = {model: to if model == name else model for model in self.models}
        duels = [
            duel.model_copy(update={side: called[getattr(duel, side)] for side in ("first", "second")})
            for duel in self.duels
        ]
        by_model = {"models": self.models, "answers": self.answers, "open_book": self.open_book}
        return self.model_copy(
            update={
                **{key: {called[model]: of for model, of in each.items()} for key, each in by_model.items()},
                "duels": tuple(duels),
            }
        )

    @property
    def leaves(self) -> tuple[str, ...]:
        """The leaves that have questions, sorted; the parts of the general set among them."""
        return tuple(sorted(self._by_leaf))

    def of_leaf(self, leaf: str) -> tuple[Question, ...]:
        """The questions of one leaf, as they stand in it."""
        return tuple(self._by_leaf.get(leaf, ()))

    def answers_of(self, model: str) -> Mapping[str, Answer]:
        """A model's answers by question id. Raises DataError for a model that was not asked."""
        if model not in self.answers:
            raise DataError(f"{model!r} was not evaluated, only {', '.join(self.answers)}")
        return self.answers[model]

    def rate(self, model: str, leaf: str) -> Rate:
        """How many of a leaf's questions a model answers rightly; an answer that no judge could grade is not right.

        Raises DataError for a model that was not asked.
        """
        return self.rate_of(model, self.of_leaf(leaf))

    def rate_of(self, model: str, questions: Iterable[Question]) -> Rate:
        """The same of some of its questions."""
        given = self.answers_of(model)
        return _right([given[question.id] for question in questions])

    def open_book_rate(self, model: str, leaf: str) -> Rate:
        """The same with the passages before the questions: 0 of 0 where it was not asked so."""
        given = self.open_book.get(model, {})
        return _right([given[question.id] for question in self.of_leaf(leaf) if question.id in given])

    def unjudged(self, model: str) -> Rate:
        """Of a model's answers that a judge was asked about, those not graded. Raises DataError as `rate`."""
        return self._unjudged(self.answers_of(model))

    def _unjudged(self, given: Mapping[str, Answer]) -> Rate:
        judged = [question for question in self.questions if question.scoring == "judge" and question.id in given]
        answers = [(question, given[question.id]) for question in judged]
        asked = [answer for question, answer in answers if answer.text and not is_reference(question, answer.text)]
        return wilson(sum(answer.outcome == "unjudged" for answer in asked), len(asked))

    def remarks(self) -> Iterator[str]:
        """Who judged, what he failed to, and what was not answered, in sentences."""
        if self.judge:
            judged = sum(question.scoring == "judge" for question in self.questions)
            yield f"{judged} of the questions were judged by {self.judge.model}"
        for model in self.models:
            if (failed := self.unjudged(model)).correct:
                yield f"{model}: {failed.correct} of {failed.total} answers could not be judged: wrong"
            if (failed := self._unjudged(self.open_book.get(model, {}))).correct:
                what = f"{failed.correct} of {failed.total} answers could not be judged"
                yield f"{model}, with the document: {what}: wrong"
        for model, given in self.answers.items():
            if why := Counter(answer.reason or "it said nothing" for answer in given.values() if not answer.text):
                counted = (f"{count} {reason}" if len(why) > 1 else reason for reason, count in why.most_common())
                reasons = "; ".join(counted)
                yield f"{model}: {why.total()} of {len(given)} questions have no answer ({reasons}): wrong"
        if (duels := self.unjudged_duels()).correct:
            yield f"{duels.correct} of {duels.total} pairs of answers could not be compared: their grades count"
        if lost := self.unanswered:
            yield f"{lost} request{'s' if lost > 1 else ''} to the judge got no answer: the same command asks again"

    @property
    def unanswered(self) -> int:
        """Requests to the judge that got no answer, and may get one when they are asked again."""
        return self.judging.unanswered if self.judging else 0

    def unjudged_duels(self) -> Rate:
        """Of the pairs of answers that a judge was asked about, so of unequal ones, those that he did not compare."""
        asked = [
            duel
            for duel in self.duels
            if self.answers[duel.first][duel.question_id].text != self.answers[duel.second][duel.question_id].text
        ]
        return wilson(sum(duel.winner == "unjudged" for duel in asked), len(asked))


def is_reference(question: Question, answer: str) -> bool:
    """Whether it is one of the references, line by line. Nobody is asked then: small judges find faults in that too."""
    return _lines(answer) in map(_lines, question.answers)


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def unlike(one: Evaluation, other: Evaluation) -> str:
    """Why scores of two evaluations are not to be compared: another judge, prompt or setting. Empty: they may be.

    A judge is no matter where one of the two had no question for him.
    """
    if one.judge and other.judge and one.judge != other.judge:
        return _differing(one.judge, other.judge, "the judge's ")
    return _differing(one.settings, other.settings, "")


def _differing(one: Record, other: Record, whose: str) -> str:
    left, right = one.model_dump(), other.model_dump()
    return "; ".join(f"{whose}{name} {left[name]!r} and {right[name]!r}" for name in left if left[name] != right[name])


def _right(answers: Sequence[Answer]) -> Rate:
    return wilson(sum(answer.correct for answer in answers), len(answers))
