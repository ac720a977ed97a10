"""What no honest text holds and some code behind us cannot bear: control characters, and marks piled without end."""

from __future__ import annotations

import re
import unicodedata

_MAX_MARKS = 30
"""Marks on one letter: the bound of the Stream-Safe Text Format (Unicode Standard Annex 15, section 13).

Normalising sorts the marks of a letter by insertion: 100,000 of them take CPython minutes.
"""

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
"""What YAML forbids in a file but lets an escape write; a terminal would obey some of them."""

_PLAIN = re.compile(
    "[\t\n\r\x20-\x7e\x85\xa0-\u02ff\u0370-\u0481\u2010-\u2027\u2030-\u205e\u2100-\u2bff"
    "\ue000-\uf8ff\U0001f300-\U0001faff]*"
)
"""Neither controls nor marks: nearly all texts hold nothing else, and are known by it at a fifth of the cost."""

_MANY_SIGNS = re.compile(rf"[^\x00-\u02ff][^\w\s\x00-\u02ff]{{{_MAX_MARKS},}}")
"""Where too many marks can stand: none is a word character, but for the two voicing signs of narrow Katakana.

The first sign is matched by itself because Python searches for a plain set of characters four times as fast.
"""


def text_fault(text: str) -> str | None:
    """What is wrong with a text and what to do about it, or None."""
    if _PLAIN.fullmatch(text):
        return None
    if control := _CONTROLS.search(text):
        return f"the control character {control.group()!r} cannot stand in a text; remove it"
    signs = text.replace("\uff9e", "\u3099").replace("\uff9f", "\u309a")
    if any(_piled(match.group()) for match in _MANY_SIGNS.finditer(signs)):
        return f"more than {_MAX_MARKS} accents or other marks on one letter; remove them"
    return None


def _piled(signs: str) -> bool:
    """Whether more than `_MAX_MARKS` marks follow one another, once taken apart."""
    run = 0
    for sign in signs:
        run = run + 1 if unicodedata.combining(unicodedata.normalize("NFKD", sign)[0]) else 0
        if run > _MAX_MARKS:
            return True
    return False
