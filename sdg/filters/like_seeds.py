"""The form of a skill's tasks and solutions: what all that people wrote for a leaf have in common, new ones must have.

It costs no call, and it finds what a small judge does not see: he says yes to three words on one line where every
example has a line for each, and to "which of the words is the odd one out?" without a word to choose from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from ...core.records import Sample
from ..words import LIST_MARK, content_words, stems, words
from .content import ASKING
from .drop import Drop, Filter

_FEWEST_SEEDS = 3
"""Of fewer nothing is known."""
_LENGTHS, _SLACK = 5, 20
"""A new answer may be so many times as long as the longest of the seeds and so many words more, or a part of the
shortest."""


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


_TRAITS: dict[str, Callable[[str], bool]] = {
    "a list with a mark before each line": lambda text: all(LIST_MARK.match(line) for line in _lines(text)),
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


def changes_its_context(context: str, seeds: Sequence[tuple[str, str]]) -> Filter:
    """Drop a solution that is its context word for word, unless a seed's is. `seeds`: context and solution of each."""
    kept = any(words(before) == words(after) for before, after in seeds)
    there = words(context)
    return lambda sample: Drop("repeats_its_context") if there and not kept and words(sample.answer) == there else None


_MARK = re.compile(r"(?<![\w.])(?P<mark>[A-Za-z]|\d{1,2})[.)]\s*(?=\w)")
_LABEL = re.compile(r"\b[A-Z]\w+(?=:)")
_SHORTER = 2
"""A new task may have one in so many of the words of the shortest seed."""
_POINTER = re.compile(
    r"\b(?:given|listed|shown|provided|stated|mentioned|words?|sentences?|items?|options?|text|list|lines?) below\b"
    r"|\b(?:the|these) following\b(?! (?:day|week|month|season|year|morning|evening|night)s?\b)",
    re.IGNORECASE,
)
_SHOWN = re.compile(r"[:\n\"\u201c`]|[.?!]\s+\S")
"""What comes between a word that points and what it points at."""


def task_form_of(questions: Sequence[str]) -> Filter:
    """Drop a task that lacks the options or the labels ("Scenario:") that all of these have, or half of their length.

    What a teacher leaves out of a task is mostly what it takes to solve it. Of two options that are one, one is a
    mistake. A task is of another skill if it has not most of the words that all of these share, such as "decline
    politely"; words that only ask ("give", "which") do not count, and of one shared word nothing is asked. Of 437
    hand-written tasks (the public trees', the starter's), each held against its leaf's others, it drops at most seven.
    """
    known = len(questions) >= _FEWEST_SEEDS
    chooses = known and all(map(_options, questions))
    labels = sorted(set[str].intersection(*(set(_LABEL.findall(each)) for each in questions))) if known else []
    shortest = min(len(words(question)) for question in questions) if known else 0
    shared = frozenset[str].intersection(*map(_named, questions)) if known else frozenset[str]()

    def is_alike(sample: Sample) -> Drop | None:
        options, own = _options(sample.question), _LABEL.findall(sample.question)
        lacking = ["options", *labels] if chooses and not options else [each for each in labels if each not in own]
        if lacking:
            return Drop("not_the_form_of_the_seeds", lacking[0])
        if len(set(options)) < len(options):
            return Drop("repeated_option", max(options, key=options.count))
        if (count := len(words(sample.question))) * _SHORTER < shortest:
            return Drop("not_the_form_of_the_seeds", f"{count} words")
        missing = shared - _named(sample.question)
        return Drop("off_skill", " ".join(sorted(missing))) if len(missing) * 2 >= len(shared) > 1 else None

    return is_alike


_ASKING_STEMS = frozenset(stems(ASKING))


def _named(task: str) -> frozenset[str]:
    """The words of a task that say more than that something is asked."""
    return frozenset(stems(content_words(task))) - _ASKING_STEMS


def other_options(questions: Sequence[str]) -> Filter:
    """Drop a task with the options of one of these: it is that one, whatever stands around them.

    For tasks without a context, which several tasks may share.
    """
    known = [sorted(_options(question)) for question in questions]

    def is_other(sample: Sample) -> Drop | None:
        options = sorted(_options(sample.question))
        return Drop("copy_of_seed", "options") if options and options in known else None

    return is_other


def _options(text: str) -> list[str]:
    """What follows the marks a, b, c … or 1, 2, 3 … of a text, on one line or on several; fewer than two are none."""
    marks: list[re.Match[str]] = []
    for mark in _MARK.finditer(text):
        if _ordinal(mark["mark"]) == len(marks) + 1:
            marks.append(mark)
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    parts = [text[mark.end() : after] for mark, after in zip(marks, ends, strict=False)]
    return [" ".join(words(part.partition("\n")[0])) for part in parts] if len(parts) > 1 else []


def _ordinal(mark: str) -> int:
    return int(mark) if mark.isdigit() else ord(mark.lower()) - ord("a") + 1


def shows_what_it_names(sample: Sample) -> Drop | None:
    """Drop a task that points at something ("the words given below") and ends without it. For tasks without a context.

    Of the 437 it drops one ("at the following bus stop").
    """
    for pointer in _POINTER.finditer(sample.question):
        if not _SHOWN.search(sample.question, pointer.end()) and not _options(sample.question):
            return Drop("points_to_nothing", pointer[0].lower())
    return None
