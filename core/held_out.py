"""Held-out questions looked for in training samples, word for word, lightly edited, and reworded; answers as well.

A question is found anywhere in a sample, in any turn, whatever its case, punctuation, articles and number spelling. A
near copy keeps the question's words, its question word too, close together: function words may differ, endings may
differ, words may be moved or put in. A name or a number may not: with another one it is another question.

A question that asks for the same fact in its own words is what a student is taught with, and no leak. Between the two
lies the same question with synonyms ("How tall is it?", "What is its height?"): see `reworded`.

An answer alone is no leak as long as it is a fact: facts are what samples teach. One that somebody composed (a line of
verse, a letter, a worked sum) leaks where a sample says it without its question: docs/decisions/0016.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from .normalise import QUESTION_CHARACTERS, content_words, normalise
from .records import Question, Record, Sample
from .reworded import LONG_ANSWER, Likeness, reworded_finder

WORDS_PER_MISSING = 8
"""A near copy may lack one of the question's words for every so many: none of a short question's, for there one word
makes another question (first or second, built or repaired)."""

WORDS_PER_EXTRA = 3
"""A near copy may have one other word among the question's for every so many."""

COMPOSED_ANSWER = 6
"""Words of a skill's answer, function words not counted, from which it is one that somebody composed."""

LeakKind = Literal["copy", "near_copy", "reworded", "answer"]
"""What stands in the sample, the plainest first: the question word for word, nearly, in other words; its answer."""

LEAKS_BY: dict[LeakKind, str] = {
    "copy": "word for word",
    "near_copy": "nearly word for word",
    "reworded": "in other words",
    "answer": "by its answer",
}
"""How a message says it."""

_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")


class Leak(Record):
    """A held-out question, or its answer, that stands in a training sample."""

    question_id: str
    sample_id: str
    kind: LeakKind
    overlap: float
    """The share of the question's words (or the answer's) that stand together in the sample, function words not
    counted; of a reworded one the cosine, to three digits."""


def find_leaks(
    questions: Sequence[Question], samples: Iterable[Sample], likeness: Likeness | None = None
) -> list[Leak]:
    """Every leak, in the order of the samples. Without `likeness` reworded questions are not looked for."""
    leaks_in = leak_finder(questions, likeness)
    return [leak for sample in samples for leak in leaks_in(sample)]


def leak_finder(questions: Sequence[Question], likeness: Likeness | None = None) -> Callable[[Sample], list[Leak]]:
    """What finds the leaks of one sample; a question is reported once, as the first of the kinds that it is.

    Only questions whose rarest words stand in a turn are compared with it, so the time grows with the words of the
    samples and hardly with the number of questions. Nothing is embedded but questions whose answers agree.
    """
    asked = _Needles([_of_question(question) for question in questions])
    composed = _Needles([needle for question in questions for needle in _of_answers(question)])
    reworded_in = reworded_finder(questions, likeness) if likeness else None

    def leaks_in(sample: Sample) -> list[Leak]:
        found: dict[str, Leak] = {}

        def note(question_id: str, kind: LeakKind, overlap: float) -> None:
            leak = Leak(question_id=question_id, sample_id=sample.id, kind=kind, overlap=overlap)
            if kind == "copy" or question_id not in found:
                found[question_id] = leak

        for message in sample.messages:
            for needle, overlap, is_whole in asked.found_in(message.content):
                note(needle.question_id, "copy" if is_whole else "near_copy", overlap)
        for question_id, cosine in reworded_in(sample).items() if reworded_in else ():
            note(question_id, "reworded", cosine)
        for message in sample.messages:
            for needle, overlap, _ in composed.found_in(message.content) if message.role == "assistant" else ():
                if not (needle.is_knowledge and is_knowledge(sample.source.leaf)):
                    note(needle.question_id, "answer", overlap)
        return sorted(found.values(), key=lambda leak: leak.question_id)

    return leaks_in


def is_knowledge(leaf: str) -> bool:
    """Whether a leaf, by its id, is one of knowledge: its samples may tell every fact."""
    return leaf.startswith("knowledge/")


class Words(NamedTuple):
    """A text as it is searched."""

    phrase: str
    """All its words, normalised, with a space at either end."""
    telling: Sequence[str]
    """Its words without function words and endings, in order."""


@lru_cache(maxsize=64)
def read_words(text: str) -> Words:
    """The words of a text. A few texts are remembered: each turn of a sample is searched more than once."""
    phrase = f" {normalise(text)} "
    return Words(phrase, content_words(phrase))


def share_together(question: str) -> Callable[[str], float]:
    """What tells the share of a question's words, 0 to 1, that stand together in a text, function words not counted."""
    needle = _needle("", question)
    return lambda text: _most_together(needle, read_words(text).telling) / max(1, len(needle.words))


@dataclass(frozen=True, eq=False)
class _Needle:
    """A question or an answer, ready to be looked for."""

    question_id: str
    phrase: str
    words: frozenset[str]
    """Its telling words."""
    fixed: frozenset[str]
    """Those of them that a near copy has: names and numbers."""
    is_answer: bool = False
    is_knowledge: bool = False

    @property
    def is_loose(self) -> bool:
        """Whether its words cannot be indexed: function words only, or a script that writes without spaces."""
        return not self.words or bool(_UNSPACED.search(self.phrase))

    @property
    def needed(self) -> int:
        return len(self.words) - (0 if self.is_answer else len(self.words) // WORDS_PER_MISSING)

    @property
    def reach(self) -> int:
        """How many words a near copy may stretch over."""
        return len(self.words) + len(self.words) // WORDS_PER_EXTRA


def _needle(question_id: str, text: str) -> _Needle:
    text = text[:QUESTION_CHARACTERS]
    phrase, telling = read_words(text)
    words = frozenset(telling)
    return _Needle(question_id, phrase, words, words & _fixed(text))


_NAME = re.compile(r"(?<=[\w,;] )[A-Z]\w*")
"""What begins with a capital inside a sentence."""


def _fixed(text: str) -> set[str]:
    """The names and the numbers in a question. "One" is seldom a number."""
    names = content_words(normalise(" ".join(_NAME.findall(text))))
    return {*names, *(word for word in read_words(text).telling if word != "1" and any(map(str.isdigit, word)))}


def _of_question(question: Question) -> _Needle:
    return _needle(question.id, question.question)


def _of_answers(question: Question) -> Iterator[_Needle]:
    """The accepted answers that somebody composed. An option is chosen, and an answer checked by its form is any."""
    knowledge = is_knowledge(question.leaf)
    for answer in question.answers if question.scoring in {"match", "judge"} else ():
        phrase, telling = read_words(answer[:QUESTION_CHARACTERS])
        words = frozenset(telling)
        if len(words) >= (LONG_ANSWER if knowledge else COMPOSED_ANSWER):
            yield _Needle(question.id, phrase, words, words, is_answer=True, is_knowledge=knowledge)


class _Needles:
    """Texts to be looked for in others, by their rarest words."""

    def __init__(self, needles: Sequence[_Needle]) -> None:
        self._index, self._loose = _index(needles), [needle for needle in needles if needle.is_loose]

    def found_in(self, text: str) -> Iterator[tuple[_Needle, float, bool]]:
        """Each that stands in a text: the share of its words there, and whether it stands there word for word."""
        if not self._index and not self._loose:
            return
        phrase, telling = read_words(text)
        for needle in self._loose:
            if (needle.phrase if not needle.words else needle.phrase.strip()) in phrase:
                yield needle, 1.0, True
        there = set(telling)
        for needle in {needle for word in there for needle in self._index.get(word, ())}:
            if not needle.fixed <= there or len(needle.words & there) < needle.needed:
                continue
            if needle.phrase in phrase:
                yield needle, 1.0, True
            elif (together := _most_together(needle, telling)) >= max(2, needle.needed):
                yield needle, together / len(needle.words), False


def _index(needles: Sequence[_Needle]) -> Mapping[str, list[_Needle]]:
    """Needles by a few of their words, the rarest that a near copy cannot lack all of."""
    frequency = Counter(word for needle in needles for word in needle.words)
    index: defaultdict[str, list[_Needle]] = defaultdict(list)
    for needle in needles:
        rarest = sorted(needle.words, key=lambda word: (frequency[word], word))[: len(needle.words) - needle.needed + 1]
        fixed = min(needle.fixed, key=lambda word: (frequency[word], word), default="")
        keys = [fixed] if fixed and frequency[fixed] <= sum(map(frequency.__getitem__, rarest)) else rarest
        for word in keys:
            index[word].append(needle)
    return index


def _most_together(needle: _Needle, words: Sequence[str]) -> int:
    """The most different words of the needle that stand within its reach of one another."""
    places = [place for place, word in enumerate(words) if word in needle.words]
    return max((len(needle.words.intersection(words[place : place + needle.reach])) for place in places), default=0)
