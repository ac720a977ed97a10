"""The plot of `docs/results.md`: an SVG without a background, in colours that are read on white and on black."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tilth.eval.continual import Row

from .curve import Point
from .outcome import Outcome

INK = "#7f8790"
COLOURS = ("#2f81d6", "#d9534f", "#3a9a5c", "#b07cc6", "#c98a1b", "#1aa3a3", "#8c7a5b", "#d0609c", "#6f7fd0", "#7d9b2f")
LEGEND_COLUMNS = 4
MARKS = "osD^vPX*hp<"
"""One more than there are colours: of both in turn no pair comes twice among the first 110."""


@dataclass(frozen=True)
class Goal:
    """What is wanted, each a share."""

    learned: float
    forgotten: float
    general_lost: float


def write_plot(found: Mapping[str, Outcome], curve: Sequence[Point], bound: str, file: Path, goal: Goal) -> None:
    """Learning against forgetting; the leaves so far after each cycle; all leaves against the general set."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    )
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tilth", "font.family": "sans-serif", "font.size": 10})
    lines = math.ceil(len(found) / LEGEND_COLUMNS)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4 + 0.22 * lines))
    styles = dict(zip(found, zip(itertools.cycle(COLOURS), itertools.cycle(MARKS)), strict=False))
    _trade_off(left, found, styles, goal)
    _course(middle, found, styles)
    _kept(right, found, styles, curve, bound, goal)
    figure.tight_layout(rect=(0, 0.22 * lines / (4 + 0.22 * lines), 1, 1))
    figure.legend(*middle.get_legend_handles_labels(), loc="lower center", ncols=LEGEND_COLUMNS, frameon=False)
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)


def _trade_off(axes: Any, found: Mapping[str, Outcome], styles: Mapping[str, tuple[str, str]], goal: Goal) -> None:
    """The goal is the box at the top left."""
    axes.fill_between([-0.1, goal.forgotten], goal.learned, 1.02, color=INK, alpha=0.2, linewidth=0)
    for name, outcome in found.items():
        learning, forgetting = outcome.summary.learning_accuracy, outcome.summary.forgetting
        if not learning or not forgetting:
            continue
        colour, mark = styles[name]
        axes.errorbar(
            forgetting.value,
            learning.value,
            xerr=[[forgetting.value - forgetting.low], [forgetting.high - forgetting.value]],
            yerr=[[learning.value - learning.low], [learning.high - learning.value]],
            color=colour,
            marker=mark,
            elinewidth=0.8,
        )
    axes.set(xlabel="forgetting", ylabel="learning", ylim=(0, 1.02), xlim=(-0.1, None))


def _course(axes: Any, found: Mapping[str, Outcome], styles: Mapping[str, tuple[str, str]]) -> None:
    for name, outcome in found.items():
        rows, tasks = outcome.matrix.rows, outcome.matrix.tasks
        colour, mark = styles[name]
        if len(rows) == 1:
            axes.axhline(_mean(rows[0], tasks), color=colour, linestyle="--", label=name)
            continue
        means = [_mean(row, tasks[: number + 1]) for number, row in enumerate(rows)]
        axes.plot(range(1, len(rows) + 1), means, color=colour, marker=mark, label=name)
    axes.set(xlabel="contributions", ylabel="accuracy on the leaves so far", ylim=(0, 1.02), xticks=range(1, 6))


def _kept(
    axes: Any,
    found: Mapping[str, Outcome],
    styles: Mapping[str, tuple[str, str]],
    curve: Sequence[Point],
    bound: str,
    goal: Goal,
) -> None:
    """The goal is the box at the top right; the curve is of the run called `bound`."""
    axes.fill_between([-goal.general_lost, 0.1], goal.learned, 1.02, color=INK, alpha=0.2, linewidth=0)
    for name, outcome in found.items():
        row, (colour, mark) = outcome.matrix.rows[-1], styles[name]
        axes.plot(outcome.general.value, _mean(row, outcome.matrix.tasks), color=colour, marker=mark)
    if curve:
        parts = found[bound].general_parts.values()
        base = sum(before.correct for before, _ in parts) / sum(before.total for before, _ in parts)
        changes = [point.general.value - base for point in curve]
        axes.plot(changes, [point.leaves.value for point in curve], color=INK, marker=".", zorder=0)
        for change, point in zip(changes, curve, strict=True):
            axes.annotate(
                f"{point.share:g}", (change, point.leaves.value), (4, 4), textcoords="offset points", color=INK
            )
    axes.set(xlabel="change of the general set", ylabel="accuracy on all leaves at the end", ylim=(0, 1.02))
    axes.locator_params(axis="x", nbins=5)


def _mean(row: Row, tasks: Sequence[str]) -> float:
    return fmean(rate.value for task in tasks if (rate := row.rate(task)))
