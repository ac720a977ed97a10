"""The form of a skill's solutions: what all that a person wrote for a leaf have in common, new ones must have too.

It costs no call, and it finds what a small judge does not see: he says yes to three words on one line where every
example has a line for each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from ...core.records import Sample
from ..words import words
from .drop import Drop, Filter

_FEWEST_SEEDS = 3
"""Of fewer nothing is known."""
_LENGTHS, _SLACK = 5, 20
"""A new answer may be so many times as long as the longest of the seeds and so many words more, or a part of the
shortest."""
_BULLET = re.compile(r"\s*(?:[-*\u2022]|\d+[.)])\s+\S")


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


_TRAITS: dict[str, Callable[[str], bool]] = {
    "a list with a mark before each line": lambda text: all(_BULLET.match(line) for line in _lines(text)),
    "several lines": lambda text: len(_lines(text)) > 1,
    "one line": lambda text: len(_lines(text)) == 1,
    "JSON": _is_json,
    "a code block": lambda text: "```" in text,
}


def form_of(answers: Sequence[str]) -> Filter:
    """Drop an answer that lacks a trait which all of these have, or is far longer or shorter than any of them."""
    shared = [name for name, has in _TRAITS.items() if len(answers) >= _FEWEST_SEEDS and all(map(has, answers))]
    if "a list with a mark before each line" in shared and "one line" not in shared:
        shared = [name for name in shared if name != "several lines"]  # a list may have one entry
    lengths = [len(words(answer)) for answer in answers]

    def is_alike(sample: Sample) -> Drop | None:
        if lacking := next((name for name in shared if not _TRAITS[name](sample.answer)), ""):
            return Drop("not_the_form_of_the_seeds", lacking)
        count = len(words(sample.answer))
        if len(answers) < _FEWEST_SEEDS or min(lengths) / _LENGTHS <= count <= max(lengths) * _LENGTHS + _SLACK:
            return None
        return Drop("not_the_form_of_the_seeds", f"{count} words")

    return is_alike
