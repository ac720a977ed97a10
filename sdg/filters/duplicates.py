"""Samples that ask the same as an earlier one, found as they come, without comparing all with all.

The same: equal questions (a second answer to one question would contradict the first), or equal answers and word pairs
of the questions alike to a threshold or more. The earlier one stays, so what stays follows from the order of asking.
A row may ask in the middle of its work, before its judge is paid, as long as what is in the index comes before it and
is decided: then it is dropped in any case, and what the run makes does not depend on timing.

Of a question with more than 32 word pairs the 32 with the smallest hashes stand for it (MinHash: Broder 1997, "On the
resemblance and containment of documents"). That errs towards keeping: at a threshold of 0.8, of questions of 100 words
that are alike to 0.9, 0.8 and 0.7 it drops 92, 26 and 3 %. The sets are searched exactly, by prefixes (Xiao et al.
2008, "Efficient similarity joins for near duplicate detection"): nothing alike is missed, as with bands of hashes, and
a template that all questions share costs nothing.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from zlib import crc32

from ...core.records import Reject, Sample
from ..words import word_pairs, words
from .drop import Drop

_SKETCH = 32
_FIRST_INDEX = 64
"""So few questions are compared one by one."""


class Duplicates:
    """What was kept so far: an index that a sample is looked up in before it is added."""

    def __init__(self, threshold: float) -> None:
        """`threshold`: the Jaccard similarity, above 0, from which two questions with one answer are the same."""
        self._threshold = threshold
        self._questions: set[bytes] = set()
        self._by_answer: defaultdict[bytes, _Alike] = defaultdict(lambda: _Alike(threshold))

    def drop(self, sample: Sample) -> Drop | None:
        """Why the sample repeats one that was added: None where it does not."""
        asks, answer = _sides(sample)
        if _key(sample, asks) in self._questions:
            return Drop("same_question")
        alike = self._by_answer.get(_key(sample, answer))
        score = alike.most(_sketch(asks)) if alike else 0.0
        return Drop("near_duplicate", f"{score:.2f}") if score >= self._threshold else None

    def add(self, sample: Sample) -> None:
        """Remember a sample that stays."""
        asks, answer = _sides(sample)
        self._questions.add(_key(sample, asks))
        self._by_answer[_key(sample, answer)].add(_sketch(asks))


def without_duplicates(samples: Iterable[Sample], threshold: float) -> tuple[list[Sample], list[Reject]]:
    """Keep the first of every group of samples of one kind that ask the same; the order of `samples` decides alone."""
    kept: list[Sample] = []
    rejects: list[Reject] = []
    known = Duplicates(threshold)
    for sample in samples:
        if drop := known.drop(sample):
            rejects.append(Reject(sample=sample, step="duplicates", reason=drop.reason, score=drop.score))
        else:
            kept.append(sample)
            known.add(sample)
    return kept, rejects


def _sides(sample: Sample) -> tuple[str, str]:
    """What a sample asks, and the answer. Of a document the text alone counts: many have one title."""
    return (sample.answer, "") if sample.kind == "document" else (sample.question, sample.answer)


def _key(sample: Sample, text: str) -> bytes:
    """A text's words, in 16 bytes: of 100,000 long questions the words themselves would take half a gigabyte."""
    return blake2b("\n".join([sample.kind, *words(text)]).encode(), digest_size=16).digest()


def _sketch(question: str) -> frozenset[int]:
    pairs = word_pairs(question)
    hashes = {crc32(" ".join(pair).encode()) for pair in pairs}  # Python's own hash of text is another in each process
    return frozenset(sorted(hashes)[:_SKETCH])


class _Alike:
    """Sets, and which of them is most like another.

    Two sets that are alike share an item among their first few, in any order of items that is the same for all. Rare
    ones come first, so that few sets share these. How rare, is counted again whenever there are twice as many sets.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._sets: list[frozenset[int]] = []
        self._counts: Counter[int] = Counter()
        self._places: dict[tuple[int, int, int], list[int]] = {}
        """(item, the size of the set, the item's place in it) -> sets."""
        self._next_index = _FIRST_INDEX

    def add(self, items: frozenset[int]) -> None:
        self._sets.append(items)
        if len(self._sets) == self._next_index:
            self._next_index *= 2
            self._counts = Counter(item for each in self._sets for item in each)
            self._places = {}
            for number in range(len(self._sets)):
                self._enter(number)
        elif self._places:
            self._enter(len(self._sets) - 1)

    def most(self, items: frozenset[int]) -> float:
        """The highest similarity with any of the sets; 0 where none reaches the threshold."""
        if not self._places:
            near: Iterable[int] = range(len(self._sets))
        else:
            first = self._first(items)
            places = _places_to_look(len(items), self._threshold)
            near = {set_ for at, size, place in places for set_ in self._places.get((first[at], size, place), ())}
        best = max((_jaccard(items, self._sets[number]) for number in near), default=0.0)
        return best if best >= self._threshold else 0.0

    def _enter(self, number: int) -> None:
        items = self._sets[number]
        for place, item in enumerate(self._first(items)):
            self._places.setdefault((item, len(items), place), []).append(number)

    def _first(self, items: frozenset[int]) -> Sequence[int]:
        """As many of the rarest items as a set that is like this one cannot lack all."""
        counts = self._counts
        return sorted(items, key=lambda item: (counts[item], item))[: len(items) - _fewest(self._threshold, items) + 1]


def _jaccard(one: frozenset[int], two: frozenset[int]) -> float:
    shared = len(one & two)
    return shared / (len(one) + len(two) - shared)


def _fewest(threshold: float, items: frozenset[int]) -> int:
    """How many items a set that is alike shares at least."""
    return math.ceil(threshold * len(items) - 1e-9)


@lru_cache(maxsize=1024)
def _places_to_look(size: int, threshold: float) -> Sequence[tuple[int, int, int]]:
    """(place in a set of `size`, size of another, place in it) where the first common item of alike sets can be.

    Behind it too few others are left, if it stands too far back in either.
    """
    found: list[tuple[int, int, int]] = []
    for other in range(math.ceil(threshold * size - 1e-9), min(_SKETCH, math.floor(size / threshold + 1e-9)) + 1):
        shared = math.ceil(threshold / (1 + threshold) * (size + other) - 1e-9)
        found += [(at, other, place) for at in range(size - shared + 1) for place in range(other - shared + 1)]
    return found
