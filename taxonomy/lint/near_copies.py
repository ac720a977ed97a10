"""Seed examples that are nearly the same, in one leaf or in different ones, found without comparing all with all.

A text is the set of its runs of three words; two texts are near copies when the sets' Jaccard similarity is at least
0.7: one other word in a question of twenty, a few in a paragraph. A long text is told by its two ends: the
beginning of the question and the end of the answer. Only texts are compared that share some of their smallest hashes
(Broder 1997, "On the resemblance and containment of documents").
"""

from __future__ import annotations

import re
import string
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import NamedTuple
from zlib import crc32

SIMILAR = 0.7
"""On both public trees this finds two pairs that are not equal, which differ in the format that they ask for; 0.4 finds
fourteen more, most of them the same question about other things."""

_MIN_WORDS = 8
"""Of shorter texts only equal ones are copies: in them each word matters."""
_END, _LONG = 32, 12
"""Words that are looked at on either end, and the characters for each, so that long texts are not read as a whole.

On both public trees this finds all but one of the pairs that whole texts find, and no other.
"""
_KEYS, _SHARED = 7, 3
"""Texts are compared that share three of their seven smallest hashes: of near copies 97 % do (a binomial of 0.7)."""
_CROWD = 64
"""Texts remembered for one hash: what everybody says tells nothing."""

_WORD = re.compile(r"\w+")
_WORD_SIGNS = bytes(sign if chr(sign).isalnum() or sign == ord("_") else ord(" ") for sign in range(128)) + bytes(128)
"""Makes spaces of what stands between words: of ASCII this leaves what `_WORD` finds, in a third of the time."""
_LOWER, _SPACE = bytes(range(256)).lower(), string.whitespace.encode()
"""For `bytes.translate` too: contexts are equal whatever the spacing and the case of their Latin letters."""


class Passage(NamedTuple):
    """A seed example or a pair: where it stands in its file, and the sketch of what it says."""

    line: int
    column: int
    sketch: bytes


class Copy(NamedTuple):
    """A passage of the file `path` that is nearly the same as an earlier one."""

    path: str
    passage: Passage
    first_path: str
    first: Passage


def sketch(text: str, context: str = "") -> bytes:
    """The hashes of the text's word runs, ascending, as an array of 32-bit integers.

    Sketches of texts with different contexts have nothing in common: "Yes." is no copy of "Yes." about another text.
    """
    salt = crc32(context.encode().translate(_LOWER, _SPACE)) if context else 0
    codes = list(map(crc32, _ends(text), repeat(salt)))
    runs = zip(codes, codes[1:], codes[2:], strict=False) if len(codes) >= _MIN_WORDS else [(salt, *codes)]
    # Python's hash of numbers, unlike that of texts, is the same in every process. Half of its bits are enough.
    hashes = array("I", array("q", map(hash, runs)).tobytes())[::2]
    return array("I", sorted(set(hashes))).tobytes()


def _ends(text: str) -> list[bytes]:
    """The first and the last words."""
    if len(text) > 2 * _END * _LONG:
        return _words(text[: _END * _LONG])[:_END] + _words(text[-_END * _LONG :])[-_END:]
    words = _words(text)
    return words if len(words) <= 2 * _END else words[:_END] + words[-_END:]


def _words(text: str) -> list[bytes]:
    text = text.casefold()
    words = text.encode().translate(_WORD_SIGNS) if text.isascii() else " ".join(_WORD.findall(text)).encode()
    return words.split()


def near_copies(passages: Iterable[tuple[str, Passage]]) -> Iterator[Copy]:
    """Of (file, passage) in order: each passage that is a near copy of an earlier one, with one that is no copy."""
    texts = [(path, passage, array("I", passage.sketch[: 4 * _KEYS])) for path, passage in passages]
    counts = Counter(chain.from_iterable(keys for _, _, keys in texts))
    firsts: list[tuple[str, Passage, frozenset[int]]] = []
    known: dict[int, list[int]] = {}
    """Hash -> the indices of `firsts` among whose smallest it is."""
    for path, passage, smallest in texts:
        keys = [key for key in smallest if counts[key] > 1]
        enough = min(_SHARED, len(smallest))
        if len(keys) < enough:
            continue
        whole = frozenset(array("I", passage.sketch))
        shared = Counter(chain.from_iterable(known.get(key, ()) for key in keys))
        near = (firsts[at] for at, num in shared.items() if num >= enough and _are_similar(whole, firsts[at][2]))
        if (first := next(near, None)) is not None:
            yield Copy(path, passage, first[0], first[1])
            continue
        for key in keys:
            crowd = known.setdefault(key, [])
            if len(crowd) < _CROWD:
                crowd.append(len(firsts))
        firsts.append((path, passage, whole))


def _are_similar(left: frozenset[int], right: frozenset[int]) -> bool:
    num_shared = len(left & right)
    return num_shared >= SIMILAR * (len(left) + len(right) - num_shared)
