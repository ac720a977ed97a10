"""What a variant came to, as it stands in the results file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilth.core.records import Record
from tilth.eval.continual import Matrix, Row, Summary, summarise
from tilth.eval.difference import Difference, paired_difference
from tilth.eval.evaluation import Evaluation
from tilth.eval.general import is_general

from .variants import Variant

BASE = "base"


class Cycle(Record):
    """What one contribution cost to train."""

    samples: int
    """Of all phases, replayed ones too."""
    tokens: int
    """Over all epochs, padding left out."""
    trained_tokens: int
    """Of them, those with a loss."""
    steps: int
    wall_s: float


class Outcome(Record):
    """The accuracy of every leaf and of the general set after every cycle, and what follows from it."""

    cycles: tuple[Cycle, ...]
    matrix: Matrix
    summary: Summary
    general: Difference
    """The last model against the base model, on the general set."""
    wrong_when_learned: Mapping[str, Mapping[str, str]]
    """Leaf -> each held-out question that the model answers wrongly right after the leaf's cycle, and what it says."""
    wrong_at_the_end: Mapping[str, Mapping[str, str]]
    """The same of the last model."""


def outcome(variant: Variant, leaves: Sequence[str], costs: Sequence[Cycle], evaluation: Evaluation) -> Outcome:
    """From the evaluation of the base model and of the models after each cycle, in that order."""
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
        general=_general(evaluation, base, models[-1]),
        wrong_when_learned={
            leaf: _wrong(evaluation, model, leaf) for model, first in zip(models, new, strict=True) for leaf in first
        },
        wrong_at_the_end={leaf: _wrong(evaluation, models[-1], leaf) for leaf in leaves},
    )


def _row(evaluation: Evaluation, model: str, first: tuple[str, ...]) -> Row:
    rates = {leaf: evaluation.rate(model, leaf) for leaf in evaluation.leaves}
    return Row(name=model, first_trained=first, rates=rates)


def _general(evaluation: Evaluation, base: str, model: str) -> Difference:
    old, new = evaluation.answers_of(base), evaluation.answers_of(model)
    ids = [question.id for question in evaluation.questions if is_general(question.leaf)]
    gained = sum(new[id_].correct and not old[id_].correct for id_ in ids)
    lost = sum(old[id_].correct and not new[id_].correct for id_ in ids)
    return paired_difference(gained, lost, len(ids))


def _wrong(evaluation: Evaluation, model: str, leaf: str) -> dict[str, str]:
    given = evaluation.answers_of(model)
    return {
        question.question: given[question.id].text
        for question in evaluation.of_leaf(leaf)
        if not given[question.id].correct
    }
