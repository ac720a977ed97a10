"""Whether a prompt fits its part in a flow, told before anything is spent.

A fault is an error: the flow could not run. A remark is advice: it would run, but worse or at a higher price.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from ..core.errors import ConfigError, nearest
from ..llm.prompts import Prompt
from .judges import ANSWERS, method
from .settings import Part

_TEXT: dict[str, Any] = {"type": "string"}
_SHAPES: dict[str, dict[str, Any]] = {
    "verdict": {**_TEXT, "enum": ["yes", "no"]},
    "grade": {"type": "integer", "minimum": 1, "maximum": 10},
    "score": {"type": "integer", "minimum": 1, "maximum": 5},
    "distractors": {"type": "array", "items": _TEXT, "minItems": 3, "maxItems": 3},
}


def faults(prompt: Prompt, part: Part) -> Iterator[ConfigError]:
    """What keeps a prompt from its part: variables that nobody gives it, an answer that is not what the flow reads."""
    given = part.variables.split()
    if part.judges and method(prompt) != "answering":  # who answers himself must not know what he should say
        given.append("answer")
    for variable in sorted(prompt.variables.difference(given)):
        yield ConfigError(f"unknown variable {variable!r}", where=prompt.name, fix=nearest(variable, given))
    if part.or_text and not prompt.file.answer:
        part = replace(part, answers="", repeat="")
    if prompt.file.repeat != part.repeat:
        what = f"`repeat` is {prompt.file.repeat!r}"
        yield ConfigError(what, where=prompt.name, fix=f"this part of the flow needs {part.repeat!r}")
    answers = ANSWERS[method(prompt)] if part.judges else part.answers
    if bool(prompt.file.answer) != bool(answers):
        fix = "add one" if answers else "remove it: this part of the flow is answered in plain text"
        yield ConfigError("the schema is missing" if answers else "it has a schema", where=prompt.name, fix=fix)
    elif answers.startswith("["):
        wanted = _SHAPES.get(answers.strip("[]"), _TEXT)
        if any(prompt.file.answer.get(key) != wanted[key] for key in wanted):
            yield ConfigError("the schema does not fit", where=prompt.name, fix=f"this part of the flow needs {wanted}")
    else:
        yield from _properties(prompt, answers)


def _properties(prompt: Prompt, answers: str) -> Iterator[ConfigError]:
    for name in answers.split():
        wanted = _SHAPES.get(name, _TEXT)
        found = prompt.file.answer.get("properties", {}).get(name, {})
        if name not in prompt.file.answer.get("required", ()) or any(found.get(key) != wanted[key] for key in wanted):
            yield ConfigError(f"the schema does not require {name!r} as {wanted}", where=prompt.name, fix="add it")


def remarks(prompt: Prompt, part: Part) -> Iterator[str]:
    """What costs more than it must, or teaches less. Raises ConfigError when the template cannot be filled in."""
    for shown in part.needs.split():
        names = shown.split("|")
        if prompt.variables.isdisjoint(names):
            if "examples" not in names:
                yield f"{prompt.name}: it does not use {shown!r}; without that a model cannot do its part here"
            elif not prompt.file.examples:
                yield f"{prompt.name}: it shows no examples; use the variable {names[-1]!r}, or give it some of its own"
    if late := _late(prompt, part.variables.split()):
        what = f"{late!r} stands behind what differs from request to request, so a server reads it anew for each"
        yield f"{prompt.name}: {what}; put it first"


_FIXED = ("title", "heading", "chunk", "task", "examples")
"""What many requests in a row have in common: the document, or the skill. All else varies from one to the next."""
_PAIR = {"context": "{} C", "question": "{} Q", "answer": "{} A", "turn": "{} T"}


def _late(prompt: Prompt, given: Sequence[str]) -> str:
    """The first fixed variable that is not in the common beginning of two requests that differ in all others."""
    one, two = (prompt.messages(**{name: _probe(name, sign) for name in given})[-1].content for sign in "\x01\x02")
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))
    return next((name for name in _FIXED if one.rfind(f"<{name}") > common), "")


def _probe(name: str, sign: str) -> Any:
    """A value for a variable; of what varies, another for each sign."""
    if name == "number":
        return ord(sign) + 2
    if name == "examples":
        return [{key: f"<{name} {key}>" for key in _PAIR}]
    if name == "seed":
        return {key: value.format(sign) for key, value in _PAIR.items()}
    return f"<{name}>" if name in _FIXED else f"{sign}{name}"
