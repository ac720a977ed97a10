"""Scores as a table: leaf by model, never without an interval."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.rate import Rate
from ..eval.compare import Comparison
from ..eval.evaluation import Evaluation
from .terminal import table


def print_scores(evaluation: Evaluation, comparisons: Sequence[Comparison] = ()) -> None:
    """Held-out questions answered rightly by every model, with what the comparison of the last two showed."""
    found = {item.leaf: item for item in comparisons}
    rows = [
        [leaf, *(rate_text(evaluation.rate(model, leaf)) for model in evaluation.models), _finding(found.get(leaf))]
        for leaf in evaluation.leaves
    ]
    if not rows:
        print("no leaf has held-out questions: nothing was measured")
        return
    print(table(rows, ["leaf", *evaluation.models, ""]))
    print("right answers to held-out questions, with 95 % Wilson intervals")


def rate_text(rate: Rate) -> str:
    """Such as `11/12 (65-99 %)`."""
    return f"{rate.correct}/{rate.total} ({100 * rate.low:.0f}\N{EN DASH}{100 * rate.high:.0f} %)"


def _finding(item: Comparison | None) -> str:
    return item.verdict if item and item.verdict in {"learned", "forgotten"} else ""
