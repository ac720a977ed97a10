"""Files that are whole or absent: written under a temporary name, fsynced, then renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable, Generator
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
    temporary = aside(path)
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


def aside(path: Path, end: str = "tmp") -> Path:
    """Where `path` is written before it bears its name. Nobody else calls a file so: what is there is a leftover."""
    return path.with_name(f".{path.name}.tilth.{end}")


_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


@contextlib.contextmanager
def naming(path: Path) -> Generator[None]:
    """Have what a disk says name this file, and not the name that it bears until it is whole.

    A disk says where only when a file is opened, not when one is written.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _OF_THE_DISK:
            raise OSError(error.errno, error.strerror, str(path)) from error
        for hidden in (str(aside(path)), str(aside(path, "lock"))):
            if isinstance(error.filename, str) and error.filename.startswith(hidden):
                named = str(path) + error.filename.removeprefix(hidden)
                raise OSError(error.errno, error.strerror, named) from error
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

    Every file in it is fsynced before the rename, so a folder that is there is whole. Whoever makes the same one
    meanwhile waits; what a killed process left beside it goes with the next one. Raises OSError.
    """
    temporary, replaced, lock = aside(path), aside(path, "old"), aside(path, "lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), _locked(lock):
        for leftover in (temporary, replaced):
            remove(leftover)
        try:
            temporary.mkdir()
            yield temporary
            for file in sorted(temporary.rglob("*")):
                fsync(file)
            fsync(temporary)
            if path.exists():
                path.rename(replaced)  # removed only without its name: a kill leaves no half folder there
            temporary.rename(path)
            fsync(path.parent)
            remove(replaced)
        finally:
            remove(temporary)
            lock.unlink(missing_ok=True)


def copy_folder(
    source: Path, target: Path, *, copy: Callable[[Path, Path], object] = shutil.copy2, without: str = ""
) -> None:
    """Copy what a folder holds, but for files of one name. Raises the OSError of the first file that cannot be copied.

    `shutil.copytree` goes on behind it, and raises a list.
    """
    target.mkdir(exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_dir():
            copy_folder(path, target / path.name, copy=copy, without=without)
        elif path.name != without:
            copy(path, target / path.name)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half made there. Only for who alone makes anything in the folder."""
    for path in folder.glob(".*.tilth.*"):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, as far as that can be; what is not there is no error."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


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
