"""Scores as a table: leaf by model, never without an interval; the general set stands below the leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..core.rate import Rate
from ..eval.compare import Comparison
from ..eval.evaluation import Evaluation
from ..eval.general import is_general
from .terminal import printable, table


def print_scores(evaluation: Evaluation, comparisons: Sequence[Comparison] = ()) -> None:
    """Held-out questions answered rightly by every model, with what the comparison of the last two showed."""
    if not evaluation.questions:
        print("no leaf has held-out questions: nothing was measured")
        return
    found = {item.leaf: item for item in comparisons}
    leaves = sorted(evaluation.leaves, key=is_general)
    print(table([row for leaf in leaves for row in _rows(evaluation, leaf, found.get(leaf))], _head(evaluation)))
    print("right answers to held-out questions, with 95 % Wilson intervals")
    for line in map(printable, evaluation.remarks()):
        print(line)


def rate_text(rate: Rate) -> str:
    """Such as `11/12 (65-99 %)`."""
    return f"{rate.correct}/{rate.total} ({100 * rate.low:.0f}\N{EN DASH}{100 * rate.high:.0f} %)"


def _head(evaluation: Evaluation) -> list[str]:
    return ["leaf", *map(printable, evaluation.models), ""]


def _rows(evaluation: Evaluation, leaf: str, compared: Comparison | None) -> Iterator[list[str]]:
    yield [leaf, *(rate_text(evaluation.rate(model, leaf)) for model in evaluation.models), _finding(compared)]
    open_book = [evaluation.open_book_rate(model, leaf) for model in evaluation.models]
    if any(rate.total for rate in open_book):
        yield ["  with the document", *map(rate_text, open_book), ""]


def _finding(item: Comparison | None) -> str:
    return item.verdict if item and item.verdict in {"learned", "forgotten"} else ""
