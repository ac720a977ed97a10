"""Two texts side by side on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from .terminal import cells_of, cut, printable

_GAP = "   "


def side_by_side(texts: Sequence[tuple[str, str]], cells: int) -> str:
    """Texts, each below its name, in columns of the same width; together they take at most `cells` in a line."""
    width = (cells - len(_GAP) * (len(texts) - 1)) // len(texts)
    columns = [[cut(name, width), "-" * width, *_wrapped(text, width)] for name, text in texts]
    rows = zip_longest(*columns, fillvalue="")
    return "\n".join(_GAP.join(_filled(line, width) for line in row).rstrip() for row in rows)


def _filled(line: str, width: int) -> str:
    return line + " " * (width - cells_of(line))


def _wrapped(text: str, width: int) -> Iterator[str]:
    """Lines of at most `width` cells, broken between words, and inside a word that is longer than a line."""
    for paragraph in text.splitlines():
        line = ""
        for word in printable(paragraph).split(" "):
            if line and cells_of(f"{line} {word}") > width:
                yield line
                line = word
            else:
                line = f"{line} {word}" if line else word
            while cells_of(line) > width:
                head = cut(line, width + 1)[:-1]
                yield head
                line = line[len(head) :]
        yield line
