"""Held-out questions reworded: the same question with synonyms or in another order ("What is its height?").

They are found by embeddings, which the caller brings. Questions that differ in one word only ("the first keeper", "the
last keeper") are as like by that measure, so the answers have to agree too, and the numbers in the questions. Measured
on labelled pairs by `benchmarks/reworded.py`.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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

    Nothing is embedded but questions that have a word in common and answers that agree, so most samples cost nothing.
    Of 1,895 pairs of questions with a cosine of 0.95 all had a third of their words in common (docs/decisions/0016).
    """
    all_asked = [_asked(question) for question in questions]
    open_ones = {place for place, asked in enumerate(all_asked) if asked.is_open}
    by_word = _places_by(asked.words for asked in all_asked)
    by_answer = _places_by(frozenset().union(*asked.answers) for asked in all_asked)

    @functools.cache
    def embedding_of(place: int) -> Sequence[float]:
        return likeness.embed(questions[place].question[:QUESTION_CHARACTERS])

    def reworded_in(sample: Sample) -> dict[str, float]:
        answer = _answer_words(sample.answer)
        near = open_ones.union(*(by_answer[word] for word in answer if word in by_answer))
        best: dict[str, float] = {}
        for text in questions_in(sample) if near else ():
            there, numbers = _words(text), _numbers(text)
            alike = near.intersection(set[int]().union(*(by_word[word] for word in there if word in by_word)))
            comparable = [place for place in alike if all_asked[place].may_be(numbers, answer)]
            embedding = likeness.embed(text) if comparable else ()
            for place in comparable:
                cosine = round(sum(map(mul, embedding_of(place), embedding)), 3)
                best[questions[place].id] = max(cosine, best.get(questions[place].id, 0.0))
        return {question_id: cosine for question_id, cosine in best.items() if cosine >= likeness.cosine}

    return reworded_in


@dataclass(frozen=True)
class _Asked:
    """A held-out question as others are compared with it."""

    words: frozenset[str]
    numbers: Sequence[str]
    answers: Sequence[frozenset[str]]
    """The words of each accepted answer."""

    @property
    def is_open(self) -> bool:
        """Whether its answer is too long to be compared, or there is none."""
        return not self.answers or len(self.answers[0]) >= LONG_ANSWER

    def may_be(self, numbers: Sequence[str], answer: frozenset[str]) -> bool:
        """Whether a question with these numbers has them all, and its answer says what an accepted one says."""
        return numbers == self.numbers and (self.is_open or any(_same(answer, accepted) for accepted in self.answers))


def _same(one: frozenset[str], two: frozenset[str]) -> bool:
    """Whether more than half of the shorter answer is in the other; where there are numbers, they decide."""
    if numbers := set(filter(_is_number, two)):
        return numbers <= one
    return 2 * len(one & two) > min(len(one), len(two))


def _asked(question: Question) -> _Asked:
    answers = [_answer_words(answer) for answer in question.answers]
    return _Asked(_words(question.question), _numbers(question.question), answers)


def _places_by(words: Iterable[frozenset[str]]) -> Mapping[str, set[int]]:
    """Word -> the places in the list at which it stands."""
    index: defaultdict[str, set[int]] = defaultdict(set)
    for place, some in enumerate(words):
        for word in some:
            index[word].add(place)
    return index


_LIST_OF_ASKING_WORDS = "what who when where why how many much name tell me list give say"
_ASKING = frozenset(_LIST_OF_ASKING_WORDS.split())
"""Words that tell how something is asked and not what."""


def _words(question: str) -> frozenset[str]:
    """What a question is about; where it has no such word, all of its words."""
    text = normalise(question[:QUESTION_CHARACTERS])
    return frozenset(content_words(text)) - _ASKING or frozenset(text.split())


def _answer_words(answer: str) -> frozenset[str]:
    text = normalise(answer)
    return frozenset(content_words(text) or text.split())


def _numbers(question: str) -> list[str]:
    """The numbers in a question, in order. "One" is seldom a number."""
    return [word for word in normalise(question).split() if word != "1" and _is_number(word)]


def _is_number(word: str) -> bool:
    return any(map(str.isdigit, word))


_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def questions_in(sample: Sample) -> list[str]:
    """What is asked in any turn: sentences with a question mark; where a user has none, his first sentence and all."""
    found: list[str] = []
    for message in sample.messages:
        sentences = [sentence.strip() for sentence in _SENTENCE_END.split(message.content.strip())]
        asking = [sentence for sentence in sentences if sentence.endswith("?")]
        found += asking or ([sentences[0], message.content] if message.role == "user" else [])
    return list(dict.fromkeys(text[:QUESTION_CHARACTERS] for text in found))
