"""Files that are whole or absent: written under a temporary name, fsynced, then renamed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

from .errors import DataError


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` in one step: a crash leaves the old file or the new one. Raises OSError."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """As `write_text`, for bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Put a JSON-able value at `path`: sorted keys, indented, a newline at the end."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote. Raises DataError when the file is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError("the file is missing", where=str(path)) from error
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", where=str(path), fix="remove it and run again") from error


@contextlib.contextmanager
def new_folder(path: Path) -> Generator[Path]:
    """Yield an empty temporary folder that becomes `path` if the block ends well; an older `path` is replaced.

    Every file in it is fsynced before the rename, so a folder that is there is whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
    for leftover in (temporary, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            _fsync_file(file) if file.is_file() else _fsync_folder(file)
        _fsync_folder(temporary)
        if path.exists():
            path.rename(replaced)  # removed only when it no longer bears the name: a kill leaves no half folder there
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _fsync_folder(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
