"""Multiple choice: how the options stand below a question, and which of them an answer names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .answers import is_correct
from .normalise import normalise

_LETTERS = "ABCDEFGHIJ"
MOST_OPTIONS = len(_LETTERS)
"""Of one question."""
_BY_LETTER = re.compile(
    r"\W*(?:(?:the )?(?:(?:correct|right|best) )?(?:answer|option|choice)(?: is)?\W*)?([A-J])(?:[).:,\]*]|\s*$)",
    re.IGNORECASE,
)
"""A letter that stands alone or with a mark behind it: "A larch" begins with an article."""

_ANOTHER = re.compile(r"(?:[\s,(]|\W*\b(?:and|or)\b\W*)([A-J])(?=[).:,\]]|\s*$)")
"""One more letter behind it, or several: "A, B and C"."""


def with_options(question: str, options: Sequence[str]) -> str:
    """The question, a blank line and the options with a letter each; without options the question alone."""
    listed = "".join(f"\n{letter}) {option}" for letter, option in zip(_LETTERS, options, strict=False))
    return f"{question}\n{listed}" if options else question


def chosen(answer: str, options: Sequence[str]) -> int | None:
    """The index of the option that the answer's first line names, by its letter or its words.

    None where it names none of them, or several. One that it denies it does not name (`answers.is_correct`).
    """
    line = next((line for line in answer.splitlines() if line.strip()), "")
    if (by_letter := _BY_LETTER.match(line)) and (index := _LETTERS.index(by_letter[1].upper())) < len(options):
        others = {_LETTERS.index(letter) for letter in _ANOTHER.findall(line[by_letter.end(1) :])} - {index}
        return None if any(other < len(options) for other in others) else index
    said = f" {normalise(line)} "
    wordings = [f" {normalise(option)} " for option in options]
    if said.strip() and said in wordings:
        return wordings.index(said)
    # An option inside another one ("oak" in "black oak") is not named by it.
    there = [index for index, wording in enumerate(wordings) if wording.strip() and is_correct(line, [options[index]])]
    named = [
        index for index in there if not any(wordings[index] in wordings[other] for other in there if other != index)
    ]
    return named[0] if len(named) == 1 else None
