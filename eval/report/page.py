"""The page: records laid out by the templates beside this file. Every text in them is hostile and is escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from markupsafe import Markup
from pydantic import AwareDatetime

from ...core.rate import Rate
from ...core.records import Reject
from .data import LeafChanges, ReportData
from .plots import interval_bar, loss_plot, score_plot

if TYPE_CHECKING:
    from jinja2 import Template

MAX_BYTES = 3_000_000
"""The page stays below this; its lists show as much as fits."""

_SHOWN = (40, 20, 10, 5, 2, 1, 0)
"""How many questions and samples of a leaf are shown at most: the first number whose page fits."""

_EXAMPLES_PER_REASON = 3
_MOST_REASONS = 50
_LONGEST_TEXT = 2_000
_FOLDER = Path(__file__).parent

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


def render(data: ReportData) -> str:
    """The report as one HTML document under 3 MB that loads nothing from anywhere.

    Long lists are thinned evenly, and say so ("40 of 312 shown"), until the page fits.
    """
    template = _template()
    page = ""
    for shown in _SHOWN:
        page = _page(template, data, shown)
        if len(page.encode()) < MAX_BYTES:
            break
    return page


@dataclass(frozen=True)
class Shown(Generic[Item]):
    """The part of a list that is shown, and how long the list is."""

    items: Sequence[Item]
    total: int


def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        leaf=_leaf, text=_text, interval=_interval, duration=_duration, number=_number, moment=_moment
    )
    return environment.get_template("page.jinja")


def _page(template: Template, data: ReportData, shown: int) -> str:
    script = _file("script.jinja")
    rates = {
        item.leaf: {model: data.evaluation.rate(model, item.leaf) for model in data.evaluation.models}
        for item in data.comparisons
    }
    return template.render(
        data=data,
        bar=interval_bar,
        style=_file("style.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        changes=_changes(data.changes),
        findings=_by(data.comparisons, lambda item: item.verdict),
        rates=rates,
        loss_plot=loss_plot(data.phases),
        measured=list(
            dict.fromkeys(name for phase in data.phases for epoch in phase.measured for name in epoch.numbers)
        ),
        score_plot=score_plot({leaf: row for leaf, row in rates.items() if leaf in data.evaluation.leaves}),
        questions={leaf: _thinned(data.evaluation.of_leaf(leaf), shown) for leaf in data.evaluation.leaves},
        samples={
            leaf: _thinned(group, shown) for leaf, group in _by(data.samples, lambda sample: sample.source.leaf).items()
        },
        kinds=sorted({sample.kind for sample in data.samples}),
        reasons=_reasons(data.rejects, min(shown, _EXAMPLES_PER_REASON)),
    )


def _file(name: str) -> Markup:
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))  # noqa: S704  our own text, not the records'


def _changes(changes: LeafChanges) -> dict[str, str]:
    """Leaf id -> what happened to it."""
    found = dict.fromkeys(changes.unchanged, "unchanged") | dict.fromkeys(changes.added, "added")
    found |= dict.fromkeys(changes.modified, "modified") | dict.fromkeys(changes.removed, "removed")
    return found | {new: f"moved from {old}" for old, new in changes.moved}


def _reasons(rejects: Sequence[Reject], examples: int) -> Shown[tuple[str, str, Shown[Reject]]]:
    """(step, reason, its rejects), the most frequent first."""
    groups = _by(rejects, lambda reject: (reject.step, reject.reason))
    rows = [(step, reason, _thinned(group, examples)) for (step, reason), group in groups.items()]
    rows.sort(key=lambda row: -row[2].total)
    return Shown(rows[:_MOST_REASONS], len(rows))


def _by(items: Iterable[Item], key: Callable[[Item], Key]) -> Mapping[Key, list[Item]]:
    groups: defaultdict[Key, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def _thinned(items: Sequence[Item], shown: int) -> Shown[Item]:
    """`shown` of the items, evenly spread, so that each kind in a sorted list is there."""
    count = min(shown, len(items))
    return Shown([items[number * len(items) // count] for number in range(count)], len(items))


def _text(value: str) -> str:
    """A text as the page shows it: control characters made visible, the end of a very long one counted, not shown."""
    clean = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", value.replace("\r\n", "\n"))
    rest = len(clean) - _LONGEST_TEXT
    return clean if rest <= 0 else f"{clean[:_LONGEST_TEXT]} … ({rest:,} more characters)"


def _leaf(name: str) -> Markup:
    """A leaf's id, which may break after its slashes and underscores."""
    parts = Markup("<wbr>").join(re.split(r"(?<=[/_])", name))
    return Markup('<span class="leaf">{}</span>').format(parts)


def _interval(rate: Rate) -> str:
    return f"{100 * rate.low:.0f}\N{EN DASH}{100 * rate.high:.0f} %"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _number(value: float) -> str:
    """Thousands apart; no more than four digits behind the point."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _moment(value: AwareDatetime) -> str:
    return f"{value.astimezone(UTC):%-d %B %Y, %H:%M} UTC"
