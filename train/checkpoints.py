"""Checkpoints that are whole or absent: written aside, hashed, fsynced, then renamed.

The library writes a checkpoint file by file; it does so in a hidden folder, which becomes a checkpoint by its rename
and not before. A checkpoint that is not what its manifest says (a disk lost a bit, somebody changed a file) is deleted,
and the next older one is taken.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..core.atomic import fsync, read_json, write_json
from ..core.errors import DataError
from ..core.fingerprint import file_sha256

MANIFEST = "tilth-complete.json"
_PREFIX, _ASIDE = "checkpoint-", ".unfinished"


def aside(folder: Path) -> Path:
    """Where checkpoints of `folder` are written, each under its own name."""
    return folder / _ASIDE


def publish(folder: Path, step: int, *, keep: int) -> None:
    """Make the checkpoint of a step, written `aside`, one of the folder's, and delete all but the newest `keep`.

    Raises OSError.
    """
    name = f"{_PREFIX}{step}"
    written, checkpoint = aside(folder) / name, folder / name
    for path in (path for path in written.rglob("*") if path.is_file()):
        fsync(path)
    write_manifest(written)
    for inner in (path for path in (written, *written.rglob("*")) if path.is_dir()):
        fsync(inner)
    if checkpoint.exists():
        shutil.rmtree(checkpoint)
    written.rename(checkpoint)
    aside(folder).rmdir()
    fsync(folder)
    for older in _checkpoints(folder)[:-keep]:
        shutil.rmtree(older)


def newest_whole(folder: Path, logged: int) -> Path | None:
    """The checkpoint with the most steps that is whole, or None; those that are not, and what is aside, are deleted.

    So are those of more steps than are `logged`: what such a phase came to could not be said.
    """
    shutil.rmtree(aside(folder), ignore_errors=True)
    for checkpoint in reversed(_checkpoints(folder)):
        if step_of(checkpoint) <= logged and is_whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def newest_step(folder: Path) -> int:
    """The most steps that a checkpoint there has, whole or not; none where there is none."""
    return max(map(step_of, _checkpoints(folder)), default=0)


def step_of(checkpoint: Path | None) -> int:
    """The optimizer steps that a checkpoint has behind it; none where there is none."""
    return int(checkpoint.name.removeprefix(_PREFIX)) if checkpoint else 0


def write_manifest(folder: Path) -> None:
    """Say in a folder what its files are. Raises OSError."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    write_json(folder / MANIFEST, {str(path.relative_to(folder)): file_sha256(path) for path in files})


def is_whole(folder: Path) -> bool:
    """Whether the files of a folder are those of its manifest."""
    try:
        hashes: dict[str, Any] = read_json(folder / MANIFEST)
    except DataError:
        return False
    return all((folder / name).is_file() and file_sha256(folder / name) == sha256 for name, sha256 in hashes.items())


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*"), key=step_of)
