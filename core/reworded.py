"""Held-out questions reworded: the same question with synonyms or in another order ("What is its height?").

They are found by embeddings, which the caller brings. Questions that differ in one word only ("the first keeper", "the
last keeper") are as like by that measure, so the answers have to agree too, and the numbers in the questions. Measured
on labelled pairs by `benchmarks/reworded.py`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul
from typing import NamedTuple

from .normalise import QUESTION_CHARACTERS, content_words, normalise
from .records import Question, Sample

LONG_ANSWER = 12
"""Words of an answer, function words not counted, from which another one says the same in words of its own: such
answers are not compared."""


class Likeness(NamedTuple):
    """From when on two questions are the same one, reworded."""

    embed: Callable[[str], Sequence[float]]
    """A text's embedding, of length 1."""
    cosine: float


def reworded_finder(questions: Sequence[Question], likeness: Likeness) -> Callable[[Sample], dict[str, float]]:
    """What finds the questions that a sample asks in other words: the id of each, with its cosine to three digits.

    Nothing is embedded but what has an answer that agrees, so most samples cost nothing.
    """
    all_asked = [_asked(question, likeness) for question in questions]
    open_ones = {asked.question_id: asked for asked in all_asked if asked.is_open}
    index: defaultdict[str, list[_Asked]] = defaultdict(list)
    for asked in all_asked:
        for word in frozenset().union(*asked.answers):
            index[word].append(asked)

    def reworded_in(sample: Sample) -> dict[str, float]:
        answer = _answer_words(sample.answer)
        near = {asked.question_id: asked for word in answer for asked in index.get(word, ()) if asked.agrees(answer)}
        near |= open_ones
        best: dict[str, float] = {}
        for text in _questions_in(sample) if near else ():
            comparable = [asked for asked in near.values() if asked.numbers == _numbers(text)]
            embedding = likeness.embed(text) if comparable else ()
            for asked in comparable:
                cosine = round(sum(map(mul, asked.embedding, embedding)), 3)
                best[asked.question_id] = max(cosine, best.get(asked.question_id, 0.0))
        return {question_id: cosine for question_id, cosine in best.items() if cosine >= likeness.cosine}

    return reworded_in


@dataclass(frozen=True)
class _Asked:
    """A held-out question as others are compared with it."""

    question_id: str
    numbers: Sequence[str]
    answers: Sequence[frozenset[str]]
    """The words of each accepted answer."""
    embedding: Sequence[float]

    @property
    def is_open(self) -> bool:
        """Whether its answer is too long to be compared."""
        return len(self.answers[0]) >= LONG_ANSWER

    def agrees(self, answer: frozenset[str]) -> bool:
        """Whether an answer says what an accepted one says."""
        return any(_same(answer, accepted) for accepted in self.answers)


def _same(one: frozenset[str], two: frozenset[str]) -> bool:
    """Whether more than half of the shorter answer is in the other; where there are numbers, they decide."""
    if numbers := set(filter(_is_number, two)):
        return numbers <= one
    return 2 * len(one & two) > min(len(one), len(two))


def _asked(question: Question, likeness: Likeness) -> _Asked:
    answers = [_answer_words(answer) for answer in question.answers]
    return _Asked(question.id, _numbers(question.question), answers, likeness.embed(question.question))


def _answer_words(answer: str) -> frozenset[str]:
    text = normalise(answer)
    return frozenset(content_words(text) or text.split())


def _numbers(question: str) -> list[str]:
    """The numbers in a question, in order. "One" is seldom a number."""
    return [word for word in normalise(question).split() if word != "1" and _is_number(word)]


def _is_number(word: str) -> bool:
    return any(map(str.isdigit, word))


_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def _questions_in(sample: Sample) -> list[str]:
    """What is asked in any turn: sentences with a question mark; where a user has none, his first sentence and all."""
    found: list[str] = []
    for message in sample.messages:
        sentences = [sentence.strip() for sentence in _SENTENCE_END.split(message.content.strip())]
        asking = [sentence for sentence in sentences if sentence.endswith("?")]
        found += asking or ([sentences[0], message.content] if message.role == "user" else [])
    return list(dict.fromkeys(text[:QUESTION_CHARACTERS] for text in found))
