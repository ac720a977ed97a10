"""Two releases side by side: leaves, what else they were made with, scores, and what the paired test says of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..core.rate import Rate
from ..core.records import Record
from ..core.workspace import Workspace
from ..eval.compare import Finding
from ..eval.evaluation import Evaluation, unlike
from ..eval.general import is_general
from ..eval.report.data import LeafChanges
from .basis import leaf_changes
from .journal import EVALUATION, JUDGEMENT, Judgement, cycle_folder, cycle_numbers, find_cycle, read_record
from .releases import Release, find_release

_SETTINGS = ("commit", "student", "teacher", "plan", "seed", "tilth")

Told = Literal["better", "worse", "no difference shown", "not compared"]
_TOLD: dict[Finding, Told] = {
    "learned": "better",
    "forgotten": "worse",
    "no change shown": "no difference shown",
    "not measured": "not compared",
}
_REVERSED: dict[Told, Told] = {"better": "worse", "worse": "better"}


class LeafScores(Record):
    """What two releases answered rightly of a leaf's held-out questions."""

    leaf: str
    first: Rate | None
    """None: it was not asked."""
    second: Rate | None
    told: Told
    """Of the second release against the first, by the paired test."""


class ReleaseDiff(Record):
    """The second release against the first."""

    first: int
    second: int
    leaves: LeafChanges
    remade: tuple[str, ...]
    """Leaves that say the same and have other samples: another recipe or teacher made them."""
    settings: Mapping[str, tuple[str, str]]
    """What else differs: name -> the first release's, the second's."""
    compared_in: int
    """The cycle that asked both the same questions; 0: none did, and each score is of its release's own cycle."""
    scores: tuple[LeafScores, ...]
    unlike: str = ""
    """Why scores of two cycles are not to be compared: another judge, prompt or setting."""


def release_diff(workspace: Workspace, first: int, second: int) -> ReleaseDiff:
    """Compare two releases by their records; no model is asked. Raises TilthError when there is none of that number."""
    one, two = find_release(workspace, first), find_release(workspace, second)
    leaves = leaf_changes(one.datasets, {dataset.leaf: dataset.leaf_fingerprint for dataset in two.datasets})
    entries = {(dataset.leaf, dataset.entry) for dataset in one.datasets}
    remade = [
        each.leaf for each in two.datasets if each.leaf in leaves.unchanged and (each.leaf, each.entry) not in entries
    ]
    older, younger = sorted((one, two), key=lambda release: release.number)
    asked = _asked_both(workspace, older, younger)
    told: dict[str, Told] = _told(workspace, younger) if asked else {}
    if younger is one:
        told = {leaf: _REVERSED.get(said, said) for leaf, said in told.items()}
    return ReleaseDiff(
        first=first,
        second=second,
        leaves=leaves,
        remade=tuple(remade),
        settings=_settings(workspace, one, two),
        compared_in=younger.cycle if asked else 0,
        unlike="" if asked else _unlike(workspace, one, two),
        scores=tuple(
            LeafScores(
                leaf=leaf,
                first=_rate(one, leaf, asked),
                second=_rate(two, leaf, asked),
                told=told.get(leaf, "not compared"),
            )
            for leaf in sorted(one.scores.keys() | two.scores.keys(), key=lambda leaf: (is_general(leaf), leaf))
        ),
    )


def _settings(workspace: Workspace, one: Release, two: Release) -> dict[str, tuple[str, str]]:
    """What differs, by name. A plan of one's own may have been edited since, under its name: its cycle tells."""
    pairs = {name: (str(getattr(one, name)), str(getattr(two, name))) for name in _SETTINGS}
    first, second = _plan_content(workspace, one), _plan_content(workspace, two)
    known = bool(first and second) and one.tilth == two.tilth  # another version may have other defaults
    if known and one.plan == two.plan and first != second:
        pairs["plan"] = (f"{one.plan} as of cycle {one.cycle}", f"{two.plan} as of cycle {two.cycle}")
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _plan_content(workspace: Workspace, release: Release) -> str:
    """The fingerprint of a release's plan; empty where the records of its cycle are gone."""
    if release.cycle not in cycle_numbers(workspace):
        return ""
    return find_cycle(workspace, release.cycle).decided_by.get("plan", "")


def _asked_both(workspace: Workspace, older: Release, younger: Release) -> Evaluation | None:
    """The evaluation of the younger one's cycle, if the older one is what its candidate was compared with."""
    folder = cycle_folder(workspace, younger.cycle)
    if not ((folder / EVALUATION).is_file() and (folder / JUDGEMENT).is_file()):
        return None
    evaluation = read_record(folder / EVALUATION, Evaluation)
    return evaluation if list(evaluation.models)[-2:] == [older.name, younger.name] else None


def _unlike(workspace: Workspace, one: Release, two: Release) -> str:
    """Empty where one of their cycles' evaluations is gone, too."""
    files = [cycle_folder(workspace, release.cycle) / EVALUATION for release in (one, two)]
    if not all(file.is_file() for file in files):
        return ""
    return unlike(*(read_record(file, Evaluation) for file in files))


def _told(workspace: Workspace, release: Release) -> dict[str, Told]:
    """What the gate of a release's cycle was told of each leaf."""
    judgement = read_record(cycle_folder(workspace, release.cycle) / JUDGEMENT, Judgement)
    return {item.leaf: _TOLD[item.verdict] for item in judgement.comparisons}


def _rate(release: Release, leaf: str, asked: Evaluation | None) -> Rate | None:
    """On the questions that both were asked, where there are some."""
    if asked and leaf in asked.leaves:
        return asked.rate(release.name, leaf)
    return release.scores.get(leaf)
