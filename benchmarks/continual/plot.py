"""The plot of `docs/results.md`: an SVG without a background, in colours that are read on white and on black."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tilth.eval.continual import Row

from .outcome import Outcome

INK = "#7f8790"
COLOURS = ("#2f81d6", "#d9534f", "#3a9a5c", "#b07cc6", "#c98a1b", "#1aa3a3", "#8c7a5b", "#d0609c", "#6f7fd0")
MARKS = "osD^vPX*h"


def write_plot(found: Mapping[str, Outcome], file: Path, *, learned: float, forgotten: float) -> None:
    """Learning against forgetting with their intervals, and the accuracy on the leaves so far after each cycle."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    )
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tilth", "font.family": "sans-serif", "font.size": 10})
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    styles = dict(zip(found, zip(COLOURS, MARKS, strict=True), strict=False))
    _trade_off(left, found, styles, learned, forgotten)
    _course(right, found, styles)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    figure.legend(*right.get_legend_handles_labels(), loc="lower center", ncols=4, frameon=False)
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)


def _trade_off(
    axes: Any, found: Mapping[str, Outcome], styles: Mapping[str, tuple[str, str]], learned: float, forgotten: float
) -> None:
    """The goal is the box at the top left."""
    axes.fill_between([-0.1, forgotten], learned, 1.02, color=INK, alpha=0.2, linewidth=0)
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


def _mean(row: Row, tasks: Sequence[str]) -> float:
    return fmean(rate.value for task in tasks if (rate := row.rate(task)))
