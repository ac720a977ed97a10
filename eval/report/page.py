"""The page: records laid out by the templates beside this file. Every text in them is hostile and is escaped."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from markupsafe import Markup

from ...core.records import Preference, Reject, Sample
from ..compare import Comparison
from ..contamination import ContaminationReport
from ..contamination import Item as Searched
from ..general import is_general
from ..run import FORM_TOKENS
from .data import ReportData
from .flips import best, worst
from .plots import MOST_ROWS, coverage_plot, forest_plot, heat_map, interval_bar
from .training_plots import curves, replay_plot
from .words import FILTERS

if TYPE_CHECKING:
    from jinja2 import Environment, Template

MAX_BYTES = 3_000_000
"""The page stays below this; its lists show as much as fits."""

_SHOWN = ((40, 500), (20, 500), (10, 500), (5, 500), (2, 500), (1, 500), (0, 500), (0, 200), (0, 60))
"""How many questions and samples of a leaf are shown at most, and of how many leaves: the first two that fit."""

_LEAST_ITEM_BYTES = 500
"""No question or sample takes less of a page, whatever it says."""

_EXAMPLES_PER_REASON = 3
_MOST_REASONS = 50
_MOST_FLIPS = 10
_MOST_NEIGHBOURS = 20
_MOST_RELEASES = 24
"""A row of the matrix takes 36 KB of a page."""
_RESAMPLED = "new samples"
"""Of a leaf that did not change itself."""
_FOLDER = Path(__file__).parent

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


def render(data: ReportData) -> str:
    """The report as one HTML document under 3 MB that loads nothing from anywhere.

    Long lists are thinned evenly, and say so ("40 of 312 shown"), until the page fits. Raises TilthError where
    matplotlib is missing.
    """
    template, drawn, made = template_of("page.jinja"), _drawn(data), [*data.samples, *data.pairs]
    items = [Counter(each.leaf for each in data.evaluation.questions), Counter(map(_leaf_of, made))]
    page = ""
    for shown, rows in _SHOWN:
        if sum(_num_items(each, shown, rows) for each in items) * _LEAST_ITEM_BYTES < MAX_BYTES:
            page = _page(template, data, drawn, shown, rows)
            if len(page.encode()) < MAX_BYTES:
                break
    return page


def _leaf_of(sample: Sample | Preference) -> str:
    return sample.source.leaf


def _num_items(by_leaf: Mapping[str, int], shown: int, rows: int) -> float:
    """About how many items a page has of which `by_leaf` says how many there are."""
    return sum(min(shown, count) for count in by_leaf.values()) * min(1.0, rows / max(1, len(by_leaf)))


def template_of(name: str) -> Template:
    """A template of this folder, which escapes all that it is given."""
    return _environment().get_template(name)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def own_file(name: str) -> Markup:
    """A file of this folder as it stands."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))  # noqa: S704  our own text, not the records'


@dataclass(frozen=True)
class Shown(Generic[Item]):
    """The part of a list that is shown, and how long the list is."""

    items: Sequence[Item]
    total: int


def _drawn(data: ReportData) -> Mapping[str, Any]:
    """The plots, and the leaves of the matrix in the order of its columns."""
    columns, rows = _columns(data), data.history.rows if data.history else ()
    newest = data.history.model_copy(update={"rows": rows[-_MOST_RELEASES:]}) if data.history else None
    return {
        "forest": forest_plot(data.comparisons, data.together, data.gate),
        "matrix": heat_map(newest, columns) if newest else "",
        "models": Shown(rows[-_MOST_RELEASES:], len(rows)),
        "columns": columns,
        "curves": curves(data.phases),
        "replay": replay_plot(data.phases),
        "coverage": coverage_plot(data.coverage),
    }


def _columns(data: ReportData) -> list[str]:
    """The leaves that were trained in the order in which they were first, then those of the general set."""
    if data.history is None:
        return []
    rows = (data.history.base, *data.history.rows)
    general = sorted({leaf for row in rows for leaf in row.rates if is_general(leaf)})
    asked = [leaf for leaf in (*data.history.tasks, *general) if any(row.rate(leaf) for row in rows)]
    return asked[-MOST_ROWS:]


def _page(template: Template, data: ReportData, drawn: Mapping[str, Any], shown: int, rows: int) -> str:
    script, changes = own_file("script.jinja"), _changes(data)
    asked = [*dict.fromkeys([*(item.leaf for item in data.comparisons), *data.evaluation.leaves])]
    telling = {item.leaf for item in data.comparisons if item.verdict in {"learned", "forgotten"}}
    leaves = _most(asked, lambda leaf: leaf in telling or is_general(leaf) or changes.get(leaf) != "unchanged", rows)
    measured, made = set(data.evaluation.leaves), [*data.samples, *data.pairs]
    return template.render(
        data=data,
        drawn=drawn,
        bar=interval_bar,
        style=own_file("style.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        headline=_headline(data),
        is_general=is_general,
        form_tokens=FORM_TOKENS,
        changes=changes,
        resampled=[leaf for leaf, change in changes.items() if change == _RESAMPLED],
        releases=Shown(data.releases[-_MOST_RELEASES:], len(data.releases)),
        leaves=Shown(leaves, len(asked)),
        few=functools.partial(_few, rows),
        findings=_by(data.comparisons, lambda item: item.verdict),
        compared={item.leaf: item for item in data.comparisons},
        rates={leaf: {model: data.evaluation.rate(model, leaf) for model in data.evaluation.models} for leaf in leaves},
        measured=list(
            dict.fromkeys(name for phase in data.phases for epoch in phase.measured for name in epoch.numbers)
        ),
        worst=_first(worst(data.evaluation, data.parent, data.candidate), _MOST_FLIPS),
        best=_first(best(data.evaluation, data.parent, data.candidate), min(_MOST_FLIPS, shown)),
        questions={leaf: _thinned(data.evaluation.of_leaf(leaf), shown) for leaf in leaves if leaf in measured},
        samples={leaf: _thinned(group, shown) for leaf, group in _thinned([*_by(made, _leaf_of).items()], rows).items},
        leaves_made=len({*map(_leaf_of, made)}),
        kinds=sorted({sample.kind for sample in made}),
        authors=sorted({sample.source.teacher for sample in made}),
        reasons=_reasons(data.rejects, min(shown, _EXAMPLES_PER_REASON)),
        neighbours=_neighbours(data.contamination, min(shown, _MOST_NEIGHBOURS)),
    )


def _headline(data: ReportData) -> str:
    """What came of the cycle, in a sentence."""
    found = _by(data.comparisons, lambda item: item.verdict)
    learned, forgotten = (_leaves(found.get(finding, [])) for finding in ("learned", "forgotten"))
    said = f"{learned} shown to be learned, {forgotten} shown to be forgotten"
    if not data.released:
        return f"The candidate was not released: {said}."
    against = "" if data.verdict.passed else ", against the gate's verdict"
    return f"The candidate became {data.released}{against}: {said}."


def _leaves(items: Sequence[Comparison]) -> str:
    return f"{len(items) or 'no'} {'leaf is' if len(items) < 2 else 'leaves are'}"


def _changes(data: ReportData) -> dict[str, str]:
    """Leaf id -> what happened to it."""
    changes = data.changes
    found = dict.fromkeys(changes.unchanged, "unchanged") | dict.fromkeys(data.new, _RESAMPLED)
    found |= dict.fromkeys(changes.added, "added") | dict.fromkeys(changes.modified, "modified")
    found |= dict.fromkeys(changes.removed, "removed")
    return found | {new: f"moved from {old}" for old, new in changes.moved}


def _reasons(rejects: Sequence[Reject], examples: int) -> Shown[tuple[str, str, Shown[Reject]]]:
    """(step, reason, its rejects), the most frequent first."""
    groups = _by(rejects, lambda reject: (reject.step, reject.reason))
    rows = [(step, reason, _thinned(group, examples)) for (step, reason), group in groups.items()]
    rows.sort(key=lambda row: -row[2].total)
    return Shown(rows[:_MOST_REASONS], len(rows))


def _neighbours(report: ContaminationReport | None, shown: int) -> Shown[Searched]:
    """What comes nearest to a held-out question: leaks first, then by likeness."""
    if report is None:
        return Shown((), 0)
    items = sorted(report.items, key=lambda item: (item.kind == "none", -_likeness(item)))
    return Shown(items[:shown], len(items))


def _likeness(item: Searched) -> float:
    return max((found.likeness for found in (item.leak, item.by_words) if found), default=0.0)


def _by(items: Iterable[Item], key: Callable[[Item], Key]) -> Mapping[Key, list[Item]]:
    groups: defaultdict[Key, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def _most(leaves: Sequence[str], is_telling: Callable[[str], bool], rows: int) -> list[str]:
    """`rows` of the leaves in their order: those that tell something, and as many others as there is room for."""
    first = [leaf for leaf in leaves if is_telling(leaf)][:rows]
    others = _thinned([leaf for leaf in leaves if not is_telling(leaf)], rows - len(first)).items
    kept = {*first, *others}
    return [leaf for leaf in leaves if leaf in kept]


def _few(rows: int, items: Sequence[Any], among: int = 1) -> Shown[Any]:
    """As many as there are `rows` for, where `among` lists share them."""
    return _thinned(items, max(1, rows // max(1, among)))


def _first(items: Sequence[Item], shown: int) -> Shown[Item]:
    return Shown(items[:shown], len(items))


def _thinned(items: Sequence[Item], shown: int) -> Shown[Item]:
    """`shown` of the items, evenly spread, so that each kind in a sorted list is there."""
    count = min(shown, len(items))
    return Shown([items[number * len(items) // count] for number in range(count)], len(items))
