"""The plots of the training: loss and accuracy by phase, and what was replayed. Nothing to draw gives empty markup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from markupsafe import Markup

from .data import PhaseReport
from .drawing import INK, RULE, SERIES, WIDTH, axes_at, figure, fitted, name_above, style, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS_PER_PHASE = 200
_NEW = "new in this cycle"


def curves(phases: Sequence[PhaseReport]) -> Markup:
    """Loss, accuracy and reward, where they were measured, by optimizer step, phases one after the other."""
    losses = [_thinned(phase.losses) for phase in phases]
    if not any(losses):
        return Markup("")
    panels = [name for name in ("loss", "accuracy", "reward") if name == "loss" or _is_measured(phases, name)]
    starts = [0, *accumulate(phase.losses[-1][0] if phase.losses else 0 for phase in phases)]
    tall, head = 190, 34
    height = head + tall * len(panels) + 40
    with style("curves"):
        drawn = figure(WIDTH, height)
        for place, name in enumerate(panels):
            top = head + place * tall
            axes = axes_at(drawn, height, (46, WIDTH - 8), (top, top + tall - 24))
            axes.set_xlim(0, 1.01 * max(starts[-1], 1))
            if name == "loss":
                for start, curve in zip(starts, losses, strict=False):
                    label = "each step" if curve and not axes.lines else "_again"
                    line = [start + step for step, _ in curve], [loss for _, loss in curve]
                    axes.plot(*line, color=SERIES[1], linewidth=1.3, alpha=0.6, label=label)
            for colour, on, mark in ((SERIES[1], "training", "o"), (SERIES[2], "validation", "D")):
                _epochs(axes, phases, starts, f"{on} {name}", colour, mark)
            _bands(axes, phases, starts, named=place == 0)
            axes.set_ylabel(name)
            if name != "reward":  # it may be less than nothing
                axes.set_ylim(bottom=0, top=1.03 if name == "accuracy" else None)
            if place == 0:
                axes.legend(loc="lower left", bbox_to_anchor=(0, 1.04), ncols=3, fontsize=11, borderaxespad=0)
            if name == panels[-1]:
                axes.set_xlabel("optimizer step")
        return svg(drawn, f"{', '.join(panels).capitalize()} by optimizer step and phase")


def replay_plot(phases: Sequence[PhaseReport]) -> Markup:
    """Which share of each phase's samples is new and which is replayed, by where it came from."""
    trained = [phase for phase in phases if phase.samples]
    if not trained:
        return Markup("")
    origins = list(dict.fromkeys([_NEW, *(name for phase in trained for name in phase.replayed)]))
    row, head, foot = 42, 20 * math.ceil(len(origins) / 3) + 8, 40
    height = head + row * len(trained) + foot
    with style("replay"):
        from matplotlib.patches import Patch

        drawn = figure(WIDTH, height)
        axes = axes_at(drawn, height, (18, WIDTH - 24), (head, height - foot))
        axes.set(xlim=(0, 1), ylim=(row * len(trained), 0), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.set_xlabel("share of the phase's samples")
        for number, phase in enumerate(trained):
            name_above(axes, row * number + 15, f"{number + 1} {phase.name}", WIDTH)
            counts = {_NEW: phase.samples - sum(phase.replayed.values())} | dict(phase.replayed)
            start = 0.0
            for origin, count in counts.items():
                share = count / phase.samples
                place = origins.index(origin)
                axes.barh(row * number + 28, share, left=start, height=15, color=SERIES[(place + 1) % len(SERIES)])
                start += share
        keys = [
            Patch(color=SERIES[(place + 1) % len(SERIES)], label=fitted(origin, 190))
            for place, origin in enumerate(origins)
        ]
        axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=11, borderaxespad=0.2)
        return svg(drawn, "Shares of new and replayed samples by phase")


def _is_measured(phases: Sequence[PhaseReport], name: str) -> bool:
    on = (f"training {name}", f"validation {name}")
    return any(which in epoch.numbers for phase in phases for epoch in phase.measured for which in on)


def _epochs(
    axes: Axes, phases: Sequence[PhaseReport], starts: Sequence[int], name: str, colour: str, mark: str
) -> None:
    """What was measured at the end of each epoch; the mark of the one whose model was taken is filled."""
    label = name.replace("training", "on training samples").replace("validation", "on samples held back")
    label = label.rsplit(" ", 1)[0]
    for start, phase in zip(starts, phases, strict=False):
        found = [each for each in phase.measured if math.isfinite(each.numbers.get(name, math.nan))]
        if not found:
            continue
        steps, values = [start + each.step for each in found], [each.numbers[name] for each in found]
        axes.plot(steps, values, mark, color=colour, markersize=6, fillstyle="none", linestyle="-", label=label)
        chosen = [(step, value) for step, value, each in zip(steps, values, found, strict=True) if each.chosen]
        axes.plot(*zip(*chosen, strict=True) if chosen else ([], []), mark, color=colour, markersize=6)
        label = "_again"


def _bands(axes: Axes, phases: Sequence[PhaseReport], starts: Sequence[int], *, named: bool) -> None:
    """Where each phase begins, and over the uppermost panel its number and, where there is room, its name."""
    for number, phase in enumerate(phases):
        start, end = starts[number], starts[number + 1]
        if number % 2 == 0:
            axes.axvspan(start, end, color=RULE, alpha=0.3, linewidth=0)
        room = (WIDTH - 54) * (end - start) / max(starts[-1], 1)
        if named and room > 12:
            label = f"{number + 1} {phase.name}"
            label = label if 7 * len(label) < room else f"{number + 1}"
            at = axes.get_xaxis_transform()
            axes.text((start + end) / 2, 0.93, label, transform=at, ha="center", va="center", color=INK, fontsize=11)


def _thinned(losses: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """At most `_POINTS_PER_PHASE` points, each the mean of its neighbours; what is not finite cannot be drawn."""
    finite = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    size = max(1, math.ceil(len(finite) / _POINTS_PER_PHASE))
    groups = [finite[start : start + size] for start in range(0, len(finite), size)]
    return [
        (sum(step for step, _ in group) / len(group), sum(loss for _, loss in group) / len(group)) for group in groups
    ]
