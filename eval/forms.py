"""Checks of an answer's form: whether it did what the question said about length, layout and words.

A question lists them as short texts; an answer is right when all hold. Instructions that code can verify are an idea of
IFEval (Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models"). There are:

    lines=3  words<=10  sentences=1  bullets=3  numbered=3  commas=2  items=4     counts: =, <= or >=
    contains:rain  lacks:the  starts:Yes  ends:?                                  case does not matter
    mentions:pid|signal       a word of the answer begins with one of these
    one-of:red|green|blue     the answer is one of these, and nothing else
    json-keys:name,age        a JSON object with these keys and no others
    lowercase  uppercase  quoted  digits-only  refuses  answers

`items` counts the entries of a JSON list. `refuses` and `answers` tell an answer that declines from one that does not
(`eval.refusal`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.errors import DataError, nearest
from ..core.normalise import normalise
from .refusal import is_refusal


def check_forms(answer: str, forms: Sequence[str]) -> list[str]:
    """The forms that the answer does not have, in their order. Raises DataError for one that is no form."""
    checks = [(form, _check(form)) for form in forms]
    return [form for form, holds in checks if not holds(answer.strip())]


def _check(form: str) -> Callable[[str], bool]:
    if counted := re.fullmatch(r"([a-z]+)(=|<=|>=)(\d+)", form):
        name, operator, wanted = counted.groups()
        if name in _COUNTS:
            return lambda answer: _COMPARISONS[operator](_COUNTS[name](answer), int(wanted))
    name, colon, value = form.partition(":")
    if colon and value.strip() and name in _WITH_TEXT:
        return lambda answer: _WITH_TEXT[name](answer, value)
    if form in _PLAIN:
        return _PLAIN[form]
    names = [*(f"{name}=" for name in _COUNTS), *(f"{name}:" for name in _WITH_TEXT), *_PLAIN]
    raise DataError(f"there is no check of form {form!r}", where="forms", fix=nearest(form, names))


_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "=": lambda found, wanted: found == wanted,
    "<=": lambda found, wanted: 0 < found <= wanted,  # an empty answer is not a short one
    ">=": lambda found, wanted: found >= wanted,
}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’.-]\w+)*", text)  # noqa: RUF001  the apostrophe that models write


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _sentences(text: str) -> list[str]:
    parts = re.split(r"(?<=[.!?])[\"'”’)*]*\s+|\n+", text)  # noqa: RUF001
    return [part for part in parts if _words(part)]


def _bullets(text: str) -> int:
    return sum(bool(re.match(r"[-*•]\s+\S", line)) for line in _lines(text))


def _numbered(text: str) -> int:
    """How many lines are numbered, from 1 on and none left out; else 0."""
    numbers = [int(found[1]) for line in _lines(text) if (found := re.match(r"(\d{1,3})[.)]\s+\S", line))]
    return len(numbers) if numbers == list(range(1, len(numbers) + 1)) else 0


def _json(text: str) -> Any:
    """The data of a JSON answer: of the first fenced block if there is one, with whatever is said around it.

    None where it is no JSON.
    """
    fenced = re.search(r"```(?:json)?\s*(.*?)\s*```", text, re.DOTALL)
    try:
        return json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None


def _items(text: str) -> int:
    data = _json(text)
    return len(data) if isinstance(data, list) else 0


_COUNTS: Mapping[str, Callable[[str], int]] = {
    "lines": lambda answer: len(_lines(answer)),
    "words": lambda answer: len(_words(answer)),
    "sentences": lambda answer: len(_sentences(answer)),
    "bullets": _bullets,
    "numbered": _numbered,
    "commas": lambda answer: answer.count(","),
    "items": _items,
}


def _contains(answer: str, text: str) -> bool:
    return f" {text.casefold()} " in f" {' '.join(_words(answer)).casefold()} "


def _begins(answer: str, text: str) -> bool:
    return bool(re.match(rf"\W*{re.escape(text)}(?!\w)", answer, re.IGNORECASE))


def _ends(answer: str, text: str) -> bool:
    """A full stop behind a word that was asked for does no harm."""
    spaced = r"\s+".join(map(re.escape, text.split()))
    ending = rf"\b{spaced}\W*$" if text[-1].isalnum() else rf"{spaced}[*_\"”]*$"
    return bool(re.search(ending, answer, re.IGNORECASE))


def _mentions(answer: str, texts: str) -> bool:
    return any(re.search(rf"(?<!\w){re.escape(text)}", answer, re.IGNORECASE) for text in texts.split("|"))


def _is_one_of(answer: str, texts: str) -> bool:
    return normalise(answer) in {normalise(text) for text in texts.split("|")}


def _has_keys(answer: str, keys: str) -> bool:
    data = _json(answer)
    return isinstance(data, dict) and set(data) == {key.strip() for key in keys.split(",")}


_WITH_TEXT: Mapping[str, Callable[[str, str], bool]] = {
    "contains": _contains,
    "lacks": lambda answer, text: not _contains(answer, text),
    "starts": _begins,
    "ends": _ends,
    "mentions": _mentions,
    "one-of": _is_one_of,
    "json-keys": _has_keys,
}

_PLAIN: Mapping[str, Callable[[str], bool]] = {
    "lowercase": lambda answer: answer.islower(),
    "uppercase": lambda answer: answer.isupper(),
    "quoted": lambda answer: bool(re.fullmatch(r"[\"“][^\"“”]+[\"”]", answer)),
    "digits-only": lambda answer: bool(re.fullmatch(r"\d+\.?", answer)),
    "refuses": is_refusal,
    "answers": lambda answer: bool(answer) and not is_refusal(answer),
}
