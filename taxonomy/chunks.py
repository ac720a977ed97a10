"""Documents cut into passages: at headings, then paragraphs, sentences and, where nothing else helps, words.

A chunk never reaches over a heading. Together the chunks hold every character of the document that is not white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..core.records import Record
from .documents import Document

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+(?=[^\sa-z])")
_WORD = re.compile(r"\S+")


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


@dataclass
class _Block:
    """A heading, a paragraph or a fenced block: whole lines. `level` is 0 where it is no heading."""

    start: int
    end: int
    level: int = 0
    title: str = ""


@dataclass
class _Section:
    start: int
    heading: str = ""
    end: int = 0
    body: list[_Block] = field(default_factory=list)


def split(document: Document, max_words: int) -> list[Chunk]:
    """The chunks of `document` in order, of `max_words` words at most; the lines of the heading come on top of that."""
    text = document.text
    markdown = not document.path.lower().endswith(".txt")
    chunks: list[Chunk] = []
    for section in _sections(_blocks(text, markdown=markdown)):
        atoms = [atom for block in section.body for atom in _atoms(text, (block.start, block.end), max_words)]
        spans = _packed(text, atoms, max_words) or [(section.start, section.end)]
        spans[0] = (section.start, spans[0][1])
        chunks += [_chunk(document, section.heading, span) for span in spans]
    return chunks


def _chunk(document: Document, heading: str, span: tuple[int, int]) -> Chunk:
    passage = document.text[span[0] : span[1]]
    start = span[0] + len(passage) - len(passage.lstrip())
    text = passage.strip()
    return Chunk(document=document.path, heading=heading, span=(start, start + len(text)), text=text)


def _blocks(text: str, *, markdown: bool) -> list[_Block]:
    blocks: list[_Block] = []
    open_block: _Block | None = None
    fence = ""
    start = 0
    for line in text.split("\n"):
        end = start + len(line)
        if open_block and fence:
            open_block.end = end
            fence = _fence_after(line, fence)
        elif not line.strip():
            open_block = None
        elif markdown and (heading := _HEADING.fullmatch(line)):
            title = re.sub(r"(^|\s)#+\s*$", "", heading[2] or "").strip()
            blocks.append(_Block(start, end, len(heading[1]), title))
            open_block = None
        elif (
            markdown and open_block and _UNDERLINE.fullmatch(line) and text.find("\n", open_block.start, start - 1) < 0
        ):
            title = text[open_block.start : open_block.end].strip()
            blocks[-1] = _Block(open_block.start, end, 1 if "=" in line else 2, title)
            open_block = None
        else:
            if open_block is None:
                open_block = _Block(start, end)
                blocks.append(open_block)
            open_block.end = end
            fence = _fence_after(line, "") if markdown else ""
        start = end + 1
    return blocks


def _fence_after(line: str, fence: str) -> str:
    """The fence that is open after `line`, empty when none is."""
    match = _FENCE.match(line)
    if not fence:
        return match[1] if match else ""
    closed = match is not None and match[1].startswith(fence) and not line.strip().strip(fence[0])
    return "" if closed else fence


def _sections(blocks: list[_Block]) -> Iterator[_Section]:
    """Runs of blocks under one heading. A heading with nothing under it belongs to the section that follows."""
    above: list[_Block] = []
    section: _Section | None = None
    for block in blocks:
        if section is None or (block.level and section.body):
            if section:
                yield section
            section = _Section(block.start)
        if block.level:
            above = [*(heading for heading in above if heading.level < block.level), block]
        else:
            section.body.append(block)
        section.heading = " > ".join(heading.title for heading in above if heading.title)
        section.end = block.end
    if section:
        yield section


def _atoms(text: str, span: tuple[int, int], max_words: int) -> Iterator[tuple[int, int]]:
    """A block whole if it fits, else its sentences, and those that do not fit in pieces of `max_words` words."""
    if _num_words(text, span) <= max_words:
        yield span
        return
    start, end = span
    ends = [match.end() for match in _SENTENCE_END.finditer(text, start, end)]
    for sentence in zip([start, *ends], [*ends, end], strict=True):
        if _num_words(text, sentence) <= max_words:
            yield sentence
            continue
        words = list(_WORD.finditer(text, *sentence))
        for first in range(0, len(words), max_words):
            run = words[first : first + max_words]
            yield run[0].start(), run[-1].end()


def _packed(text: str, atoms: list[tuple[int, int]], max_words: int) -> list[tuple[int, int]]:
    """Neighbours joined as long as they fit."""
    spans: list[tuple[int, int]] = []
    num_words = 0
    for atom in atoms:
        more = _num_words(text, atom)
        if spans and num_words + more <= max_words:
            spans[-1] = (spans[-1][0], atom[1])
            num_words += more
        else:
            spans.append(atom)
            num_words = more
    return spans


def _num_words(text: str, span: tuple[int, int]) -> int:
    return sum(1 for _ in _WORD.finditer(text, *span))
