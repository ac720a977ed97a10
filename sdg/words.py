"""Words of a text, as filters compare them. Function words and endings are those of English."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable

from ..core.normalise import EMOJI, MARKS, OPERATOR, SILENT

_WORD = re.compile(
    rf"[\u3040-\u30ff\u3400-\u9fff]|\d+(?:[.,:]\d+)*|[^\W_]+(?:(?:'(?=[^\W_])|[{MARKS}])+[^\W_]*)*(?:\+\+|#(?!\w))?"
    rf"|{OPERATOR}|[{EMOJI}]"
)
"""A number with its separators, a word with its apostrophes and marks, one sign of a script that writes without spaces,
a sign that reckons or compares, or an emoji."""

_FUNCTION_WORDS = """
    a am an and any are as at be been being but by can could did do does for from had has have he her his i if in into
    is it its may might must no not of on or our please shall she should so some such than that the their them then
    there these they this those to was we were will with would yes you your
"""
_FUNCTION = frozenset(_FUNCTION_WORDS.split())


def words(text: str) -> list[str]:
    """The words of a text, without case, punctuation or compatibility forms."""
    if not text.isascii():
        text = SILENT.sub("", unicodedata.normalize("NFKC", text)).replace("\u2019", "'")
    return _WORD.findall(text.casefold())


def content_words(text: str) -> list[str]:
    """The words that carry meaning (English function words left out); a possessive counts as its noun."""
    return [word for raw in words(text) if (word := raw.removesuffix("'s")) not in _FUNCTION]


def word_pairs(text: str) -> frozenset[tuple[str, ...]]:
    """The pairs of neighbouring words, or the only word."""
    all_words = words(text)
    return frozenset(itertools.pairwise(all_words)) or frozenset([tuple(all_words)])


def similarity(first: str, second: str) -> float:
    """Jaccard similarity of two texts' word pairs, from 0 to 1."""
    one, two = word_pairs(first), word_pairs(second)
    return len(one & two) / len(one | two)


_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|e)$")


def stems(some_words: Iterable[str]) -> list[str]:
    """Words without possessive, plural and verb endings of English: "rings", "ringing" and "ring" are one."""
    return [_ENDING.sub("", word.removesuffix("'s")) for word in some_words]


_SENTENCE_END = re.compile(r"(?<=[.!?\u061f\u06d4])\s+|(?<=[\u3002\uff01\uff1f\u0964])\s*")
LIST_MARK = re.compile(r"\s*(?:[-*\u2022]|\d+[.)])\s+")


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text that hold a word, without the marks of lists."""
    lines = (line[mark.end() :] if (mark := LIST_MARK.match(line)) else line for line in text.splitlines())
    return [part for line in lines for part in _SENTENCE_END.split(line) if words(part)]
