"""Coverage: which sentences of a document the accepted samples touch, and which nothing was made of."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
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


class Sentence(Record):
    """A sentence of a document, and how many samples touch it. `span`: its characters in the document's text."""

    text: str
    span: tuple[int, int]
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
            places = _places(sample, document.path)
            counts.update(number for number in book.touched(sample) if _is_within(book.spans[number], places))
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
        self._there: defaultdict[str, list[int]] = defaultdict(list)
        for number, known in enumerate(self._stems):
            for stem in known:
                self._there[stem].append(number)
        self._of_fact: dict[str, set[int]] = {}

    def touched(self, sample: Sample) -> set[int]:
        """The numbers of the sentences that a sample touches."""
        said = _stems(" ".join(message.content for message in sample.messages))
        shared = Counter(number for stem in said for number in self._there.get(stem, ()))
        told = {number for number, count in shared.items() if count >= _TOLD * len(self._stems[number])}
        return told | (self._with_fact(sample.source.fact) or self._with_answer(sample.answer, shared))

    def _with_fact(self, fact: str) -> set[int]:
        fact = " ".join(fact.split())
        if fact and fact not in self._of_fact:
            found = {number for number, text in enumerate(self.texts) if fact in text or text in fact}
            self._of_fact[fact] = found
        return self._of_fact.get(fact, set())

    def _with_answer(self, answer: str, shared: Counter[int]) -> set[int]:
        wanted = _stems(answer)
        holding = [number for number in shared if wanted and wanted <= self._stems[number]]
        most = max((shared[number] for number in holding), default=0)
        return {number for number in holding if shared[number] == most > len(wanted)}


def _spans(text: str) -> list[tuple[int, int]]:
    """The spans of what looks like sentences, without the space between them."""
    ends = list(_END.finditer(text))
    starts, stops = [0, *(end.end() for end in ends)], [*(end.start() for end in ends), len(text)]
    return [(start, stop) for start, stop in zip(starts, stops, strict=True) if text[start:stop].strip()]


def _stems(text: str) -> frozenset[str]:
    return frozenset(stems(content_words(text)))


def _places(sample: Sample, document: str) -> list[tuple[int, int] | None]:
    """Where in a document a sample may come from; None: anywhere."""
    source = sample.source
    named = [(source.document, source.span), *((place.document, place.span) for place in source.also)]
    return [span for path, span in named if path in {"", document}]


def _is_within(span: tuple[int, int], places: Iterable[tuple[int, int] | None]) -> bool:
    return any(place is None or (span[0] < place[1] and place[0] < span[1]) for place in places)
