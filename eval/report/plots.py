"""The plots of what was proved, drawn by matplotlib; and the small bar of a rate in a table's cell.

Names stand above what they name, not beside it, so that a plot is as narrow as a page can be. Nothing to draw gives
empty markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ...core.config import Gate
from ...core.rate import Rate
from ..compare import Comparison, Together
from ..continual import Matrix, Row
from .data import DocumentCoverage
from .drawing import INK, RULE, SERIES, SOFT, WIDTH, axes_at, figure, fitted, name_above, style, svg
from .words import points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ROWS = 60
"""Leaves or documents that a plot shows at most."""

_STRIPS_PER_DOCUMENT, _MOST_STRIPS = 200, 3_000
"""A strip takes 140 bytes of a page."""


def forest_plot(comparisons: Sequence[Comparison], together: Sequence[Together], gate: Gate) -> Markup:
    """What each leaf gained less what it lost, with its 95 % interval; below, the groups and the gate's margins.

    Of more leaves than fit those that differ most are shown.
    """
    measured = sorted((item for item in comparisons if item.after.total), key=_gain)
    most = {item.leaf for item in (*measured[: MOST_ROWS // 2], *measured[-MOST_ROWS // 2 :])}
    rows = [(item.leaf, item.difference(0.025), None, SERIES[1]) for item in comparisons if item.leaf in most]
    level = f"{100 * (1 - 2 * gate.significance):g} %"
    rows += [(f"{each.name} ({level})", each.difference, _margin(each, gate), INK) for each in together]
    if not rows:
        return Markup("")
    row, foot = 38, 46
    height = row * len(rows) + foot
    reach = max(max(-found.low, found.high, abs(margin or 0)) for _, found, margin, _ in rows)
    with style("forest"):
        drawn = figure(WIDTH, height)
        axes = axes_at(drawn, height, (8, WIDTH - 152), (0, height - foot))
        axes.set(xlim=(-reach * 1.04, reach * 1.04), ylim=(height - foot, 0), yticks=[])
        axes.set_xlabel("percentage points gained (right) or lost (left)")
        axes.xaxis.set_major_formatter(lambda value, _: points(value))
        axes.spines["left"].set_visible(False)
        axes.axvline(0, color=SOFT, linewidth=1)
        for number, (name, found, margin, colour) in enumerate(rows):
            top = number * row
            name_above(axes, top + 17, name, WIDTH - 16, bold=margin is not None)
            axes.plot([found.low, found.high], [top + 27] * 2, color=colour, linewidth=2.2, solid_capstyle="round")
            axes.plot(found.value, top + 27, "o" if margin is None else "D", color=colour, markersize=7)
            numbers = f"{points(found.value)} ({points(found.low)} to {points(found.high)})"
            axes.text(WIDTH - 4, top + 31, numbers, transform=_pixels_across(axes), ha="right", color=INK)
            if margin is not None:
                axes.plot([margin] * 2, [top + 19, top + 35], color=SERIES[5], linewidth=1.6, linestyle=(0, (3, 2)))
        return svg(drawn, "Gains and losses by leaf with their intervals, and of groups with the gate's margins")


def heat_map(history: Matrix, leaves: Sequence[str]) -> Markup:
    """The accuracy of each model on each of `leaves`; framed where a leaf was trained for the first time."""
    rows = (history.base, *history.rows)
    if not leaves:
        return Markup("")
    names = [fitted(f"{place} {leaf.rsplit('/', 1)[-1]}", 132) for place, leaf in enumerate(leaves, start=1)]
    cell, tall, left, head = 64, 44, 128, 30 + 4.2 * max(map(len, names))  # the names rise at 40 degrees
    width, height = max(left + cell * len(leaves) + 76, 320), head + tall * len(rows) + 8
    with style("matrix"):
        drawn = figure(width, height)
        axes = axes_at(drawn, height, (0, width), (0, height))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        for place, short in enumerate(names):
            at = (left + cell * place + 26, head - 8)
            axes.text(*at, short, rotation=40, rotation_mode="anchor", color=INK, fontsize=11)
        for number, row in enumerate(rows):
            top = head + tall * number
            axes.text(left - 10, top + tall / 2, fitted(row.name, left - 10), ha="right", va="center", color=INK)
            for place, leaf in enumerate(leaves):
                _cell(axes, row, leaf, (left + cell * place, top), (cell, tall))
        return svg(drawn, "Accuracy of each model on each leaf")


def coverage_plot(documents: Sequence[DocumentCoverage]) -> Markup:
    """A strip for each document: dark where many samples tell something of a sentence, empty where none does.

    Of more documents than fit those of which least is told are shown.
    """
    shown = sorted((each for each in documents if each.sentences), key=_share_touched)[:MOST_ROWS]
    if not shown:
        return Markup("")
    row = 42
    height = row * len(shown) + 4
    most = max(samples for each in shown for _, _, samples in each.sentences) or 1
    with style("coverage"):
        drawn = figure(WIDTH, height)
        axes = axes_at(drawn, height, (8, WIDTH - 8), (0, height))
        axes.set(xlim=(0, 1), ylim=(height, 0))
        axes.set_axis_off()
        for number, each in enumerate(shown):
            said = f"{100 * _share_touched(each):.0f} % of {len(each.sentences):,} sentences"
            name_above(axes, row * number + 16, each.document, WIDTH - 190)
            axes.text(1, row * number + 16, said, ha="right", color=SOFT)
            axes.barh(row * number + 29, 1, height=14, color=RULE, linewidth=0)
            for start, width, samples in _strips(each, min(_STRIPS_PER_DOCUMENT, _MOST_STRIPS // len(shown))):
                strength = 0.35 + 0.65 * math.log1p(samples) / math.log1p(most)
                axes.barh(row * number + 29, width, left=start, height=14, color=SERIES[3], alpha=strength, linewidth=0)
        return svg(drawn, "Which parts of each document samples tell of")


def interval_bar(rate: Rate, series: int) -> Markup:
    """A rate and its interval on a line from 0 to 1, small enough for a table cell."""
    bar = Markup(
        '<svg class="bar" viewBox="0 0 110 12" width="110" height="12" aria-hidden="true">'
        '<line class="track" x1="5" y1="6" x2="105" y2="6"/>'
        '<line class="range s{series}" x1="{low}" y1="6" x2="{high}" y2="6"/>'
        '<circle class="mark s{series}" cx="{dot}" cy="6" r="4"/></svg>'
    )
    low, high, dot = (round(5 + 100 * value, 1) for value in (rate.low, rate.high, rate.value))
    return bar.format(series=series % len(SERIES), low=low, high=high, dot=dot)


def _pixels_across(axes: Axes) -> Any:
    """Pixels across the whole figure, data down the axes."""
    from matplotlib.transforms import Affine2D, blended_transform_factory

    return blended_transform_factory(Affine2D(), axes.transData)


def _gain(item: Comparison) -> float:
    return item.difference(0.025).value


def _margin(group: Together, gate: Gate) -> float:
    if group.name == "general set":
        return -gate.max_general_loss
    return gate.min_gain if group.name == "changed leaves" else -gate.max_loss


def _cell(axes: Axes, row: Row, leaf: str, at: tuple[float, float], size: tuple[float, float]) -> None:
    from matplotlib.patches import Rectangle

    (left, top), (wide, tall), rate = at, size, row.rate(leaf)
    if rate is None:
        axes.text(left + wide / 2, top + tall / 2, "–", ha="center", va="center")  # noqa: RUF001
        return
    corner, width, height = (left + 2, top + 2), wide - 4, tall - 4
    axes.add_patch(Rectangle(corner, width, height, facecolor=RULE, edgecolor="none", alpha=0.35))
    axes.add_patch(Rectangle(corner, width, height, facecolor=SERIES[1], edgecolor="none", alpha=0.5 * rate.value))
    if leaf in row.first_trained:
        axes.add_patch(Rectangle(corner, width, height, facecolor="none", edgecolor=INK, linewidth=2))
    middle = left + wide / 2
    axes.text(middle, top + 19, f"{100 * rate.value:.0f} %", ha="center", color=INK, fontsize=13)
    ends = f"{100 * rate.low:.0f}–{100 * rate.high:.0f}"  # noqa: RUF001
    axes.text(middle, top + 34, ends, ha="center", color=INK, fontsize=10.5)


def _share_touched(each: DocumentCoverage) -> float:
    return each.touched / len(each.sentences)


def _strips(each: DocumentCoverage, most: int) -> list[tuple[float, float, float]]:
    """(start, width, samples) of what samples tell of, in shares of the document; neighbours of a long one as one."""
    size = math.ceil(len(each.sentences) / most)
    groups = [each.sentences[start : start + size] for start in range(0, len(each.sentences), size)]
    length = max(each.characters, 1)
    strips = [
        (group[0][0] / length, (group[-1][1] - group[0][0]) / length, sum(count for _, _, count in group) / len(group))
        for group in groups
    ]
    return [strip for strip in strips if strip[2]]
