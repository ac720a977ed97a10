"""PDF, DOCX and PPTX to Markdown with docling's readers; runs in the process of `converter.py` only.

None of docling's models is used: nothing is fetched, and no page is looked at as a picture. DOCX and PPTX say what is a
heading, a list or a table. A PDF says where each line stands and how high its letters are: lines that follow closely
are a paragraph, higher ones a heading, and what stands at the edge of several pages (running heads, page numbers) and
the lines of a table of contents are left out. Its tables become lines of text, and a scanned page has no text at all.
"""

from __future__ import annotations

import io
import re
import zipfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from .formats import Unreadable

MAX_UNPACKED_MB = 64
"""Of all the XML in a DOCX or PPTX; a thick book has 10."""
MAX_PARTS = 10_000
"""Files in a DOCX or PPTX."""


_READERS = {
    ".pdf": ("docling_parse_backend", "DoclingParseDocumentBackend"),
    ".docx": ("msword_backend", "MsWordDocumentBackend"),
    ".pptx": ("mspowerpoint_backend", "MsPowerpointDocumentBackend"),
}


def office_to_markdown(data: bytes, suffix: str) -> str:
    """The Markdown of a file. Raises Unreadable when it is not what its suffix says, is locked, or is a bomb."""
    if suffix != ".pdf":
        _check_archive(data)
    try:
        return _pdf(data) if suffix == ".pdf" else _declared(data, suffix)
    except MemoryError:
        raise
    except Exception as error:  # docling's readers raise whatever theirs raise
        what = f"this is no {suffix[1:].upper()} file that can be read ({type(error).__name__})"
        raise Unreadable(f"{what}; save it anew, or as Markdown") from error


def _check_archive(data: bytes) -> None:
    """What a part has more than it declares is never unpacked, so that the declared sizes can be believed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise Unreadable("this is no DOCX or PPTX file; save it anew, or as Markdown") from error
    unpacked = sum(part.file_size for part in parts)
    packed = sum(part.compress_size for part in parts)
    xml = sum(part.file_size for part in parts if part.filename.endswith((".xml", ".rels")))
    if len(parts) > MAX_PARTS or xml > MAX_UNPACKED_MB << 20 or unpacked > packed + (MAX_UNPACKED_MB << 20):
        raise Unreadable(f"the file unpacks to {unpacked >> 20} MB in {len(parts)} parts; split it")


def _declared(data: bytes, suffix: str) -> str:
    document = _opened(data, suffix).convert()
    text: str = document.export_to_markdown(escape_html=False, escape_underscores=False, image_placeholder="")
    return text.replace("&#124;", r"\|")  # in tables


def _opened(data: bytes, suffix: str) -> Any:
    """Docling's reader of the file; its `DocumentConverter` would load torch."""
    backend = import_module(f"docling.backend.{_READERS[suffix][0]}")
    document: Any = import_module("docling.datamodel.document").InputDocument(
        path_or_stream=io.BytesIO(data),
        filename=f"document{suffix}",
        format=import_module("docling.datamodel.base_models").InputFormat(suffix[1:]),
        backend=getattr(backend, _READERS[suffix][1]),
    )
    if not document.valid:
        raise Unreadable("the file is locked with a password, or broken; save it anew, or as Markdown")
    return document._backend  # noqa: SLF001 (the way in that needs no pipeline and so no models)


class Line(NamedTuple):
    """A line of a page: its text, the top and bottom of its letters counted from the top of the page, in points."""

    text: str
    top: float
    bottom: float
    page: int

    @property
    def height(self) -> float:
        """Of the letters."""
        return self.bottom - self.top


def _pdf(data: bytes) -> str:
    pages: dict[int, list[Line]] = {}
    for page in _opened(data, ".pdf").iter_pages():
        found = page.get_segmented_page()
        height = page.get_size().height
        boxes = [(cell.text, cell.rect.to_bounding_box().to_top_left_origin(height)) for cell in found.textline_cells]
        number = page.page_no
        pages[number] = [Line(" ".join(text.split()), box.t, box.b, number) for text, box in boxes if text.strip()]
    return lines_to_markdown([pages[number] for number in sorted(pages)])


def lines_to_markdown(pages: Sequence[Sequence[Line]]) -> str:
    """The paragraphs and headings of pages whose lines are given in the order of reading."""
    running = _running(pages)
    lines = [line for page in pages for line in page if _place(line) not in running and not _LEADERS.search(line.text)]
    if not lines:
        return ""
    usual = _usual_height(lines)
    levels = _levels(lines, usual)
    paragraphs = [(levels[0], [lines[0]])]
    for (before, level_before), (line, level) in pairwise(zip(lines, levels, strict=True)):
        if level == level_before and _goes_on(before, line, usual, level):
            paragraphs[-1][1].append(line)
        else:
            paragraphs.append((level, [line]))
    written = ((level, _joined(paragraph)) for level, paragraph in paragraphs)
    return "\n\n".join(f"{'#' * level} {text}" if level else text for level, text in written) + "\n"


_EDGE_LINES = 2
_HEADING = 1.15
"""Times the usual height. In LaTeX's classes a subsection has 1.2, a section 1.4, a chapter 2."""
_GAP = 0.7
"""Times the usual height: the widest gap between two lines of a paragraph."""
_BULLET = re.compile(r"[•▪‣◦]\s*")
_ITEM = re.compile(rf"{_BULLET.pattern}|[–-]\s|\d{{1,3}}[.)]\s")  # noqa: RUF001
_LEADERS = re.compile(r"(\. ?){5}")
"""Between a heading and its page in a table of contents."""


def _running(pages: Sequence[Sequence[Line]]) -> set[tuple[str, int]]:
    """What stands, numbers aside, at the same place among the first or last lines of three pages or more."""
    edges: Counter[tuple[str, int]] = Counter()
    for page in pages:
        edges.update({_place(line) for line in (*page[:_EDGE_LINES], *page[-_EDGE_LINES:])})
    return {place for place, number in edges.items() if number > 2}


def _place(line: Line) -> tuple[str, int]:
    return re.sub(r"\d+|\b[ivxlc]+\b", "#", line.text), round(line.top)


def _usual_height(lines: Sequence[Line]) -> float:
    """The median of all letters."""
    num_letters: Counter[float] = Counter()
    for line in lines:
        num_letters[line.height] += len(line.text)
    heights = sorted(num_letters)
    up_to = list(accumulate(num_letters[height] for height in heights))
    return heights[bisect_left(up_to, up_to[-1] / 2)]


def _levels(lines: Sequence[Line], usual: float) -> list[int]:
    """Of each line the level of a heading, 0 for text: the highest letters are the title's, the next the chapters'."""
    is_heading = [line.height > _HEADING * usual for line in lines]
    heights = {round(line.height) for line, high in zip(lines, is_heading, strict=True) if high}
    rank = {height: min(rank, 6) for rank, height in enumerate(sorted(heights, reverse=True), 1)}
    return [rank[round(line.height)] if high else 0 for line, high in zip(lines, is_heading, strict=True)]


def _goes_on(before: Line, line: Line, usual: float, level: int) -> bool:
    """Whether a line is of the same paragraph, or heading, as the one before it."""
    if _ITEM.match(line.text):
        return False
    if (
        line.page != before.page or line.top < before.top
    ):  # over the end of a page or column goes what is not at its own
        return not level and not before.text.endswith((".", "!", "?", ":", "。"))
    return line.top - before.bottom < _GAP * usual


def _joined(paragraph: Sequence[Line]) -> str:
    text = paragraph[0].text
    for line in paragraph[1:]:
        split_word = re.search(r"[a-z]-$", text) and re.match("[a-z]", line.text)
        text = text[:-1] + line.text if split_word else f"{text} {line.text}"
    return _BULLET.sub("- ", text, count=1) if _BULLET.match(text) else text
