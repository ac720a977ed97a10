"""Texts of others in Markdown that a forge or a chat shows: nothing in them is a link, a mention, an image or markup.

GitHub links `@name`, `#12`, addresses and hashes wherever they stand and however they are escaped, but not in code. So
whatever is not plainly a word or a number stands as code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MOST_CHARACTERS = 400

_OPENING, _CLOSING = r"""[("']*""", r"""[)"'.,;:!?%…]*"""
_LETTERS = r"[^\W\d_]+"
_WORD = rf"{_LETTERS}(?:[-']{_LETTERS})*"
_NUMBER = r"[+-]?\d[\d,]*(?:\.\d+)?"
_HARMLESS = re.compile(rf"{_OPENING}(?:{_WORD}|{_NUMBER})?{_CLOSING}|[<=+-]")
_TOKEN = re.compile(r"(\(?)`([^`]+)`([).,;:!?]*)(?=\s|$)|\S+")
_WRAPPED = re.compile(rf"({_OPENING})(.+?)({_CLOSING})")


def code(text: str) -> str:
    """A text as code on one line: what cannot be seen is replaced by a mark, a very long one loses its end."""
    return _code(_one_line(text))


def prose(text: str) -> str:
    """Sentences that hold names and words of others: whatever of them could be more than a word stands as code.

    What stands between backticks already stays one piece. For the midst of a line: a lone sign at its beginning would
    make it a list.
    """
    return " ".join(map(_token, _TOKEN.finditer(_one_line(text))))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in (head, *rows))
    written = [f"| {line} |" for line in lines]
    return "\n".join([written[0], f"|{'---|' * len(head)}", *written[1:]])


def _token(found: re.Match[str]) -> str:
    return f"{found[1]}{_code(found[2])}{found[3]}" if found[2] else _word(found[0])


def _word(word: str) -> str:
    if _HARMLESS.fullmatch(word):
        return word
    wrapped = _WRAPPED.fullmatch(word)
    return f"{wrapped[1]}{_code(wrapped[2])}{wrapped[3]}" if wrapped else _code(word)


def _code(text: str) -> str:
    """Between more backticks than any run in it has."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    apart = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{apart}{text}{apart}{fence}"


def _one_line(text: str) -> str:
    shown = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(text.split()))
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[:_MOST_CHARACTERS]}…"
