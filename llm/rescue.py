"""A damaged ledger: all that can still be read of it goes into a new one, and the damaged file stays beside it."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from ..core.errors import DataError
from ..core.fingerprint import text_sha256
from .ledger import Entry, Ledger
from .ledger_report import faults

_LEAST_ROW_BYTES = 100
"""A key alone takes 64."""


class Rescued(NamedTuple):
    """How many answers the new ledger has, and where the damaged one is now."""

    answers: int
    aside: Path


def is_damaged(path: Path) -> bool:
    """Whether SQLite finds pages damaged, or keys are not the hash of their request. Raises DataError for other faults.

    A ledger of a later version is one of those: it is not to be written anew.
    """
    try:
        with Ledger(path) as ledger:
            return bool(faults(ledger))
    except DataError as error:
        if type(error.__cause__) is sqlite3.DatabaseError:  # malformed, or no database; the others are its subclasses
            return True
        raise


def rescue(path: Path) -> Rescued:
    """Put a new ledger at `path`, with the answers of the damaged one that are whole. Raises DataError.

    Stopped anywhere, the damaged ledger is still at `path` or the new one is. The caller holds the workspace's lock.
    """
    new = path.with_name(f"{path.name}.rescued")
    try:
        _remove(new)
        with contextlib.closing(sqlite3.connect(path)) as damaged, Ledger(new) as ledger:
            saved = ledger.merge(_whole_entries(damaged, path.stat().st_size)).added
        aside = _free_name(path)
        os.link(path, aside)
        for end in ("-wal", "-shm"):  # a log is replayed into whatever file bears the name, so it goes first
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
        new.replace(path)
    except OSError as error:
        what = f"what can be read of the ledger cannot be written ({error.strerror or error})"
        raise DataError(what, where=str(new), fix="free some space; the damaged ledger is as it was") from error
    return Rescued(saved, aside)


def _whole_entries(database: sqlite3.Connection, size: int) -> Iterator[Entry]:
    """Row by row: a page that cannot be read hides its own rows and no others."""
    columns = ", ".join(field.name for field in fields(Entry))
    with contextlib.suppress(sqlite3.Error):
        database.execute("PRAGMA writable_schema = ON")  # else the end that a cut file lacks hides all of it
    for number in range(1, _last_row(database, size) + 1):
        with contextlib.suppress(sqlite3.Error, TypeError, ValueError, AttributeError):
            row = database.execute(f"SELECT {columns} FROM requests WHERE rowid = ?", (number,)).fetchone()  # noqa: S608
            if row and text_sha256((entry := Entry(*row)).request) == entry.key and entry.completion:
                yield entry


def _last_row(database: sqlite3.Connection, size: int) -> int:
    try:
        return int(database.execute("SELECT max(rowid) FROM requests").fetchone()[0] or 0)
    except sqlite3.Error:
        return size // _LEAST_ROW_BYTES


def _remove(ledger: Path) -> None:
    """What a killed rescue left."""
    for file in ledger.parent.glob(f"{ledger.name}*"):
        file.unlink()


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in itertools.count())
    return next(name for name in names if not name.exists())
