"""Checkpoints that count only when whole: a manifest with the hash of every file is written last.

The trainer writes a checkpoint file by file into its final folder, so a kill can leave half of one behind. A folder
without a manifest, or with a file that is not what the manifest says, is no checkpoint: it is deleted and the next
older one is taken.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ..core.atomic import read_json, write_json
from ..core.errors import DataError
from ..core.fingerprint import file_sha256

MANIFEST = "tilth-complete.json"
_PREFIX = "checkpoint-"


def seal(checkpoint: Path) -> None:
    """Declare a written checkpoint whole, then delete the older ones. Raises OSError."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    for path in files:
        _fsync(path)
    write_json(checkpoint / MANIFEST, {str(path.relative_to(checkpoint)): file_sha256(path) for path in files})
    for older in _checkpoints(checkpoint.parent):
        if older != checkpoint:
            shutil.rmtree(older)


def newest_whole(folder: Path) -> Path | None:
    """The checkpoint with the most steps that is whole, or None; those that are not are deleted."""
    for checkpoint in reversed(_checkpoints(folder)):
        if _is_whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def step_of(checkpoint: Path) -> int:
    """The optimizer steps that a checkpoint has behind it."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*"), key=step_of)


def _is_whole(checkpoint: Path) -> bool:
    try:
        hashes: dict[str, Any] = read_json(checkpoint / MANIFEST)
    except DataError:
        return False
    return all(
        (checkpoint / name).is_file() and file_sha256(checkpoint / name) == sha256 for name, sha256 in hashes.items()
    )


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
