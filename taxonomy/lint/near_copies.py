"""Seed examples that are nearly the same, in one leaf or in different ones, found without comparing all with all.

A text is the set of its runs of three words; two texts are near copies when the sets' Jaccard similarity is at least
0.7: one other word in a question of fifteen, a few in a paragraph. Of a long text only the smallest hashes are kept
(Broder 1997, "On the resemblance and containment of documents": a bottom-k sketch), and only texts that share one of
their very smallest are compared at all.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import repeat
from typing import NamedTuple
from zlib import crc32

SIMILAR = 0.7
"""On both public trees this finds four pairs that are not equal, three of which differ in the format that they ask for;
0.4 finds fifteen more, and all but one of them are different tasks."""

_MIN_WORDS = 8
"""Of shorter texts only equal ones are copies: in them each word matters."""
_SKETCH = 64
"""Hashes kept of a text; the estimate of 0.7 is then right within 0.06 (one standard deviation)."""
_KEYS = 5
"""Texts are compared that share one of so many smallest hashes: of near copies 1 - 0.3**5 = 99.8 % do."""
_CROWD = 32
"""Texts remembered for one hash: what everybody says tells nothing."""

_WORD = re.compile(r"\w+")


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
    """The smallest hashes of the text's word runs, ascending, as an array of 64-bit integers.

    Sketches of texts with different contexts have nothing in common: "Yes." is no copy of "Yes." about another text.
    """
    codes = list(map(_code, _WORD.findall(text.casefold())))
    salt = crc32(" ".join(context.casefold().split()).encode()) if context else 0
    if len(codes) < _MIN_WORDS:
        return array("q", [hash((salt, *codes))]).tobytes()
    # Python's hash of numbers, unlike that of texts, is the same in every process.
    hashes = set(map(hash, zip(codes, codes[1:], codes[2:], repeat(salt))))
    return array("q", sorted(hashes)[:_SKETCH]).tobytes()


def near_copies(passages: Iterable[tuple[str, Passage]]) -> Iterator[Copy]:
    """Of (file, passage) in order: each passage that is a near copy of an earlier one, with one that is no copy."""
    known: dict[int, list[tuple[str, Passage, frozenset[int]]]] = {}
    for path, passage in passages:
        hashes = array("q", passage.sketch)
        whole = frozenset(hashes)
        near = (other for key in hashes[:_KEYS] for other in known.get(key, ()) if _are_similar(whole, other[2]))
        if (first := next(near, None)) is not None:
            yield Copy(path, passage, first[0], first[1])
            continue
        for key in hashes[:_KEYS]:
            crowd = known.setdefault(key, [])
            if len(crowd) < _CROWD:
                crowd.append((path, passage, whole))


def _are_similar(left: frozenset[int], right: frozenset[int]) -> bool:
    """Whether two texts are near copies, from their sketches: exact where both are whole."""
    both = left & right
    num_all = len(left) + len(right) - len(both)
    if len(left) < _SKETCH and len(right) < _SKETCH:
        return len(both) >= SIMILAR * num_all
    enough = SIMILAR * min(_SKETCH, num_all)
    return len(both) >= enough and sum(value in both for value in sorted(left | right)[:_SKETCH]) >= enough


@lru_cache(maxsize=1 << 16)
def _code(word: str) -> int:
    return crc32(word.encode())
