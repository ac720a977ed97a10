"""Scores as a table: leaf by model, never without an interval; the general set stands below the leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..core.rate import Rate
from ..eval.compare import Comparison
from ..eval.evaluation import Evaluation
from ..eval.general import is_general
from .terminal import printable, table


def print_scores(evaluation: Evaluation, comparisons: Sequence[Comparison] = ()) -> None:
    """Held-out questions answered rightly by every model, with what the comparison of the last two showed."""
    _print(evaluation, {item.leaf: item.verdict for item in comparisons if item.verdict in {"learned", "forgotten"}})


def print_changes(evaluation: Evaluation, comparisons: Sequence[Comparison], significance: float) -> None:
    """The same with the last model's difference from the first, each end a bound at `significance`."""
    said = {item.leaf: _change(item, significance) for item in comparisons}
    _print(evaluation, said, "change" if said else "")
    if said:
        first, *_, last = map(printable, evaluation.models)
        print(f"change: {last} against {first}, in points, with a {100 * (1 - 2 * significance):g} % interval")
        print("better and worse: by McNemar's exact test, adjusted by Holm for all rows")


def better_or_worse(item: Comparison) -> str:
    """What the paired test says of the later model."""
    return {"learned": "better", "forgotten": "worse"}.get(item.verdict, "no change shown")


def _change(item: Comparison, significance: float) -> str:
    found, said = item.difference(significance), better_or_worse(item)
    told = f"{said}: " if said != "no change shown" else ""
    return f"{told}{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _print(evaluation: Evaluation, said: Mapping[str, str], head: str = "") -> None:
    if not evaluation.questions:
        print("no leaf has held-out questions: nothing was measured")
        return
    leaves = sorted(evaluation.leaves, key=is_general)
    rows = [row for leaf in leaves for row in _rows(evaluation, leaf, said.get(leaf, ""))]
    print(table(rows, ["leaf", *map(printable, evaluation.models), head]))
    print("right answers to held-out questions, with 95 % Wilson intervals")
    for line in map(printable, evaluation.remarks()):
        print(line)


def rate_text(rate: Rate) -> str:
    """Such as `11/12 (65-99 %)`."""
    return f"{rate.correct}/{rate.total} ({100 * rate.low:.0f}\N{EN DASH}{100 * rate.high:.0f} %)"


def _rows(evaluation: Evaluation, leaf: str, said: str) -> Iterator[list[str]]:
    yield [leaf, *(rate_text(evaluation.rate(model, leaf)) for model in evaluation.models), said]
    open_book = [evaluation.open_book_rate(model, leaf) for model in evaluation.models]
    if any(rate.total for rate in open_book):
        yield ["  with the document", *map(rate_text, open_book), ""]
