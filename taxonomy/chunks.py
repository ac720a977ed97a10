"""Documents cut into passages: at headings, then paragraphs, sentences, lines, words and, at the very end, characters.

A chunk never reaches over a heading, and a table or a block of code is never cut. Where a section had to be cut, a
chunk begins with the last sentence of the one before it, if that is short. Together the chunks hold every character of
the document that is not white space.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from ..core.records import Record
from .blocks import Block, blocks
from .documents import Document

BYTES_PER_TOKEN = 4
"""Of UTF-8, a run of white space being one byte. The tokenizer of any endpoint is unknown, so tokens are estimated.
Measured with Qwen2.5's: English 3.8, Markdown with code 3.3, German 3.5, Chinese 4.1, Russian 4.9, Thai 5.4; with small
vocabularies, such as SmolLM2's, English 3.6 and other scripts about half of that."""

_OVERLAP = 0.25
"""The share of the budget that the repeated sentence may take; an ordinary one does at 100 tokens and more."""

# A full stop ends a sentence where a space and no small letter follow; the stops of other scripts always do.
_SENTENCE_END = re.compile(
    r"[.!?][\"'”’»)\]]*\s+(?=[^\sa-z])"  # noqa: RUF001
    r"|[。！？｡।॥؟۔።။។][」』”’）】》\"']*\s*"  # noqa: RUF001
)
_LINE_END = re.compile(r"\n\s*")
_WORD_END = re.compile(r"\s+")

Span = tuple[int, int]


class Chunk(Record):
    """A passage of a document."""

    document: str
    """The document's path."""
    heading: str
    """The headings above it, outermost first: `Title > Section`."""
    span: tuple[int, int]
    """Start and end in the document's text, in characters."""
    text: str
    """The document's text at `span`; a section's first chunk begins with the heading's own line."""
    num_tokens: int
    """As estimated, see BYTES_PER_TOKEN."""
    too_long: bool
    """Over the budget, for it holds a table or a block of code (or one letter with countless accents) that is."""


@dataclass
class _Section:
    start: int
    heading: str = ""
    headings: list[Block] = field(default_factory=list)
    body: list[Block] = field(default_factory=list)


@dataclass(frozen=True)
class _Atom:
    """What is not cut any more."""

    span: Span
    size: int
    last: int
    """Where its last sentence begins; its end, where that is not to be repeated."""


def split(document: Document, max_tokens: int) -> list[Chunk]:
    """The chunks of `document` in order, of about `max_tokens` tokens at most; the headings come on top of that.

    Only a table or a block of code may be longer; its chunk says so.
    """
    text, budget = document.text, max_tokens * BYTES_PER_TOKEN
    markdown = not document.path.lower().endswith(".txt")
    chunks: list[Chunk] = []
    for section in _sections(blocks(text, markdown=markdown)):
        body = section.body
        if sum(_size(text, block.span) for block in section.headings) > budget:  # no headings, whatever they look like
            body = [*section.headings, *body]
        atoms = [atom for block in body for atom in _atoms(text, block, budget)]
        spans = _packed(text, atoms, budget) or [((section.start, section.headings[-1].end), False)]
        first, too_long = spans[0]
        spans[0] = ((section.start, first[1]), too_long)
        chunks += [_chunk(document, section.heading, span, too_long=long) for span, long in spans]
    return chunks


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` is to a language model; see BYTES_PER_TOKEN."""
    return -(-_size(text, (0, len(text))) // BYTES_PER_TOKEN)


def _chunk(document: Document, heading: str, span: Span, *, too_long: bool) -> Chunk:
    passage = document.text[span[0] : span[1]]
    start = span[0] + len(passage) - len(passage.lstrip())
    text = passage.strip()
    return Chunk(
        document=document.path,
        heading=heading,
        span=(start, start + len(text)),
        text=text,
        num_tokens=estimate_tokens(text),
        too_long=too_long,
    )


def _sections(found: list[Block]) -> Iterator[_Section]:
    """Runs of blocks under one heading. A heading with nothing under it belongs to the section that follows."""
    above: list[Block] = []
    section: _Section | None = None
    for block in found:
        if section is None or (block.level and section.body):
            if section:
                yield section
            section = _Section(block.start)
        if block.level:
            above = [*(heading for heading in above if heading.level < block.level), block]
            section.headings.append(block)
        else:
            section.body.append(block)
        section.heading = " > ".join(heading.title for heading in above if heading.title)
    if section:
        yield section


def _atoms(text: str, block: Block, budget: int) -> Iterator[_Atom]:
    """A block whole if it fits or must not be cut, else its sentences, and of those that do not fit the pieces."""
    size = _size(text, block.span)
    if block.whole:
        yield _Atom(block.span, size, block.end)
        return
    sentences = list(_cut(text, block.span, _SENTENCE_END))
    if size <= budget:
        yield _Atom(block.span, size, sentences[-1][0])
        return
    for sentence in sentences:
        size = _size(text, sentence)
        if size <= budget:
            yield _Atom(sentence, size, sentence[0])
        else:
            pieces = _pieces(text, sentence, budget, (_LINE_END, _WORD_END))
            yield from (_Atom(piece, _size(text, piece), piece[1]) for piece in pieces)


def _pieces(text: str, span: Span, budget: int, ends: tuple[re.Pattern[str], ...]) -> Iterator[Span]:
    """`span` cut at the first of `ends`; what is too long still, at the next; at the very end between characters."""
    if _size(text, span) <= budget:
        yield span
    elif ends:
        for piece in _cut(text, span, ends[0]):
            yield from _pieces(text, piece, budget, ends[1:])
    else:
        yield from _letters(text, span, budget)


def _cut(text: str, span: Span, end: re.Pattern[str]) -> Iterator[Span]:
    inner = (match.end() for match in end.finditer(text, *span) if match.end() < span[1])
    return pairwise([span[0], *inner, span[1]])


def _letters(text: str, span: Span, budget: int) -> Iterator[Span]:
    """Runs of whole letters of a word: an accent or a joined sign stays with what it belongs to."""
    start, size = span[0], 1
    word = text[slice(*span)].rstrip()
    for at, letter in enumerate(word, start):
        width = len(letter.encode())
        if size + width > budget and at > start and not _joined(text[at - 1], letter):
            yield start, at
            start, size = at, 1
        size += width
    yield start, span[0] + len(word)


def _joined(before: str, letter: str) -> bool:
    zero_width_joiner = "\u200d"
    return unicodedata.category(letter).startswith("M") or zero_width_joiner in (before, letter)


def _packed(text: str, atoms: list[_Atom], budget: int) -> list[tuple[Span, bool]]:
    """Neighbours joined as long as they fit; and whether they do not."""
    spans: list[tuple[Span, bool]] = []
    size = 0
    before: _Atom | None = None
    for atom in atoms:
        if before and size + atom.size <= budget:
            size += atom.size
            spans[-1] = ((spans[-1][0][0], atom.span[1]), False)
        else:
            start = atom.span[0]
            size = atom.size
            if before and (more := _size(text, (before.last, start))) <= min(budget - size, budget * _OVERLAP):
                start, size = before.last, size + more
            spans.append(((start, atom.span[1]), size > budget))
        before = atom
    return spans


def _size(text: str, span: Span) -> int:
    """Bytes of UTF-8, one for each run of white space, and one more for what follows."""
    return sum(len(word.encode()) + 1 for word in text[slice(*span)].split())
