"""Coverage: which sentences of a document the accepted samples touch, and which nothing was made of."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..core.config import Config
from ..core.records import Record, Sample
from ..taxonomy.documents import Document, load_documents
from ..taxonomy.leaf import Leaf
from ..taxonomy.source import Source
from .flows.texts import WHOLE
from .store import Entry, read_samples
from .words import content_words, stems

_TOLD = 0.5
"""The share of a sentence's words that a sample has to say to touch it."""
_FEWEST_WORDS = 2
"""What has one word that carries meaning tells nothing that could be learned."""

_END = re.compile(
    r"(?<=[.!?])[\"')\]\u201d\u2019]*\s+(?=[^\sa-z])"  # as in taxonomy.chunks, and where a paragraph or an item ends
    r"|(?<=[\u3002\uff01\uff1f\u0964\u06d4])\s*"
    r"|(?<!\s)\s*\n(?=\s*(?:\n|[-*+|>#]|\d+[.)] ))"  # from the run's beginning only: else a long one takes hours
)


Span = tuple[int, int]
"""First character and the one behind the last."""


class Sentence(Record):
    """A sentence of a document, and how many samples touch it. `span`: its characters in the document's text."""

    text: str
    span: Span
    samples: int


def coverage(document: Document, samples: Iterable[Sample]) -> list[Sentence]:
    """The sentences of a document in order, each with the number of samples that touch it; headings are left out.

    A sample touches the sentence that it was made from (its `fact`; where nobody noted one, the sentence with its
    answer and most of its question), and every sentence of which it says half of the words. Where its provenance names
    places, only there. A passage that is a sample as it stands touches nothing: nobody made anything of it.
    """
    book = _Book(document.text)
    counts: Counter[int] = Counter()
    for sample in samples:
        if sample.source.teacher != WHOLE:
            counts.update(book.touched(sample, _places(sample, document.path)))
    return [
        Sentence(text=text, span=span, samples=counts[number])
        for number, (text, span) in enumerate(zip(book.texts, book.spans, strict=True))
    ]


def coverage_of(leaf: Leaf, entry: Entry, source: Source, config: Config, cache: Path) -> dict[str, list[Sentence]]:
    """The sentences of each of a leaf's documents, by path, with the samples of its entry. Raises as reading them."""
    if leaf.kind != "knowledge":
        return {}
    samples, documents = read_samples(entry), load_documents(leaf, source, cache, config.documents)
    return {document.path: coverage(document, samples) for document in documents}


def share_touched(sentences: Sequence[Sentence]) -> float:
    """The share of sentences with a sample, 0 to 1; 1 where there is no sentence."""
    return sum(sentence.samples > 0 for sentence in sentences) / len(sentences) if sentences else 1.0


class _Book:
    """The sentences of a text, to be found by their words."""

    def __init__(self, text: str) -> None:
        found = [(span, " ".join(text[slice(*span)].split())) for span in _spans(text)]
        found = [each for each in found if not each[1].startswith("#") and len(_stems(each[1])) >= _FEWEST_WORDS]
        self.spans, self.texts = [span for span, _ in found], [sentence for _, sentence in found]
        self._stems = [_stems(sentence) for sentence in self.texts]
        self._starts, self._ends = [start for start, _ in self.spans], [end for _, end in self.spans]
        self._there: defaultdict[str, list[int]] = defaultdict(list)
        for number, known in enumerate(self._stems):
            for stem in known:
                self._there[stem].append(number)
        self._of_fact: dict[str, set[int]] = {}

    def touched(self, sample: Sample, places: Sequence[Span | None]) -> set[int]:
        """The numbers of the sentences in these places that a sample touches."""
        said = _stems(" ".join(message.content for message in sample.messages))
        within = None if None in places else {number for place in places if place for number in self._in(place)}
        numbers = within if within is not None else {number for stem in said for number in self._there.get(stem, ())}
        shared = {number: len(said & self._stems[number]) for number in numbers}
        told = {number for number, count in shared.items() if count >= _TOLD * len(self._stems[number])}
        return told | (self._with_fact(sample.source.fact, within) or self._with_answer(sample.answer, shared))

    def _in(self, place: Span) -> range:
        """The numbers of the sentences of which some part lies there."""
        return range(bisect_right(self._ends, place[0]), bisect_left(self._starts, place[1]))

    def _with_fact(self, fact: str, within: set[int] | None) -> set[int]:
        fact = " ".join(fact.split())
        if not fact:
            return set()
        if within is None:
            if fact not in self._of_fact:
                self._of_fact[fact] = self._with_fact(fact, {*range(len(self.texts))})
            return self._of_fact[fact]
        return {number for number in within if fact in self.texts[number] or self.texts[number] in fact}

    def _with_answer(self, answer: str, shared: Mapping[int, int]) -> set[int]:
        wanted = _stems(answer)
        holding = [number for number in shared if wanted and wanted <= self._stems[number]]
        most = max((shared[number] for number in holding), default=0)
        return {number for number in holding if shared[number] == most > len(wanted)}


def _spans(text: str) -> list[Span]:
    """The spans of what looks like sentences, without the space between them."""
    ends = list(_END.finditer(text))
    starts, stops = [0, *(end.end() for end in ends)], [*(end.start() for end in ends), len(text)]
    return [(start, stop) for start, stop in zip(starts, stops, strict=True) if text[start:stop].strip()]


def _stems(text: str) -> frozenset[str]:
    return frozenset(stems(content_words(text)))


def _places(sample: Sample, document: str) -> list[Span | None]:
    """Where in a document a sample may come from; None: anywhere."""
    source = sample.source
    named = [(source.document, source.span), *((place.document, place.span) for place in source.also)]
    return [span for path, span in named if path in {"", document}]
