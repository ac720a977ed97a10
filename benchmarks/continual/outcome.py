"""What a variant came to, as it stands in the results file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilth.core.rate import Rate
from tilth.core.records import Record
from tilth.eval.continual import Matrix, Row, Summary, summarise
from tilth.eval.difference import Difference, paired_difference
from tilth.eval.evaluation import Evaluation

from .variants import Variant

BASE = "base"


class Cycle(Record):
    """What one contribution cost to train."""

    samples: int
    """Of all phases, replayed ones too, in one epoch."""
    tokens: int
    """Over all epochs, padding left out."""
    trained_tokens: int
    """Of them, those with a loss."""
    steps: int
    wall_s: float


class Outcome(Record):
    """The accuracy of every leaf after every cycle, and what follows from it."""

    cycles: tuple[Cycle, ...]
    matrix: Matrix
    summary: Summary
    general: Difference
    """The last model against the base model, on the general set."""
    general_parts: Mapping[str, tuple[Rate, Rate]]
    """Each part of it: the base model's rate, then the last model's."""
    wrong_when_learned: Mapping[str, Mapping[str, str]]
    """Leaf -> each held-out question that the model answers wrongly right after the leaf's cycle, and what it says."""
    wrong_at_the_end: Mapping[str, Mapping[str, str]]
    """The same of the last model."""


def outcome(
    variant: Variant, leaves: Sequence[str], costs: Sequence[Cycle], evaluation: Evaluation, general: Evaluation
) -> Outcome:
    """From the evaluation of the base model and of the models after each cycle on the leaves, in that order.

    `general` is that of the base model and of the last one on the general set.
    """
    base, *models = evaluation.models
    new = [tuple(leaves)] if variant.joint else [(leaf,) for leaf in leaves]
    matrix = Matrix(
        base=_row(evaluation, base, ()),
        rows=tuple(_row(evaluation, model, first) for model, first in zip(models, new, strict=True)),
    )
    return Outcome(
        cycles=tuple(costs),
        matrix=matrix,
        summary=summarise(matrix, seed=variant.seed),
        general=_difference(general),
        general_parts={part: _rates(general, part) for part in general.leaves},
        wrong_when_learned={
            leaf: _wrong(evaluation, model, leaf) for model, first in zip(models, new, strict=True) for leaf in first
        },
        wrong_at_the_end={leaf: _wrong(evaluation, models[-1], leaf) for leaf in leaves},
    )


def _row(evaluation: Evaluation, model: str, first: tuple[str, ...]) -> Row:
    rates = {leaf: evaluation.rate(model, leaf) for leaf in evaluation.leaves}
    return Row(name=model, first_trained=first, rates=rates)


def _difference(evaluation: Evaluation) -> Difference:
    """Of the second model to the first, on all questions."""
    old, new = evaluation.answers.values()
    gained = sum(new[id_].correct and not old[id_].correct for id_ in old)
    lost = sum(old[id_].correct and not new[id_].correct for id_ in old)
    return paired_difference(gained, lost, len(old))


def _rates(evaluation: Evaluation, part: str) -> tuple[Rate, Rate]:
    first, second = evaluation.models
    return evaluation.rate(first, part), evaluation.rate(second, part)


def _wrong(evaluation: Evaluation, model: str, leaf: str) -> dict[str, str]:
    given = evaluation.answers_of(model)
    return {
        question.question: given[question.id].text
        for question in evaluation.of_leaf(leaf)
        if not given[question.id].correct
    }
