"""Releases: students that passed the gate, numbered, never changed, each with its lineage.

`releases/NNNN/` holds `model/`, `dataset/` (a card) and `release.json`; an empty `pruned.json` beside it says that the
model was deleted. `releases/current.json` names the one that the next cycle starts from, `releases/pinned.json` those
that are never pruned.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from ..core.atomic import copy_folder, new_folder, read_json, write_json, write_text
from ..core.errors import DataError, TilthError
from ..core.fingerprint import file_sha256, fingerprint
from ..core.rate import Rate
from ..core.records import Record
from ..core.wording import first_fault
from ..core.workspace import Workspace, numbered
from ..eval.gate import Verdict

RELEASE, PRUNED = "release.json", "pruned.json"
_MODEL, _CURRENT, _PINNED = "model", "current.json", "pinned.json"
_SEAL = "record_sha256"
_WRITABLE = 0o222


class Dataset(Record):
    """A store entry that a release has been trained on, in its own cycle or in an earlier one."""

    leaf: str
    leaf_fingerprint: str
    entry: str
    """The name of its folder in the store."""
    sha256: str
    """Of its samples."""
    samples: int
    preferences_sha256: str = ""
    """Of its pairs; empty where there are none, and in older records."""


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
    """The model that the first of its ancestors started from."""
    student_sha256: str = ""
    """Of that model's weights."""
    teacher: str
    plan: str
    seed: int
    datasets: tuple[Dataset, ...]
    """Of every leaf of the taxonomy at that commit."""
    weights_sha256: str
    system_prompt: str | None = None
    """That it was trained with; None: an older record, which does not say."""
    scores: Mapping[str, Rate]
    """Leaf -> its held-out questions answered rightly."""
    verdict: Verdict
    forced: bool = False
    """Whether somebody released it against the gate's verdict."""
    tilth: str
    """The version that made it."""
    files: Mapping[str, str] = {}
    """Path in the release's folder -> SHA-256, of the model and the cards; older records have none."""
    replay_sha256: str = ""
    """Of its replay buffer."""
    record_sha256: str = ""
    """Of the record itself as JSON, without this; those without `files` have none."""

    @property
    def name(self) -> str:
        """As tables and reports call it."""
        return f"release {self.number}"


def system_prompt_of(workspace: Workspace, release: Release) -> str:
    """What a release is asked with: what it was trained with, or where its record is older what `tilth.yaml` says."""
    own = release.system_prompt
    return workspace.config.student.system_prompt if own is None else own


def releases(workspace: Workspace) -> list[Release]:
    """All releases, the oldest first. Raises DataError when one's record is broken."""
    return [read_release(release_folder(workspace, number)) for number in release_numbers(workspace)]


def release_numbers(workspace: Workspace) -> list[int]:
    """The numbers of all releases, the oldest first: their records, which name every leaf, are not read."""
    return numbered(workspace.releases, RELEASE)


def usable_releases(workspace: Workspace) -> list[Release]:
    """Those that have their model, the oldest first. Raises as `releases`."""
    return [release for release in releases(workspace) if not is_pruned(workspace, release.number)]


def next_number(workspace: Workspace, made: Iterable[int]) -> int:
    """That of a new release: above all whose folders are there, with a record or not, and those that cycles `made`."""
    return max([*numbered(workspace.releases), *made], default=0) + 1


def find_release(workspace: Workspace, number: int) -> Release:
    """Release `number`. Raises TilthError when there is none."""
    folder = release_folder(workspace, number)
    if not (folder / RELEASE).is_file():
        known = ", ".join(str(release.number) for release in releases(workspace)) or "none yet"
        raise TilthError(f"there is no release {number}", fix=f"releases: {known}")
    return read_release(folder)


def current_release(workspace: Workspace) -> Release | None:
    """The release that the next cycle starts from; None before the first. Raises DataError when it is gone."""
    path = workspace.releases / _CURRENT
    if not path.is_file():
        return None
    fix = "`tilth releases rollback N` writes it anew"
    match read_json(path, fix=fix):
        case {"release": int(number)}:
            folder = release_folder(workspace, number)
            if not (folder / RELEASE).is_file():
                known = ", ".join(str(release.number) for release in releases(workspace)) or "none"
                fix = f"restore it, or make another one current: `tilth releases rollback N`; there: {known}"
                raise DataError("the current release is gone", where=str(folder), fix=fix)
            return read_release(folder)
        case _:
            raise DataError("it does not name a release", where=str(path), fix=fix)


def ancestors(workspace: Workspace, release: Release) -> list[Release]:
    """The releases that one grew from, its parent first, as far as their records are there."""
    known = {each.number: each for each in releases(workspace)}
    found: list[Release] = []
    while (child := found[-1] if found else release).parent < child.number and child.parent in known:
        found.append(known[child.parent])
    return found


def model_folder(workspace: Workspace, release: Release) -> Path:
    """The release's model: safetensors, configuration and tokenizer. Raises TilthError when it was pruned."""
    if is_pruned(workspace, release.number):
        there = ", ".join(str(each.number) for each in usable_releases(workspace))
        fix = f"take a release that has its model: {there}"
        raise TilthError(f"the model of release {release.number} was pruned", fix=fix)
    return release_folder(workspace, release.number) / _MODEL


def is_usable(workspace: Workspace, number: int) -> bool:
    """Whether release `number` is there, with its model."""
    return (release_folder(workspace, number) / RELEASE).is_file() and not is_pruned(workspace, number)


def is_pruned(workspace: Workspace, number: int) -> bool:
    """Whether the model of release `number` was deleted to free disk, or is about to be."""
    return (release_folder(workspace, number) / PRUNED).is_file()


def pinned(workspace: Workspace) -> frozenset[int]:
    """The releases that are never pruned. Raises DataError."""
    path = workspace.releases / _PINNED
    if not path.is_file():
        return frozenset()
    fix = "remove it, and pin the releases again"
    match read_json(path, fix=fix):
        case {"releases": [*numbers]} if all(isinstance(number, int) for number in numbers):
            return frozenset(numbers)
        case _:
            raise DataError("it does not list releases", where=str(path), fix=fix)


def pin(workspace: Workspace, number: int, *, wanted: bool = True) -> Release:
    """Have release `number` never pruned, or not pinned any more. Raises TilthError as `set_current`."""
    release = find_release(workspace, number)
    if wanted:
        model_folder(workspace, release)
    numbers = pinned(workspace) | {number} if wanted else pinned(workspace) - {number}
    write_json(workspace.releases / _PINNED, {"releases": sorted(numbers)})
    return release


def disk_bytes(workspace: Workspace, number: int) -> int:
    """What the files of release `number` take."""
    return sum(path.stat().st_size for path in release_folder(workspace, number).rglob("*") if path.is_file())


def add_release(workspace: Workspace, release: Release, model: Path, cards: Mapping[str, str]) -> None:
    """Make a release of `model` and the current one. The files are linked, not copied: `model` may be deleted then.

    `cards` are texts by their path in the release's folder. Nobody is to write to these files again.
    """
    folder = release_folder(workspace, release.number)
    if not folder.exists():
        with new_folder(folder) as new:
            copy_folder(model, new / _MODEL, copy=os.link)
            for path, text in cards.items():
                write_text(new / path, text)
            files = {path.relative_to(new).as_posix(): path for path in new.rglob("*") if path.is_file()}
            for path in files.values():
                path.chmod(path.stat().st_mode & ~_WRITABLE)
            hashes = {name: file_sha256(path) for name, path in files.items()}
            write_record(release.model_copy(update={"files": hashes}), new)
    set_current(workspace, release.number)


def write_record(release: Release, folder: Path) -> None:
    """Write the record of a release into its folder, with its own hash: `is_as_written`."""
    record = release.model_dump(mode="json", exclude={_SEAL})
    write_json(folder / RELEASE, record | {_SEAL: fingerprint(record, length=64)})


def set_current(workspace: Workspace, number: int) -> Release:
    """Make release `number` the one that the next cycle starts from. Raises TilthError when it or its model is gone."""
    release = find_release(workspace, number)
    model_folder(workspace, release)
    write_json(workspace.releases / _CURRENT, {"release": number})
    return release


def release_folder(workspace: Workspace, number: int) -> Path:
    """Where a release keeps its files."""
    return workspace.releases / f"{number:04}"


def is_as_written(folder: Path) -> bool:
    """Whether the record in a release's folder still has its own hash, or is so old as to list no files.

    It tells of damage and of edits by accident: who edits it on purpose writes the hash anew. Raises DataError.
    """
    record = read_json(folder / RELEASE)
    seal = record.pop(_SEAL, "")
    return seal == fingerprint(record, length=64) or not (seal or record.get("files"))


def read_release(folder: Path) -> Release:
    """The record in a release's folder. Raises DataError when it is missing or broken."""
    path, fix = folder / RELEASE, "restore it, or remove its folder: a release is never made again"
    try:
        return Release.model_validate(read_json(path, fix=fix))
    except ValidationError as error:
        raise DataError(f"not a release: {first_fault(error)}", where=str(path), fix=fix) from error
