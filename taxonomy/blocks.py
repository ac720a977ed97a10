"""Markdown told apart into blocks, as far as cutting it needs: headings, paragraphs, and what must stay whole.

Tables (with pipes, or in HTML) and code (fenced or indented) stay whole. Of CommonMark, quotes and the inside of lists
are read as paragraphs; a heading's line of more than 200 characters is one too, for a hostile one would stand in every
chunk below it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MAX_HEADING = 200
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
_FENCE = re.compile(r"([ \t]*)(`{3,}(?=[^`]*$)|~{3,})")
_ITEM = re.compile(r" {0,3}([-*+]|\d{1,9}[.)])[ \t]")
_INDENTED = re.compile(r" {4}| {0,3}\t")
_HTML_TABLE = re.compile(r"\s*<table\b", re.IGNORECASE)


@dataclass
class Block:
    """Whole lines, in characters of the text. `level` is 0 where it is no heading."""

    start: int
    end: int
    level: int = 0
    title: str = ""
    whole: bool = False
    """A table or code, which is never cut."""

    @property
    def span(self) -> tuple[int, int]:
        """Start and end."""
        return self.start, self.end


def blocks(text: str, *, markdown: bool) -> list[Block]:
    """All lines of `text` that are not blank, in blocks and in order; of plain text, its paragraphs."""
    scanner = _Scanner(text) if markdown else _Paragraphs()
    start = 0
    for line in text.split("\n"):
        scanner.take(line, start, start + len(line))
        start += len(line) + 1
    return scanner.found


class _Paragraphs:
    """Runs of lines without a blank one. `open` is the block that the next line may belong to."""

    def __init__(self) -> None:
        self.found: list[Block] = []
        self.open: Block | None = None

    def take(self, line: str, start: int, end: int) -> None:
        if not line.strip():
            self.open = None
        elif self.open:
            self.open.end = end
        else:
            # A block begins with a letter, so that no cut of it is white space only.
            self.add(Block(start + len(line) - len(line.lstrip()), end))

    def add(self, block: Block) -> None:
        self.open = block
        self.found.append(block)


class _Scanner(_Paragraphs):
    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self._fence = ""  # the open one
        self._html_until = text.lower().rfind("</table")
        self._in_html = False
        self._in_list = False
        self._indented: Block | None = None  # the code that another indented line goes on with, over blank ones
        self._previous = 0  # where the line before this one began

    def take(self, line: str, start: int, end: int) -> None:
        if not (self._goes_on(line, end) or self._heads(line, start, end) or self._opens(line, start, end)):
            if self.open is None and line.strip() and not _INDENTED.match(line):
                self._in_list = bool(_ITEM.match(line))
            super().take(line, start, end)
        if line.strip() and self.open is not self._indented:
            self._indented = None
        self._previous = start

    def _goes_on(self, line: str, end: int) -> bool:
        """Inside a fence or an HTML table, or the next line of indented code."""
        if self.open and (self._fence or self._in_html):
            self.open.end = end
            if (self._fence and _closes(line, self._fence)) or (self._in_html and "</table" in line.lower()):
                self._fence, self._in_html, self.open = "", False, None
            return True
        if self._indented and line.strip():
            if _INDENTED.match(line) and self.open in (None, self._indented):
                self.open = self._indented
                self.open.end = end
                return True
            self.open = None if self.open is self._indented else self.open
        return False

    def _heads(self, line: str, start: int, end: int) -> bool:
        """A heading: a line with `#`, or the line below a paragraph of one line."""
        if len(line) <= _MAX_HEADING and (heading := _HEADING.fullmatch(line)):
            title = re.sub(r"(^|\s)#+\s*$", "", heading[2] or "").strip()
            self.found.append(Block(start, end, len(heading[1]), title))
            self._in_list, self.open = False, None
            return True
        above = self.open
        if above is None or above.whole or not _UNDERLINE.fullmatch(line):
            return False
        title = self._text[above.start : start - 1]
        if "\n" in title or len(title) > _MAX_HEADING or _ITEM.match(title):
            return False
        self.found[-1] = Block(above.start, end, 1 if "=" in line else 2, title.strip())
        self.open = None
        return True

    def _opens(self, line: str, start: int, end: int) -> bool:
        """The first line of a fence, an HTML table or indented code, or the second of a table."""
        if (fence := _FENCE.match(line)) and (self._in_list or not _INDENTED.match(line)):
            self._fence = fence[2]
            self.add(Block(start + len(fence[1]), end, whole=True))
        elif start < self._html_until and _HTML_TABLE.match(line):
            self.add(Block(start, end, whole=True))
            self._in_html = "</table" not in line.lower()
            self.open = self.open if self._in_html else None
        elif self.open is None and not self._in_list and line.strip() and _INDENTED.match(line):
            self._indented = Block(start, end, whole=True)
            self.add(self._indented)
        elif self.open and not self.open.whole and _rules(line) and "|" in self._text[self._previous : start]:
            self._tabulate(self.open, end)
        else:
            return False
        return True

    def _tabulate(self, above: Block, end: int) -> None:
        """The line above is a table's head; what stands over it stays a paragraph."""
        if self._previous <= above.start:
            above.whole, above.end = True, end
        else:
            above.end = self._previous - 1
            self.add(Block(self._previous, end, whole=True))


def _rules(line: str) -> bool:
    """The line between a table's head and its body: `|---|:-:|`."""
    return "|" in line and "-" in line and not line.strip(" \t|:-")


def _closes(line: str, fence: str) -> bool:
    match = _FENCE.match(line)
    return match is not None and match[2].startswith(fence) and not line.strip().strip(fence[0])
