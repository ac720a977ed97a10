"""The journal: one folder per cycle, with what the cycle was given and what it came to.

`cycles/NNNN/cycle.json` is written first and says what decides the cycle's outcome; `done.json` is written last. The
cycle that is gone on with is the newest that the same things decide; where there is none a new one begins, and takes
over what an earlier one trained from the same start, which the phases then look at (docs/decisions/0022).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, ValidationError

from ..core.atomic import read_json, write_json
from ..core.errors import DataError
from ..core.records import Record
from ..core.wording import first_fault
from ..core.workspace import Workspace, numbered
from ..eval.compare import Comparison, Together
from ..eval.gate import Verdict
from ..eval.report.data import LeafChanges
from .releases import Release, is_usable, releases

_INPUTS, _DONE = "cycle.json", "done.json"
ENTRIES, CONTAMINATION, TRAIN, TRAINED, EVALUATION, JUDGEMENT, REPORT = (
    "entries.json",
    "contamination.json",
    "train",
    "train.json",
    "eval.json",
    "judgement.json",
    "report.html",
)
"""What the stages of a cycle leave in its folder: store entries by leaf, the phases, a record each, the page."""

BASE, CANDIDATE = "base", "candidate"
"""What an evaluation calls the student as it came, and the model that is judged; that of a release is renamed."""

AnyRecord = TypeVar("AnyRecord", bound=Record)

Outcome = Literal["released", "refused", "judged"]
"""Judged: the gate passed it, and it was not to be released."""


class Inputs(Record):
    """What a cycle was given."""

    number: int
    identity: str
    """Fingerprint of all that decides the outcome."""
    decided_by: Mapping[str, str] = {}
    """A hash of each part of that: samples, parent, plan, student, eval, judge, gate, seed, code."""
    commit: str
    parent: int
    """The release it starts from; 0: the student as it came."""
    changes: LeafChanges
    """Against that release."""
    new: tuple[str, ...]
    """The leaves whose samples are new to the parent."""
    config: Mapping[str, Any]
    started_at: AwareDatetime


class Judgement(Record):
    """The candidate against its parent."""

    comparisons: tuple[Comparison, ...]
    """Of every leaf."""
    together: tuple[Together, ...] = ()
    """The changed leaves, the other ones and the general set, each as one."""
    verdict: Verdict


class Done(Record):
    """What a cycle came to."""

    outcome: Outcome
    release: int
    """Its release; 0 where it made none."""
    finished_at: AwareDatetime
    unanswered: int = 0
    """Requests to the judge that got no answer, where the candidate was refused: it is judged again when they do."""
    ref: str = ""
    """What was judged on its own, a branch or a commit; empty: what the loop itself trains."""

    def stands(self, *, release: bool, force: bool = False) -> bool:
        """Whether it is the last word.

        It is not of what was judged only and may be released, nor of what was refused and is forced, or was refused
        before the judge had answered all.
        """
        return not (release if self.outcome == "judged" else self.outcome == "refused" and (force or self.unanswered))


def cycle_folder(workspace: Workspace, number: int) -> Path:
    """Where a cycle keeps its files."""
    return workspace.cycles / f"{number:04}"


def cycle_numbers(workspace: Workspace) -> list[int]:
    """The numbers of all cycles, finished or not, the oldest first."""
    return numbered(workspace.cycles, _INPUTS)


def cycles(workspace: Workspace, since: Release | None = None) -> Iterator[Inputs]:
    """All of them, or those begun since that release was made, the newest first; each is read when it is asked for.

    Raises DataError when the record of one is broken.
    """
    for number in reversed(cycle_numbers(workspace)):
        if since and number <= since.cycle:
            return
        yield find_cycle(workspace, number)


def last_cycle(workspace: Workspace) -> Inputs | None:
    """The newest cycle, finished or not."""
    return next(cycles(workspace), None)


def with_identity(workspace: Workspace, identity: str, parent: Release | None) -> Inputs | None:
    """The newest cycle that the same things decide, this parent among them."""
    return next((each for each in cycles(workspace, parent) if each.identity == identity), None)


def trained_from(workspace: Workspace, start: Release | None, samples: str) -> Path | None:
    """Where a cycle that trained from `start` (None: the student) has its phases; None where none did.

    The newest with the same samples, else the newest: of branches judged in turn each finds its own phases.
    """
    alike = [each for each in cycles(workspace, start) if each.parent == (start.number if start else 0)]
    alike.sort(key=lambda each: each.decided_by.get("samples") != samples)
    folders = (cycle_folder(workspace, each.number) / TRAIN for each in alike)
    return next((folder for folder in folders if folder.is_dir()), None)


def next_number(workspace: Workspace) -> int:
    """Of the cycle that would begin now: none that a release names, though its own records may be gone."""
    return max([*cycle_numbers(workspace), *(release.cycle for release in releases(workspace))], default=0) + 1


def last_finished(workspace: Workspace) -> int:
    """The number of the newest finished cycle; 0 when there is none."""
    return max(numbered(workspace.cycles, _DONE), default=0)


def finished(workspace: Workspace) -> list[tuple[int, Done]]:
    """All finished cycles with what they came to, in the order in which they ended. Raises DataError."""
    found = [
        (number, read_record(cycle_folder(workspace, number) / _DONE, Done))
        for number in numbered(workspace.cycles, _DONE)
    ]
    return sorted(found, key=lambda each: each[1].finished_at)


def find_cycle(workspace: Workspace, number: int) -> Inputs:
    """Cycle `number`. Raises DataError when there is none."""
    return read_record(cycle_folder(workspace, number) / _INPUTS, Inputs)


def begin(workspace: Workspace, inputs: Inputs) -> None:
    """Open a cycle."""
    write_json(cycle_folder(workspace, inputs.number) / _INPUTS, inputs.model_dump(mode="json"))


def done(workspace: Workspace, number: int) -> Done | None:
    """What the cycle came to; None while it is open."""
    path = cycle_folder(workspace, number) / _DONE
    return read_record(path, Done) if path.is_file() else None


def is_last_word(workspace: Workspace, done: Done, *, release: bool, force: bool = False) -> bool:
    """Whether what a cycle came to stands; not where it may release, and its release is gone or was pruned."""
    there = not (release and done.release) or is_usable(workspace, done.release)
    return there and done.stands(release=release, force=force)


def made_releases(workspace: Workspace) -> list[int]:
    """The releases that cycles have made, those that are gone too. Raises DataError."""
    return [done.release for _, done in finished(workspace) if done.release]


def finish(workspace: Workspace, number: int, result: Done) -> None:
    """Close a cycle."""
    write_json(cycle_folder(workspace, number) / _DONE, result.model_dump(mode="json"))


def read_record(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """A record that a stage left. Raises DataError when it is missing or broken."""
    fix = "restore it, or remove its folder and run `tilth cycle`"
    try:
        return kind.model_validate(read_json(path, fix=fix))
    except ValidationError as error:
        what = f"not the {kind.__name__} that was written: {first_fault(error)}"
        raise DataError(what, where=str(path), fix=fix) from error
