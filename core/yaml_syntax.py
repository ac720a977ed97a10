"""What libyaml says of broken YAML, told to someone who never learnt YAML: where it broke, and what to do."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

import yaml
from yaml.reader import ReaderError

from .yaml_problem import Problem

_QUOTE = "put the text in quotes"
_BACKSLASH = r"a \ that begins no escape; write \\, or use single quotes"
_NO_WORD = "a text cannot begin with * or & here; put it in quotes"

_AT_PROBLEM = {
    "mapping values are not allowed in this context": f"a ':' where no key can stand; {_QUOTE}, or align the line",
    "did not find expected key": f"neither a key nor the end of the text above; align the line, or {_QUOTE}",
    "did not find expected node content": "a list or a value ends too early; complete it, or put the text in quotes",
    "did not find expected '-' indicator": "the list above goes on here; begin with '- ', or align the line",
    "did not find expected comment or line break": f"after | or > a text begins on the next line; move it, or {_QUOTE}",
    "found a tab character where an indentation space is expected": "a tab; indent with spaces",
    "found unknown escape character": _BACKSLASH,
    "did not find expected hexdecimal number": _BACKSLASH,
    "found invalid Unicode character escape code": "half a character; write the character itself",
    "did not find expected alphabetic or numeric character": _NO_WORD,
    "found undefined alias": f"the alias names nothing; {_QUOTE}",
    "second occurrence": "the anchor (&…) stands twice; rename one, or put the text in quotes",
    "found undefined tag handle": f"a tag (!…) of an unknown kind; {_QUOTE}",
    "but found another document": "a second document begins; a file holds one, so remove the line",
    "did not find expected <document start>": "something stands after the end of the data; remove it",
}
"""What libyaml says -> what we say, at the place where it noticed."""

_AT_CONTEXT = {
    "found unexpected end of stream": "the quote that opens here is never closed; close it",
    "did not find expected ',' or ']'": f"the [ that opens here is never closed; close it with ], or {_QUOTE}",
    "did not find expected ',' or '}'": f"the {{ that opens here is never closed; close it with }}, or {_QUOTE}",
    "could not find expected ':'": "no ': ' after a key; add it, or indent the line if it continues the text above",
}
"""As `_AT_PROBLEM`, at the place where the thing began: libyaml notices much later."""

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What may stand in no YAML file (YAML 1.1, section 5.1)."""


OTHER_BREAKS = re.compile("[\x85\u2028\u2029]")
"""What ends a line in YAML 1.1, and in no editor."""
LINE_BREAK = re.compile(r"\r\n|\r|\n")
"""As editors count lines; `str.splitlines` knows more."""


def line_starts(text: str) -> list[int]:
    """Where each line begins, as editors count them."""
    return [0, *(found.end() for found in LINE_BREAK.finditer(text))]


def place_at(starts: Sequence[int], index: int) -> tuple[int, int]:
    """Line and column, from 1, of a character, by where the lines begin."""
    line = bisect_right(starts, index)
    return line, index - starts[line - 1] + 1


def syntax_problem(error: yaml.YAMLError | UnicodeEncodeError, text: str) -> Problem:
    """The place and the message for what PyYAML raised on `text`."""
    if isinstance(error, ReaderError | UnicodeEncodeError) and (sign := _FORBIDDEN.search(text)):
        before = text[: sign.start()]
        line, column = before.count("\n") + 1, sign.start() - before.rfind("\n")
        return Problem(line, column, f"not valid YAML: the character {sign.group()!r}; remove it", (), "syntax")
    said = str(getattr(error, "problem", None) or error)
    mark = getattr(error, "context_mark" if said in _AT_CONTEXT else "problem_mark", None)
    place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if mark and OTHER_BREAKS.search(text):
        place = place_at(line_starts(text), mark.index)
    told = _of_signs(said, text, mark.index) if mark else None
    told = told or _AT_CONTEXT.get(said) or _AT_PROBLEM.get(said) or f"{said}; {_QUOTE}"
    return Problem(*place, f"not valid YAML: {told}", (), "syntax")


def _of_signs(said: str, text: str, index: int) -> str | None:
    """For errors that the signs at their place, or before it, tell best."""
    sign, before = text[index : index + 1], text[:index].rstrip(" ")[-1:]
    if sign == "\t":
        return "a tab; indent with spaces"
    if said == "did not find expected key" and before in {"'", '"'}:
        inside = "''" if before == "'" else r"\""
        return f"the text ended at the {before} before; where one stands inside the text, write {inside}"
    if said in {"found character that cannot start any token", "did not find expected node content"} and sign.strip():
        return f"a text cannot begin with {sign!r}; {_QUOTE}"
    return None
