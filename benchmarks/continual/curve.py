"""A model drawn back toward the base model: what that costs of the leaves, what it gives back of the general set."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tilth.core.rate import Rate, wilson
from tilth.core.records import Question, Record
from tilth.eval.evaluation import Evaluation
from tilth.eval.general import general_questions
from tilth.train.averaging import average

Ask = Callable[[dict[str, Path], Sequence[Question]], Evaluation]
"""Models by name and what they are asked."""
SHARES = (0.1, 0.2, 0.3, 0.5)
"""What the base model weighs."""


class Point(Record):
    """A mean of the two models."""

    share: float
    leaves: Rate
    """All held-out questions of the leaves."""
    general: Rate


def curve(model: Path, base: Path, questions: Sequence[Question], ask: Ask, folder: Path) -> list[Point]:
    """From the model as it is to half of the base; `folder` holds one mean at a time."""
    points: list[Point] = []
    for share in (0.0, *SHARES):
        there = {f"{share} of the base": _mean(model, base, share, folder) if share else model}
        leaves, general = (_rate(ask(there, asked)) for asked in (questions, general_questions()))
        points.append(Point(share=share, leaves=leaves, general=general))
    return points


def _mean(model: Path, base: Path, share: float, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder)
    average(folder, base, share)
    return folder


def _rate(evaluation: Evaluation) -> Rate:
    (answers,) = evaluation.answers.values()
    return wilson(sum(answer.correct for answer in answers.values()), len(answers))
