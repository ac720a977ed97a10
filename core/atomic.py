"""Files that are whole or absent: written under a temporary name, fsynced, then renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

from .errors import DataError


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` in one step: a crash leaves the old file or the new one. Raises OSError."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """As `write_text`, for bytes."""
    with new_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def new_file(path: Path) -> Generator[IO[bytes]]:
    """Yield an empty temporary file that becomes `path` if the block ends well: for what is written bit by bit.

    What a killed process left beside `path` goes with the next write. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with naming(path), _locked(temporary) as file:
        try:
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    fsync(path.parent)


_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


@contextlib.contextmanager
def naming(path: Path) -> Generator[None]:
    """Have what a disk says name this file: it says where only when one is opened, not when one is written."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _OF_THE_DISK:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_json(path: Path, value: Any) -> None:
    """Put a JSON-able value at `path`: sorted keys, indented, a newline at the end."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *, fix: str = "remove it and run again") -> dict[str, Any]:
    """Read an object that `write_json` wrote. Raises DataError when the file is missing or broken: then `fix` helps."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        gone = "restore it, or remove its folder and run the same command again"
        raise DataError("the file is missing", where=str(path), fix=gone) from error
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", where=str(path), fix=fix) from error
    if not isinstance(value, dict):
        raise DataError("not the JSON that was written", where=str(path), fix=fix)
    return value  # pyright: ignore[reportUnknownVariableType]  JSON's keys are texts


@contextlib.contextmanager
def new_folder(path: Path) -> Generator[Path]:
    """Yield an empty temporary folder that becomes `path` if the block ends well; an older `path` is replaced.

    Every file in it is fsynced before the rename, so a folder that is there is whole. The caller holds a lock under
    which `path` is made: what bears the temporary names was left by a killed process, and is removed.
    """
    temporary, replaced = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
    for leftover in (temporary, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            fsync(file)
        fsync(temporary)
        if path.exists():
            path.rename(replaced)  # removed only when it no longer bears the name: a kill leaves no half folder there
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def fsync(path: Path) -> None:
    """Return when what was written to a file, or the names in a folder, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Generator[IO[bytes]]:
    """The file, made where it is missing, as long as nobody else writes it.

    The kernel frees the lock of a process that is killed, so its leftover is taken over; a pid in the name could not
    tell whether that process still runs, in a container least of all.
    """
    while True:
        # A contribution may bring a link of this name, which would lead the writing elsewhere; anybody else a pipe,
        # at which an opening waits for ever.
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        with open(os.open(path, flags, 0o666), "wb") as file:  # noqa: PTH123
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "not a file", str(path))
            fcntl.flock(file, fcntl.LOCK_EX)
            if _bears(file, path):
                yield file
                return


def _bears(file: IO[bytes], path: Path) -> bool:
    """Whether an open file still has its name: whoever held the lock before us has renamed or removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False
