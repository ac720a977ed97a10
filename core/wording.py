"""What pydantic finds wrong in a value, in our words: what stands there, and what to write instead.

The one place that words its errors: of YAML files, of the command line's options, and of the records that tilth wrote.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from .errors import closest
from .yaml_problem import Path_, shortened

_WHOLE, _NUMBER, _TRUTH = "write a whole number", "write a number", "write true or false"
_LIST = "write a list: [a, b], or a line that begins with '- ' for each item"
_KEYS = "write keys and values"

WHAT_TO_DO = {
    "int_type": _WHOLE, "int_parsing": _WHOLE, "int_from_float": _WHOLE, "int_parsing_size": "write a smaller number",
    "float_type": _NUMBER, "float_parsing": _NUMBER, "finite_number": _NUMBER,
    "greater_than": "write a number above {gt}", "greater_than_equal": "write a number of at least {ge}",
    "less_than": "write a number below {lt}", "less_than_equal": "write a number of at most {le}",
    "bool_type": _TRUTH, "bool_parsing": _TRUTH,
    "string_type": "write text in quotes", "string_pattern_mismatch": "write text that matches {pattern}",
    "literal_error": "write {expected}",
    "list_type": _LIST, "tuple_type": _LIST,
    "too_short": "write {min_length} items at least", "too_long": "write {max_length} items at most",
    "dict_type": _KEYS, "model_type": _KEYS,
}  # fmt: skip
"""Pydantic's name of an error -> what to do about it, with pydantic's facts put in."""
_QUOTED = re.compile("'([^']*)'")


class Wording(NamedTuple):
    """What is wrong, and what to do; `str` is both in one line."""

    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}" if self.fix else self.what


def worded(item: ErrorDetails, name: str = "") -> Wording:
    """One of pydantic's errors, about the value that people know by `name`: by default its keys, joined by dots.

    What a validator of ours said stays as it is.
    """
    kind, facts = item["type"], item.get("ctx", {})
    name = name or key_name(item["loc"])
    if kind == "value_error" or kind not in get_args(ErrorType):
        said = str(facts.get("error", item["msg"]))
        return Wording(f"{name}: {said}" if name else said)
    if kind == "json_invalid":
        return Wording("no valid JSON")
    if kind == "missing" and isinstance(item["loc"][-1], int):
        return Wording(f"{key_name(item['loc'][:-1])} has too few items", "add what is missing")
    if kind == "missing":
        return Wording(f"the key {name!r} is missing", "add it")
    if kind == "extra_forbidden":
        return Wording(f"unknown key {name!r}", "remove it")
    close = closest(str(item["input"]), _QUOTED.findall(str(facts.get("expected"))))
    known = WHAT_TO_DO.get(kind, "").format(**{fact: _plain(value) for fact, value in facts.items()})
    fix = f"did you mean {close!r}?" if close else known
    return Wording(f"{name or 'the file'} {_shown(item['input'])}", fix)


def first_fault(error: ValidationError) -> str:
    """What is wrong first in a record that tilth wrote: nobody mends one by hand."""
    return worded(error.errors(include_url=False)[0]).what


def key_name(path: Path_) -> str:
    """The keys that lead to a value as messages write them: `teacher.model`."""
    return ".".join(shortened(str(part)) for part in path)


def _shown(value: Any) -> str:
    """What a value is, as YAML and JSON write it."""
    match value:
        case None:
            return "is empty"
        case str():
            return f"is {shortened(value)!r}"
        case int() | float():  # True is one
            return f"is {shortened(str(value).lower())}"
        case list() | tuple():
            return f"is a list of {len(value)}" if value else "is an empty list"  # pyright: ignore[reportUnknownArgumentType]
        case dict():
            return "holds keys and values"
        case _:
            return f"is a {type(value).__name__}"


def _plain(fact: Any) -> Any:
    """Limits of a `float` field are told as they were written: 1, not 1.0."""
    return int(fact) if isinstance(fact, float) and fact.is_integer() else fact
