"""Plots as inline SVG: colours and type come from the page's style sheet, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from markupsafe import Markup

from ...core.rate import Rate
from .data import PhaseReport

WIDTH = 920
_POINTS_PER_PHASE = 200
_GLYPH = 6.6
"""Mean width of a letter at the plots' 12 pixels."""

_SHAPES = (
    Markup('<circle class="mark s{series}" cx="{x}" cy="{y}" r="4.5"/>'),
    Markup('<path class="mark s{series}" d="M{x} {y}m-4 -4h8v8h-8z"/>'),
    Markup('<path class="mark s{series}" d="M{x} {y}m0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>'),
    Markup('<path class="mark s{series}" d="M{x} {y}m0 -5l5.2 9h-10.4z"/>'),
)
NUM_SERIES = 6
"""Colours that the style sheet has, `s0` to `s5`; models beyond them begin again, with another shape."""


def loss_plot(phases: Sequence[PhaseReport]) -> Markup:
    """Training loss against the optimizer step, phases one after the other. Nothing to draw gives empty markup."""
    curves = [_thinned(phase.losses) for phase in phases]
    highest = max((loss for curve in curves for _, loss in curve), default=0.0)
    if highest <= 0:
        return Markup("")
    height, left, right, top, bottom = 300, 52, WIDTH - 12, 30, 252
    ends = list(accumulate(phase.losses[-1][0] if phase.losses else 0 for phase in phases))
    y_ticks, x_ticks = _ticks(highest), _ticks(ends[-1])

    def x(step: float) -> float:
        return round(left + (right - left) * step / ends[-1], 1)

    def y(loss: float) -> float:
        return round(bottom - (bottom - top) * loss / y_ticks[-1], 1)

    parts = [_bands(phases, [x(step) for step in (0, *ends)], top, bottom)]
    for tick in y_ticks:
        parts += [_line("grid", left, y(tick), right, y(tick)), _text(left - 8, y(tick) + 4, f"{tick:g}", "end")]
    for tick in (tick for tick in x_ticks if tick <= ends[-1]):
        parts += [_line("tick", x(tick), bottom, x(tick), bottom + 5)]
        parts += [_text(x(tick), bottom + 19, f"{tick:g}", "middle")]
    parts.append(_line("axis", left, bottom, right, bottom) + _line("axis", left, top, left, bottom))
    for start, curve in zip((0, *ends), curves, strict=False):
        points = " ".join(f"{x(start + step)},{y(loss)}" for step, loss in curve)
        parts.append(Markup('<polyline class="curve" points="{}"/>').format(points))
    parts.append(_text((left + right) / 2, height - 8, "optimizer step", "middle", "name"))
    parts.append(_text(left, top - 14, "training loss", "start", "name"))
    return _figure(height, "Training loss by optimizer step and phase", parts)


def score_plot(scores: Mapping[str, Mapping[str, Rate]]) -> Markup:
    """A dot and its interval for each model of each leaf: leaf -> model -> rate. No leaf gives empty markup."""
    if not scores:
        return Markup("")
    left, right, row, head, gap = 132, WIDTH - 84, 21, 24, 12
    height = sum(head + row * len(rates) + gap for rates in scores.values()) + 44
    bottom = height - 40

    def x(share: float) -> float:
        return round(left + (right - left) * share, 1)

    parts: list[Markup] = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts += [_line("grid", x(tick), 6, x(tick), bottom), _text(x(tick), bottom + 17, f"{tick:.0%}", "middle")]
    at = 6
    for leaf, rates in scores.items():
        parts.append(_text(0, at + 15, _fitted(leaf, WIDTH), "start", "group"))
        for number, (model, rate) in enumerate(rates.items()):
            parts.append(_score_row(number, model, rate, at + head + row * number + row // 2, x))
        at += head + row * len(rates) + gap
    parts.append(_line("axis", left, bottom, right, bottom))
    parts.append(_text((left + right) / 2, height - 6, "held-out questions answered rightly", "middle", "name"))
    return _figure(height, "Held-out score by leaf and model, with 95 % intervals", parts)


def interval_bar(rate: Rate, series: int) -> Markup:
    """A rate and its interval on a line from 0 to 1, small enough for a table cell."""
    svg = Markup(
        '<svg class="bar" viewBox="0 0 110 12" width="110" height="12" aria-hidden="true">'
        '<line class="track" x1="5" y1="6" x2="105" y2="6"/>'
        '<line class="range s{series}" x1="{low}" y1="6" x2="{high}" y2="6"/>'
        '<circle class="mark s{series}" cx="{dot}" cy="6" r="4"/></svg>'
    )
    low, high, dot = (round(5 + 100 * value, 1) for value in (rate.low, rate.high, rate.value))
    return svg.format(series=series % NUM_SERIES, low=low, high=high, dot=dot)


def _score_row(number: int, model: str, rate: Rate, y: int, x: Callable[[float], float]) -> Markup:
    series = number % NUM_SERIES
    dot = _SHAPES[number % len(_SHAPES)].format(series=series, x=x(rate.value), y=y)
    label = _text(124, y + 4, _fitted(model, 120), "end")
    count = _text(WIDTH, y + 4, f"{rate.correct} of {rate.total}", "end")
    if rate.total == 0:
        return label + _text(WIDTH, y + 4, "not asked", "end")
    return label + _line(f"range s{series}", x(rate.low), y, x(rate.high), y) + dot + count


def _bands(phases: Sequence[PhaseReport], edges: Sequence[float], top: int, bottom: int) -> Markup:
    parts: list[Markup] = []
    for number, phase in enumerate(phases, start=1):
        start, end = edges[number - 1], edges[number]
        band = Markup('<rect class="band b{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>')
        parts.append(band.format(number % 2, start, top, round(end - start, 1), bottom - top, phase.name))
        label = f"{number} {phase.name}"
        shown = label if _GLYPH * len(label) < end - start - 6 else str(number)
        parts.append(_text((start + end) / 2, top + 16, shown, "middle", "phase"))
    return Markup("").join(parts)


def _thinned(losses: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """At most `_POINTS_PER_PHASE` points, each the mean of its neighbours; what is not finite cannot be drawn."""
    finite = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    size = max(1, math.ceil(len(finite) / _POINTS_PER_PHASE))
    groups = [finite[start : start + size] for start in range(0, len(finite), size)]
    return [
        (sum(step for step, _ in group) / len(group), sum(loss for _, loss in group) / len(group)) for group in groups
    ]


def _ticks(highest: float) -> list[float]:
    """Four to nine round numbers from 0 to the first that is not below `highest`."""
    magnitude = 10.0 ** math.floor(math.log10(highest / 4))
    step = next(step * magnitude for step in (1, 2, 5, 10) if highest / (step * magnitude) <= 8)
    return [round(step * number, 10) for number in range(math.ceil(highest / step) + 1)]


def _fitted(label: str, width: float) -> str:
    longest = int(width / _GLYPH)
    return label if len(label) <= longest else label[: longest - 1] + "…"


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, x1, y1, x2, y2)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "label") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, round(x, 1), y, anchor, text
    )


def _figure(height: int, title: str, parts: Sequence[Markup]) -> Markup:
    opening = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, height, title)
    return opening + Markup("").join(parts) + Markup("</svg>")
