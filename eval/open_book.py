"""Questions with the document before them: what retrieval would give, the upper reference of what training can teach.

The passages of a leaf are ranked by BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", with
the constants that Lucene has) and the best stand before the question, in the document's order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..core.config import Documents
from ..core.normalise import content_words, normalise
from ..taxonomy.chunks import split
from ..taxonomy.documents import load_documents
from ..taxonomy.leaf import Leaf
from ..taxonomy.source import Source

MOST_WORDS = 600
"""Of all passages before a question: with it and the answer they fit into 1,536 tokens, in English. People ask in other
words than the document's, so a passage or two would not do: docs/log.md."""
_CHUNK_TOKENS = 150
_K1, _B = 1.2, 0.75


def read_passages(
    leaves: Iterable[Leaf], source: Source, cache: Path, settings: Documents
) -> dict[str, tuple[str, ...]]:
    """Leaf -> its documents in passages of 40 to 110 words; without the leaves that have none. Raises TaxonomyError."""
    found: dict[str, tuple[str, ...]] = {}
    for leaf in leaves:
        documents = load_documents(leaf, source, cache, settings)
        if chunks := [chunk.text for document in documents for chunk in split(document, _CHUNK_TOKENS)]:
            found[leaf.id] = tuple(chunks)
    return found


def with_passages(question: str, passages: Sequence[str]) -> str:
    """The question as it is asked with the document at hand."""
    text = "\n\n".join(best_passages(question, passages))
    return f"Answer the question with what the text says.\n\nText:\n{text}\n\nQuestion: {question}"


def best_passages(question: str, passages: Sequence[str], most_words: int = MOST_WORDS) -> list[str]:
    """The best for a question, as many as `most_words` allow but one at least, in the order in which they stand."""
    scores = _scores(question, passages)
    chosen, left = list[int](), most_words
    for index in sorted(range(len(passages)), key=lambda index: (-scores[index], index)):
        left -= len(passages[index].split())
        if chosen and left < 0:
            break
        chosen.append(index)
    return [passages[index] for index in sorted(chosen)]


def _scores(question: str, passages: Sequence[str]) -> list[float]:
    counts = [Counter(_words(passage)) for passage in passages]
    mean = sum(count.total() for count in counts) / len(counts) or 1.0
    weights = {word: _weight(word, counts) for word in dict.fromkeys(_words(question))}
    return [sum(weight * _term(count, word, mean) for word, weight in weights.items()) for count in counts]


def _words(text: str) -> list[str]:
    return content_words(normalise(text))


def _weight(word: str, counts: Sequence[Mapping[str, int]]) -> float:
    there = sum(word in count for count in counts)
    return math.log(1 + (len(counts) - there + 0.5) / (there + 0.5))


def _term(count: Counter[str], word: str, mean: float) -> float:
    often = count[word]
    return often * (_K1 + 1) / (often + _K1 * (1 - _B + _B * count.total() / mean))
