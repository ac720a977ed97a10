"""What the next cycle would do and why, stage by stage: nothing is generated, nothing is written, no model is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.first_few import MOST_NAMED, first_few
from ..core.progress import Progress
from ..core.records import Record
from ..core.workspace import Workspace
from ..eval.report.data import LeafChanges
from ..llm.student import student_folder
from ..sdg.generate import Planned
from ..sdg.store import open_entry, read_manifest, read_tests
from ..train.explain import Outlook, explain_plan
from ..train.plan import load_plan
from . import journal
from .basis import Basis, read_basis, training_inputs
from .journal import EVALUATION, TRAIN, Done, Inputs, cycle_folder
from .past import read_past

_OTHER = {
    "samples": "other samples",
    "questions": "other questions must be passed, or are judged",
    "parent": "another release is current",
    "plan": "another plan",
    "student": "another student",
    "eval": "models are asked otherwise",
    "judge": "another judge, or another prompt of his",
    "gate": "another gate",
    "seed": "another seed",
    "code": "this tilth judges otherwise",
}


class Explained(Record):
    """The plan on what the store holds now."""

    plan: str
    student: str
    """The student, or the release that training starts from."""
    new: tuple[str, ...]
    """The leaves whose samples are new."""
    without_samples: tuple[str, ...]
    """Those of them that have none yet: `tilth generate` would make them."""
    outlook: Outlook | None
    """None: there is nothing new to train."""


class StageOutlook(Record):
    """One stage of a cycle."""

    stage: str
    runs: bool
    """Else what it left is there and fits."""
    why: str


class CycleOutlook(Record):
    """What `tilth cycle` would do now."""

    number: int
    commit: str
    start: str
    """The student, or the release that training starts from."""
    because: str
    """Why this is another cycle than the newest; empty where it is that one."""
    outcome: str
    """What it has come to; empty while it is open."""
    stages: tuple[StageOutlook, ...]
    """In their order; none where there is nothing to do."""


def explain_training(workspace: Workspace, progress: Progress) -> Explained:
    """What `tilth train` would do now, with the samples that are there. Raises as it would before training."""
    return _training(workspace, read_basis(workspace), progress)


def explain_cycle(workspace: Workspace, progress: Progress, ref: str = "") -> CycleOutlook:
    """What `tilth cycle` would do now, with the samples that are there. Raises as it would before training."""
    basis = read_basis(workspace, ref or "HEAD")
    found, last = _found(workspace, basis), journal.last_cycle(workspace)
    number = _number(workspace, basis)
    done = journal.done(workspace, number) if found else None
    stands = journal.is_last_word(workspace, done, release=not ref) if done else False
    nothing = stands if done else not (found or basis.to_train)
    return CycleOutlook(
        number=number,
        commit=basis.source.commit,
        start=basis.start.name if basis.start else workspace.config.student.model,
        because=", ".join(_because(last, basis, workspace)) if last and not found else "",
        outcome=done.outcome if done else "",
        stages=() if nothing else tuple(_stages(workspace, basis, number, done, ref, progress)),
    )


def _stages(
    workspace: Workspace, basis: Basis, number: int, done: Done | None, ref: str, progress: Progress
) -> Iterator[StageOutlook]:
    yield StageOutlook(stage="changes", runs=True, why=_changes_in_words(basis.changes))
    missing = [each for each in basis.planned if not each.complete]
    yield StageOutlook(stage="generate", runs=bool(missing), why=_made(missing, basis, workspace))
    phases = list(_phases(workspace, basis, progress, waits=bool(missing)))
    yield from phases
    trains = any(phase.runs for phase in phases)
    unanswered = done.unanswered if done else 0
    asked = not (trains or unanswered) and (cycle_folder(workspace, number) / EVALUATION).is_file()
    new = "the candidate is new; answers that base and parent gave are kept"
    again = (
        f"asks the judge again what got no answer ({unanswered})" if unanswered else "asks what was not answered before"
    )
    why = "all has been answered" if asked else new if trains else again
    yield StageOutlook(stage="evaluate", runs=not asked, why=why)
    yield StageOutlook(stage="gate", runs=True, why="judges by the settings as they are now, and costs nothing")
    if done and done.outcome == "judged":
        yield StageOutlook(stage="release", runs=True, why="the gate has passed it, when it was not to be released")
    else:
        yield StageOutlook(stage="release", runs=not ref, why="not with --ref" if ref else "if the gate passes")


def _made(missing: Sequence[Planned], basis: Basis, workspace: Workspace) -> str:
    if not missing:
        return f"the store has the samples of all {len(basis.planned)} leaves"
    named = [f"{each.leaf.id} ({_why_made(each, basis, workspace)})" for each in missing[:MOST_NAMED]]
    return first_few([*named, *(each.leaf.id for each in missing[MOST_NAMED:])])


def _phases(workspace: Workspace, basis: Basis, progress: Progress, *, waits: bool) -> Iterator[StageOutlook]:
    if waits:
        for planned in load_plan(workspace.config.train.plan).phases:
            yield StageOutlook(stage=f"train {planned.name}", runs=True, why="it gets samples that are yet to be made")
        return
    outlook = _training(workspace, basis, progress).outlook
    for phase in outlook.phases if outlook else ():
        why = f"skipped: {phase.skipped}" if phase.skipped else phase.because or "its model is there"
        yield StageOutlook(stage=f"train {phase.phase}", runs=bool(phase.because), why=why)


def _training(workspace: Workspace, basis: Basis, progress: Progress) -> Explained:
    config, new, start = workspace.config, set(basis.to_train), basis.start
    there = [each for each in basis.planned if each.complete]
    outlook, number = None, _number(workspace, basis)
    if any(each.leaf.id in new for each in there):
        student = student_folder(config.student.model, progress)
        entries = [(each.folder, each.leaf.id) for each in there]
        outlook = explain_plan(
            load_plan(config.train.plan),
            training_inputs(workspace, basis, entries, student, read_past(workspace, start, number)),
            out=_trained_in(workspace, basis, number),
            config=config,
            askable=len(there) < len(basis.planned) or any(map(_has_questions, there)),
        )
    return Explained(
        plan=config.train.plan,
        student=start.name if start else config.student.model,
        new=basis.to_train,
        without_samples=tuple(each.leaf.id for each in basis.planned if not each.complete and each.leaf.id in new),
        outlook=outlook,
    )


def _found(workspace: Workspace, basis: Basis) -> Inputs | None:
    return journal.with_identity(workspace, basis.identity, basis.parent)


def _number(workspace: Workspace, basis: Basis) -> int:
    found = _found(workspace, basis)
    return found.number if found else journal.next_number(workspace)


def _trained_in(workspace: Workspace, basis: Basis, number: int) -> Path:
    """Where the cycle has its phases, or would have them from."""
    own = cycle_folder(workspace, number) / TRAIN
    return own if own.is_dir() else journal.trained_from(workspace, basis.start, basis.decided_by["samples"]) or own


def _has_questions(planned: Planned) -> bool:
    """Whether held-out questions were generated with the samples of a leaf."""
    return bool(read_tests(open_entry(planned.folder, planned.leaf.id, reused=True)))


def _changes_in_words(changes: LeafChanges) -> str:
    """Such as `added a, b; removed c`."""
    said = [
        f"{name} {first_few(leaves)}"
        for name, leaves in (
            ("added", changes.added),
            ("modified", changes.modified),
            ("removed", changes.removed),
            ("moved", [f"{was} -> {now}" for was, now in changes.moved]),
        )
        if leaves
    ]
    return "; ".join(said) or "no leaf changed"


def _why_made(planned: Planned, basis: Basis, workspace: Workspace) -> str:
    """Why the store lacks a leaf's samples, as far as the parent's tell."""
    datasets = basis.parent.datasets if basis.parent else ()
    known = next((each for each in datasets if each.leaf == planned.leaf.id), None)
    if known is None:
        return "new"
    if known.leaf_fingerprint != planned.leaf.fingerprint:
        return "it changed"
    folder = workspace.store / known.entry
    if not folder.is_dir():
        return "its samples are gone"
    other_recipe = read_manifest(folder).recipe_fingerprint != planned.recipe.fingerprint
    return "the recipe changed" if other_recipe else "the teacher changed"


def _because(last: Inputs, basis: Basis, workspace: Workspace) -> Iterator[str]:
    """In what the cycle to come differs from the newest: the settings where they tell it, else what changed."""
    if "code" not in last.decided_by:
        yield "an older tilth began that one"
        return
    before, now = _flat(last.config), _flat(workspace.config.model_dump(mode="json"))
    for part, hashed in basis.decided_by.items():
        if last.decided_by.get(part) != hashed:
            keys = [key for key in now if key.partition(".")[0] == part and before.get(key) != now[key]]
            yield ", ".join(f"{key} {before.get(key)} -> {now[key]}" for key in keys) or _OTHER[part]


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The settings by their names as `--set` takes them."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found
