"""Releases: students that passed the gate, numbered, never changed, each with its lineage.

`releases/NNNN/` holds `model/` and `release.json`; `releases/current.json` names the one that the next cycle starts
from, the only thing here that ever changes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from ..core.atomic import new_folder, read_json, write_json, write_text
from ..core.errors import DataError, TilthError
from ..core.rate import Rate
from ..core.records import Record
from ..core.wording import first_fault
from ..core.workspace import Workspace
from ..eval.gate import Verdict

_RELEASE, _MODEL, _CURRENT = "release.json", "model", "current.json"


class Dataset(Record):
    """A store entry that a release has been trained on, in its own cycle or in an earlier one."""

    leaf: str
    leaf_fingerprint: str
    entry: str
    """The name of its folder in the store."""
    sha256: str
    """Of its samples."""
    samples: int


class Release(Record):
    """A release and what it was made from (`release.json`)."""

    number: int
    cycle: int
    parent: int
    """The release that training started from; 0: the student as it came."""
    created_at: AwareDatetime
    commit: str
    """The taxonomy commit."""
    student: str
    """The model that release 1 started from."""
    teacher: str
    plan: str
    seed: int
    datasets: tuple[Dataset, ...]
    """Of every leaf of the taxonomy at that commit."""
    weights_sha256: str
    scores: Mapping[str, Rate]
    """Leaf -> its held-out questions answered rightly."""
    verdict: Verdict
    forced: bool = False
    """Whether somebody released it against the gate's verdict."""
    tilth: str
    """The version that made it."""

    @property
    def name(self) -> str:
        """As tables and reports call it."""
        return f"release {self.number}"


def releases(workspace: Workspace) -> list[Release]:
    """All releases, the oldest first. Raises DataError when one's record is broken."""
    return [_read(path) for path in sorted(workspace.releases.glob(f"[0-9][0-9][0-9][0-9]/{_RELEASE}"))]


def find_release(workspace: Workspace, number: int) -> Release:
    """Release `number`. Raises TilthError when there is none."""
    path = _folder(workspace, number) / _RELEASE
    if not path.is_file():
        known = ", ".join(str(release.number) for release in releases(workspace)) or "none yet"
        raise TilthError(f"there is no release {number}", fix=f"releases: {known}")
    return _read(path)


def current_release(workspace: Workspace) -> Release | None:
    """The release that the next cycle starts from; None before the first."""
    path = workspace.releases / _CURRENT
    if not path.is_file():
        return None
    match read_json(path):
        case {"release": int(number)}:
            return find_release(workspace, number)
        case _:
            fix = "`tilth releases rollback N` writes it anew"
            raise DataError("it does not name a release", where=str(path), fix=fix)


def model_folder(workspace: Workspace, release: Release) -> Path:
    """The release's model: safetensors, configuration and tokenizer."""
    return _folder(workspace, release.number) / _MODEL


def add_release(workspace: Workspace, release: Release, model: Path, cards: Mapping[str, str]) -> None:
    """Make a release of `model` and the current one. The files are linked, not copied: `model` may be deleted then.

    `cards` are texts by their path in the release's folder.
    """
    folder = _folder(workspace, release.number)
    if not folder.exists():
        with new_folder(folder) as new:
            shutil.copytree(model, new / _MODEL, copy_function=os.link)
            for path, text in cards.items():
                write_text(new / path, text)
            write_json(new / _RELEASE, release.model_dump(mode="json"))
    set_current(workspace, release.number)


def set_current(workspace: Workspace, number: int) -> Release:
    """Make release `number` the one that the next cycle starts from. Raises TilthError when there is none."""
    release = find_release(workspace, number)
    write_json(workspace.releases / _CURRENT, {"release": number})
    return release


def _folder(workspace: Workspace, number: int) -> Path:
    return workspace.releases / f"{number:04}"


def _read(path: Path) -> Release:
    try:
        return Release.model_validate(read_json(path))
    except ValidationError as error:
        fix = "restore it, or remove its folder: a release is never made again"
        raise DataError(f"not a release: {first_fault(error)}", where=str(path), fix=fix) from error
