"""Held-out questions looked for in training samples, word for word, lightly edited, and reworded.

A question is found anywhere in a sample, in any turn, whatever its case, punctuation, articles and number spelling. A
near copy keeps the question's words, its question word too, close together: function words may differ, endings may
differ, words may be moved or put in.

A question that asks for the same fact in its own words is what a student is taught with, and no leak. Between the two
lies the same question with synonyms ("How tall is it?", "What is its height?"): see `reworded`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .normalise import QUESTION_CHARACTERS, content_words, normalise
from .records import Question, Record, Sample
from .reworded import Likeness, reworded_finder

WORDS_PER_MISSING = 8
"""A near copy may lack one of the question's words for every so many: none of a short question's, for there one word
makes another question (first or second, built or repaired)."""

WORDS_PER_EXTRA = 3
"""A near copy may have one other word among the question's for every so many."""


_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")


class Leak(Record):
    """A held-out question that stands in a training sample."""

    question_id: str
    sample_id: str
    kind: Literal["copy", "near_copy", "reworded"]
    overlap: float
    """The share of the question's words that stand together in the sample, function words not counted; of a reworded
    one the cosine, to three digits."""


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
    needles = [_needle(question) for question in questions]
    index, loose = _index(needles), [needle for needle in needles if needle.is_loose]
    reworded_in = reworded_finder(questions, likeness) if likeness else None

    def leaks_in(sample: Sample) -> list[Leak]:
        found: dict[str, Leak] = {}
        for message in sample.messages:
            for leak in _leaks_in(message.content, sample.id, index, loose):
                if leak.kind == "copy" or leak.question_id not in found:
                    found[leak.question_id] = leak
        for question_id, cosine in reworded_in(sample).items() if reworded_in else ():
            leak = Leak(question_id=question_id, sample_id=sample.id, kind="reworded", overlap=cosine)
            found.setdefault(question_id, leak)
        return sorted(found.values(), key=lambda leak: leak.question_id)

    return leaks_in


@dataclass(frozen=True)
class _Needle:
    """One question, ready to be looked for."""

    question_id: str
    phrase: str
    """All its words, normalised, with a space at either end."""
    words: frozenset[str]
    """Its words without function words and endings."""

    @property
    def is_loose(self) -> bool:
        """Whether its words cannot be indexed: function words only, or a script that writes without spaces."""
        return not self.words or bool(_UNSPACED.search(self.phrase))

    @property
    def needed(self) -> int:
        return len(self.words) - len(self.words) // WORDS_PER_MISSING

    @property
    def reach(self) -> int:
        """How many words a near copy may stretch over."""
        return len(self.words) + len(self.words) // WORDS_PER_EXTRA


def _needle(question: Question) -> _Needle:
    text = normalise(question.question[:QUESTION_CHARACTERS])
    return _Needle(question.id, f" {text} ", frozenset(content_words(text)))


def _index(needles: Sequence[_Needle]) -> Mapping[str, list[_Needle]]:
    """Needles by their rarest words, so many that a near copy cannot lack them all."""
    frequency = Counter(word for needle in needles for word in needle.words)
    index: defaultdict[str, list[_Needle]] = defaultdict(list)
    for needle in needles:
        rarest = sorted(needle.words, key=lambda word: (frequency[word], word))
        for word in rarest[: len(needle.words) - needle.needed + 1]:
            index[word].append(needle)
    return index


def _leaks_in(
    text: str, sample_id: str, index: Mapping[str, list[_Needle]], loose: Sequence[_Needle]
) -> Iterator[Leak]:
    phrase = f" {normalise(text)} "
    for needle in loose:
        if (needle.phrase if not needle.words else needle.phrase.strip()) in phrase:
            yield Leak(question_id=needle.question_id, sample_id=sample_id, kind="copy", overlap=1.0)
    words = content_words(phrase)
    there = set(words)
    for needle in {needle for word in there for needle in index.get(word, ())}:
        if len(needle.words & there) < needle.needed:
            continue
        if needle.phrase in phrase:
            yield Leak(question_id=needle.question_id, sample_id=sample_id, kind="copy", overlap=1.0)
        elif (together := _most_together(needle, words)) >= max(2, needle.needed):
            overlap = together / len(needle.words)
            yield Leak(question_id=needle.question_id, sample_id=sample_id, kind="near_copy", overlap=overlap)


def _most_together(needle: _Needle, words: Sequence[str]) -> int:
    """The most different words of the needle that stand within its reach of one another."""
    places = [place for place, word in enumerate(words) if word in needle.words]
    return max((len(needle.words.intersection(words[place : place + needle.reach])) for place in places), default=0)
