"""The small general set: arithmetic, common facts, instructions and refusals, the same in every cycle.

It measures what a model can do that no leaf taught it, so that what training breaks is seen offline. The questions are
our own, in English; the leaves that they belong to (`general/arithmetic` ...) are in no taxonomy. It is small and known
to everyone: it shows that a model got worse, and says little of how good it is.
"""

from __future__ import annotations

import functools
from pathlib import Path

from pydantic import RootModel

from ..core.config import Section
from ..core.records import Question
from ..core.yaml_source import load_yaml

GENERAL = "general/"
"""What the names of its leaves begin with."""

PARTS = ("arithmetic", "facts", "instructions", "refusals")


def is_general(leaf: str) -> bool:
    """Whether a leaf is part of the general set."""
    return leaf.startswith(GENERAL)


@functools.cache
def general_questions() -> tuple[Question, ...]:
    """All questions, part by part."""
    return tuple(question for part in PARTS for question in _read(part))


class _Item(Section):
    question: str
    answers: tuple[str, ...]
    options: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()


class _Items(RootModel[tuple[_Item, ...]]):
    pass


def _read(part: str) -> list[Question]:
    path = Path(__file__).parent / "general" / f"{part}.yaml"
    items = load_yaml(path, _Items, name=f"general/{part}.yaml").root
    return [
        Question.new(f"{GENERAL}{part}", item.question, item.answers, item.options, forms=item.forms) for item in items
    ]
