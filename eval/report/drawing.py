"""A matplotlib figure as SVG for a page: its text stays text, its colours are the style sheet's.

The same figure gives the same bytes. matplotlib is imported when the first figure is made.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Generator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from ...core.errors import TilthError
from .words import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 640
"""Pixels of a figure that is as wide as its page."""

INK, SOFT, RULE, PAPER = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
SERIES = tuple(f"#0a0c{number:02}" for number in range(6))
"""Colours that stand for the style sheet's until the figure is SVG."""

_VARIABLES = {INK: "ink", SOFT: "soft", RULE: "rule", PAPER: "paper"} | {
    colour: f"s{number}" for number, colour in enumerate(SERIES)
}


def require_drawing() -> None:
    """Raise TilthError where matplotlib is missing."""
    if find_spec("matplotlib") is None:
        fix = 'pip install "tilth[train]"'
        raise TilthError("the report needs the package matplotlib, which is not installed", fix=fix)


@contextlib.contextmanager
def style(name: str) -> Generator[None]:
    """Figures made and drawn within look like the page. `name` is that of the one figure, unlike all others' there."""
    require_drawing()
    from matplotlib import rc_context

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
        "font.family": "DejaVu Sans",
        "font.size": 12,
        "text.color": SOFT,
        "axes.edgecolor": RULE,
        "axes.labelcolor": SOFT,
        "axes.titlecolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": RULE,
        "grid.linewidth": 0.8,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "legend.frameon": False,
    }
    with rc_context(settings):
        yield


def figure(width: float, height: float) -> Figure:
    """An empty figure of so many pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none")


def svg(drawn: Figure, label: str) -> Markup:
    """The figure as an `svg` element of class `plot`; `label` is read out in its place."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the reader's browser has it
        drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314  matplotlib's own words
    size = [float(number) for number in root.attrib["viewBox"].split()[2:]]
    _strip(root)
    root.attrib.clear()
    root.attrib |= {
        "class": "plot",
        "viewBox": f"0 0 {size[0]:g} {size[1]:g}",
        "style": f"min-width: {min(576, size[0]):g}px; max-width: {1.15 * size[0]:g}px",
        "role": "img",
        "aria-label": label,
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704  ElementTree escapes texts


def fitted(text: str, width: float) -> str:
    """A text of others on one line of at most about so many pixels, at 12 pixels' size."""
    words, longest = " ".join(clean(text).split()), max(2, int(width / 6.6))
    return words if len(words) <= longest else words[: longest - 1] + "…"


def axes_at(drawn: Any, height: float, across: tuple[float, float], down: tuple[float, float]) -> Axes:
    """Axes at a place in pixels, counted from the upper left corner."""
    width = drawn.get_figwidth() * 72
    (left, right), (top, bottom) = across, down
    box = (left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height)
    axes: Axes = drawn.add_axes(box)
    axes.set_facecolor("none")
    axes.tick_params(length=0)
    return axes


def name_above(axes: Axes, y: float, name: str, width: float, *, bold: bool = False) -> None:
    """A name on the left, over the row that it names; it hides what it stands on. `y` is its base line, in data."""
    weight, behind = "bold" if bold else "normal", {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
    across = axes.get_yaxis_transform()
    axes.text(0, y, fitted(name, width), transform=across, color=INK, fontweight=weight, bbox=behind)


def _strip(root: ElementTree.Element) -> None:
    """Take away what an HTML page does not need, or what would reach beyond the figure."""
    for parent in root.iter():
        for child in list(parent):
            if _name(child.tag) in {"metadata", "style"}:
                parent.remove(child)
    elements = list(root.iter())
    used = {found for each in elements for value in each.attrib.values() for found in re.findall(r"#([\w-]+)", value)}
    for each in elements:
        kept = {_name(name): value for name, value in each.attrib.items()}
        if kept.get("id") not in used:
            kept.pop("id", None)
        if "d" in kept:
            kept["d"] = re.sub(r"(\.\d)\d+", r"\1", " ".join(kept["d"].split()))
        if "style" in kept:
            kept["style"] = _styled(kept["style"])
        each.tag = _name(each.tag)
        each.attrib.clear()
        each.attrib |= kept
        each.tail = None
        if each.text and not each.text.strip():
            each.text = None


def _name(qualified: str) -> str:
    return qualified.rsplit("}", 1)[-1]


def _styled(text: str) -> str:
    """The page's own type and colours in place of the figure's."""
    text = re.sub(r"font-family: [^;]*;? ?", "", re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", text))
    return re.sub(r"#0a0[bc]\d\d", lambda found: f"var(--{_VARIABLES[found[0]]})", text)
