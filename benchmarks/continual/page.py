"""`docs/results.md` from the results file: what was asked for and whether it is reached, the table, the plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tilth.core.atomic import write_text
from tilth.core.rate import Rate, wilson
from tilth.eval.continual import Estimate, Matrix

from .curve import Point
from .outcome import Outcome
from .plot import Goal, write_plot
from .variants import VARIANTS

DOCS = Path(__file__).parents[2] / "docs"
PLOT = "results-continual.svg"
DEFAULT, BOUND = "lab", "lab, joint"
LEARNED, FORGOTTEN, GENERAL_LOST = 0.90, 0.03, 0.02
"""What the default plan is to reach: of each leaf, on average over leaves, of the general set."""

_PAGE = """\
# Results: five contributions, one after the other

Written by `python -m benchmarks.continual` from `benchmarks/results/continual.json`; do not edit it by hand. What ten
thousand leaves, a million samples and hundreds of cycles cost stands in [results-scale.md](results-scale.md).

Five invented subjects, a page each, are contributed one after the other to the embedded student ({student}); the
embedded teacher ({teacher}) made the samples of each once, by the recipe `{recipe}`. After every cycle the student
answers all held-out questions of all five leaves, closed book, {questions} a leaf, and the last one the general set,
{general} questions. What stands in brackets is the 95 % interval.

- **learning**: accuracy on a leaf right after its own cycle, mean over the five (Riemer et al. 2019).
- **of the taught**: the same of the {taught} questions whose answer some sample gives; {untaught} ask for what the
  teacher made no sample about.
- **forgetting**: the best that a leaf had after an earlier cycle, less what it has after the last, mean over the first
  four (Chaudhry et al. 2018).
- **backward transfer**: what a leaf has after the last cycle, less what it had after its own, mean over the first four
  (Lopez-Paz & Ranzato 2017).
- **general**: the share of the general set that the last model answers rightly, less that of the base model.

{summary}

![Learning against forgetting; the leaves so far after each cycle; all leaves against the general set]({plot})

**The goal of the default plan**: each leaf learned at {learned:.2f} or more, forgetting at most {forgotten:.2f}, the
general set within {general_lost:.2f} of the base model.

{goal}

## What is learned against what is kept

The model of `{bound}`, drawn back toward the base model once more: the mean of both, tensor by tensor (WiSE-FT), the
cheapest way there is to trade one for the other. The right side of the plot has it as a line, and the last model of
each variant as a point.

{curve}

## After each cycle

{matrices}

## The general set

{parts}

## How

Plans and recipe as they stood at the commit named; docs/log.md says what changed since. Times are only to be compared
on one machine and in one number format, and other work ran beside some.

{runs}

One run of each variant, seed 42 unless it says another; intervals are over leaves and questions, not over
seeds.{missing}
"""


def write_page(results: Mapping[str, Any]) -> None:
    """Write the page and its plot."""
    order = {variant.name: place for place, variant in enumerate(VARIANTS)}
    names = sorted(results["variants"], key=lambda name: (dtype_of(name), order[variant_of(name)]))
    found = {name: Outcome.model_validate(results["variants"][name]) for name in names}
    first = next(iter(found.values()))
    points = [Point.model_validate(each) for each in results.get("curve", ())]
    goal = Goal(LEARNED, FORGOTTEN, GENERAL_LOST)
    bound = results.get("curve_of", "")
    write_plot(found, points, bound, DOCS / PLOT, goal)
    missing = [name for name in order if name not in map(variant_of, found)]
    page = _PAGE.format(
        student=results["student"],
        teacher=results["teacher"],
        recipe=results["recipe"],
        questions=_questions(first.matrix),
        general=first.general.total,
        taught=_taught(first, results["untaught"]).total,
        untaught=sum(map(len, results["untaught"].values())),
        summary=_markdown(
            [_summary_row(name, outcome, results["untaught"]) for name, outcome in found.items()],
            [
                "variant",
                "learning",
                "of the taught",
                "forgetting",
                "backward transfer",
                "at the end",
                "general",
                "tokens",
                "time",
            ],
        ),
        plot=PLOT,
        bound=bound,
        curve=_curve(points)
        if points
        else "Not run; docs/log.md has it of the first phase alone, with and without general prompts.",
        learned=LEARNED,
        forgotten=FORGOTTEN,
        general_lost=GENERAL_LOST,
        goal="\n\n".join(_goal(name, found[name]) for name in found if variant_of(name) == DEFAULT) or "Not run.",
        matrices="\n\n".join(f"**{name}**\n\n{_matrix(outcome.matrix)}" for name, outcome in found.items()),
        parts=_general(found),
        runs=_runs({name: results["runs"][name] for name in found}),
        missing=f" Not run: {'; '.join(missing)}." if missing else "",
    )
    write_text(DOCS / "results.md", page)


def variant_of(name: str) -> str:
    """The variant of a run: its name goes on with the number format."""
    return name.rpartition(", ")[0]


def dtype_of(name: str) -> str:
    """The number format of a run."""
    return name.rpartition(", ")[2]


def _runs(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """What was run where, in which number format and at which commit; those that have all in common together."""
    names: dict[tuple[str, str, str], list[str]] = {}
    for name, run in runs.items():
        names.setdefault((_machine(run["machine"]), run["dtype"], run["commit"]), []).append(f"`{name}`")
    return "\n".join(
        f"- {', '.join(of)}: {machine}, {kind}, commit {commit}" for (machine, kind, commit), of in names.items()
    )


def _questions(matrix: Matrix) -> str:
    """How many a leaf has."""
    return " or ".join(sorted({str(rate.total) for leaf in matrix.tasks if (rate := matrix.base.rates[leaf])}))


def _taught(outcome: Outcome, untaught: Mapping[str, Sequence[str]]) -> Rate:
    """Right after a leaf's own cycle, of the questions whose answer a sample gives."""
    total = sum(rate.total for leaf in untaught if (rate := outcome.matrix.base.rates[leaf]))
    total -= sum(map(len, untaught.values()))
    wrong = sum(
        question not in untaught[leaf] for leaf, said in outcome.wrong_when_learned.items() for question in said
    )
    return wilson(total - wrong, total)


def _summary_row(name: str, outcome: Outcome, untaught: Mapping[str, Sequence[str]]) -> list[str]:
    summary, general = outcome.summary, outcome.general
    return [
        name,
        _estimate(summary.learning_accuracy),
        _share(_taught(outcome, untaught)),
        _estimate(summary.forgetting),
        _estimate(summary.backward_transfer),
        _estimate(summary.average_accuracy),
        f"{general.value:+.3f} ({general.low:+.3f} to {general.high:+.3f})",
        f"{sum(cycle.tokens for cycle in outcome.cycles) / 1000:,.0f} k",
        f"{sum(cycle.wall_s for cycle in outcome.cycles) / 60:.0f} min",
    ]


def _goal(name: str, outcome: Outcome) -> str:
    """Each part of the goal, and whether it is reached."""
    summary, general = outcome.summary, outcome.general
    learned = summary.learning_accuracy.terms if summary.learning_accuracy else {}
    short = [f"{_name(leaf)} {value:.2f}" for leaf, value in learned.items() if value < LEARNED]
    forgetting = summary.forgetting.value if summary.forgetting else 0.0
    return "\n".join(
        (
            f"{name}:\n",
            f"- learning: {'missed by ' + ', '.join(short) if short else 'reached by each leaf'};",
            f"- forgetting: {forgetting:.3f}, {'reached' if forgetting <= FORGOTTEN else 'missed'};",
            f"- general set: {general.value:+.3f}, {'reached' if general.value >= -GENERAL_LOST else 'missed'}.",
        )
    )


def _curve(points: Sequence[Point]) -> str:
    rows = [[f"{point.share:g}", _share(point.leaves), _share(point.general)] for point in points]
    table = _markdown(rows, ["the base weighs", "all leaves", "general set"])
    at = bend(points)
    said = (
        f"bends where the base weighs {at.share:g}: that mean lies farthest above"
        if at
        else "does not bend: none lies above"
    )
    return f"{table}\n\nIt {said} the straight line between the first and the last."


def bend(points: Sequence[Point]) -> Point | None:
    """The mean that lies farthest above the straight line between the first and the last; None where none does."""
    first, last = points[0], points[-1]
    lost, given_back = first.leaves.value - last.leaves.value, last.general.value - first.general.value

    def above(point: Point) -> float:
        return (point.leaves.value - first.leaves.value) * given_back + (
            point.general.value - first.general.value
        ) * lost

    best = max(points, key=above)
    return best if above(best) > 1e-12 else None


def _matrix(matrix: Matrix) -> str:
    rows = [[row.name, *(_share(row.rates.get(leaf)) for leaf in matrix.tasks)] for row in (matrix.base, *matrix.rows)]
    return _markdown(rows, ["", *map(_name, matrix.tasks)])


def _general(found: Mapping[str, Outcome]) -> str:
    """The parts of the general set, base model first: in each number format, for it answers otherwise."""
    parts = list(next(iter(found.values())).general_parts)
    asked = {f"base, {dtype_of(name)}": outcome for name, outcome in found.items()}
    base = [[name, *(_share(outcome.general_parts[part][0]) for part in parts)] for name, outcome in asked.items()]
    last = [[name, *(_share(outcome.general_parts[part][1]) for part in parts)] for name, outcome in found.items()]
    return _markdown([*base, *last], ["", *parts])


def _name(leaf: str) -> str:
    return leaf.rpartition("/")[2]


def _share(rate: Rate | None) -> str:
    return f"{rate.value:.2f} ({rate.low:.2f}-{rate.high:.2f})" if rate else ""


def _estimate(estimate: Estimate | None) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})" if estimate else ""


def _machine(machine: Mapping[str, Any]) -> str:
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB, no GPU"


def _markdown(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
