"""The ledger: every request made to a model with its raw answer, in SQLite, written before the answer is used.

The key of a request is the hash of what decides its answer: the model's identity, the messages, the sampling settings
and the seed. Where the model runs, and which leaf and step asked, are not part of it. Whatever is in the ledger is
never paid for again; that makes a killed run go on where it was, without any checkpoint code.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from ..core.errors import DataError
from .completion import Completion, read_completion

_VERSION = 1
_LONGEST_WAIT_S = 30
"""For another process that writes."""
_TABLE = """
CREATE TABLE IF NOT EXISTS requests (
    key TEXT PRIMARY KEY,
    leaf TEXT NOT NULL,
    step TEXT NOT NULL,
    model TEXT NOT NULL,
    request TEXT NOT NULL,
    response TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    seconds REAL NOT NULL
) STRICT
"""
_INDEX = "CREATE INDEX IF NOT EXISTS requests_by_leaf ON requests (leaf)"
"""A ledger of before gets it when it is opened. It is no new version: who knows nothing of it keeps it right too."""


@dataclass(frozen=True)
class Entry:
    """One request that was answered. `response` is the body as it came; `created_at` is UTC, ISO 8601."""

    key: str
    leaf: str
    step: str
    model: str
    request: str
    response: str
    prompt_tokens: int
    completion_tokens: int
    created_at: str
    seconds: float

    @property
    def completion(self) -> Completion:
        """The answer inside the body."""
        return read_completion(self.response)


@dataclass(frozen=True)
class Merged:
    """What became of entries from elsewhere."""

    added: int
    there: int
    """The ledger had the same answer."""
    differing: int
    """It had another answer, and keeps it."""


_IN_VAIN = "CREATE TABLE IF NOT EXISTS in_vain (key TEXT PRIMARY KEY) STRICT"
"""Requests that a run tried in vain, of an endpoint that answered others. As the index, no new version."""

_FIXES = {
    "full": "free some space",
    "malformed": "run `tilth ledger rescue`, which saves what can be read",
    "not a database": "run `tilth ledger rescue`, which puts a new one in its place",
    "no such table": "it holds nothing, so remove it",
    "unable to open": "check who may read and write there, and how many files may be open (`ulimit -n`)",
}
"""By what SQLite says."""

_COLUMNS = ", ".join(field.name for field in fields(Entry))
_INSERT = f"INSERT OR IGNORE INTO requests ({_COLUMNS}) VALUES ({', '.join('?' for _ in fields(Entry))})"  # noqa: S608


def now() -> str:
    """The time as the ledger writes it: UTC, microseconds, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Ledger:
    """The open ledger; a context manager. Several processes may have it open, for writing too. Raises DataError.

    What is written goes over a connection of its own, for another thread may wait for the disk there while `get`, which
    a log in front of the database (WAL) never makes wait, is asked for more. Opened for `reading`, nothing is written
    and no writer is waited for; the file has to be there.
    """

    def __init__(self, path: Path, *, reading: bool = False) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._unwritten: list[tuple[Entry, asyncio.Future[Entry]]] = []
        self._writing: asyncio.Task[None] | None = None
        with self._translated(), contextlib.ExitStack() as opened:
            if reading:
                self._database = self._reader = opened.enter_context(contextlib.closing(_connect_reading(path)))
                self._check_version()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._database = opened.enter_context(contextlib.closing(_connect(path)))
                self._prepare()
                self._reader = opened.enter_context(contextlib.closing(_connect(path)))
            self._close = opened.pop_all().close

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._unwritten:
                self._put([entry for entry, _ in self._unwritten])
        finally:
            with self._lock:
                self._close()

    def get(self, key: str) -> Entry | None:
        """The entry of a key, None when that request was never answered."""
        with self._translated():
            return _get(self._reader, key)

    def put(self, entry: Entry) -> Entry:
        """Put an entry on disk, fsynced, and return it; if the key is there already, return what is there.

        An entry is never replaced: samples were made from it.
        """
        return self._put([entry])[0]

    async def put_soon(self, entry: Entry) -> Entry:
        """`put`, with whatever else comes while the disk is busy: one fsync is enough for all of it.

        Whoever stops to wait does not stop the writing.
        """
        written: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        self._unwritten.append((entry, written))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await asyncio.shield(written)

    async def _write(self) -> None:
        while self._unwritten:
            batch = list(self._unwritten)
            try:
                kept = await asyncio.to_thread(self._put, [entry for entry, _ in batch])
            except DataError as error:
                for _, written in batch:
                    written.set_exception(error)
                    written.exception()  # seen, even if nobody waits for it any more
            else:
                for entry, (_, written) in zip(kept, batch, strict=True):
                    written.set_result(entry)
            del self._unwritten[: len(batch)]

    def _put(self, entries: Sequence[Entry]) -> list[Entry]:
        """Put all entries on disk in one step; returns what is there."""
        with self._transaction():
            added = self._database.executemany(_INSERT, [astuple(entry) for entry in entries]).rowcount
            if added == len(entries):
                return list(entries)
            return [_get(self._database, entry.key) or entry for entry in entries]

    def merge(self, entries: Iterable[Entry]) -> Merged:
        """Add entries from elsewhere, all of them or, when taking one of them raises, none; nothing is replaced."""
        added = there = differing = 0
        with self._transaction():
            for entry in entries:
                if self._database.execute(_INSERT, astuple(entry)).rowcount:
                    added += 1
                elif (mine := _get(self._database, entry.key)) and _say_the_same(mine, entry):
                    there += 1
                else:
                    differing += 1
        return Merged(added, there, differing)

    def note_in_vain(self, key: str) -> None:
        """Remember of a request that it was tried in vain while others were answered."""
        with self._transaction():
            self._database.execute("INSERT OR IGNORE INTO in_vain VALUES (?)", (key,))

    def was_in_vain(self, key: str) -> bool:
        """Whether that was noted of a request."""
        with self._translated():
            return self._reader.execute("SELECT 1 FROM in_vain WHERE key = ?", (key,)).fetchone() is not None

    def entries(self, leaf: str | None = None) -> Iterator[Entry]:
        """All entries, or those that a leaf asked for first, by key."""
        where = "" if leaf is None else "WHERE leaf = :leaf"
        query = f"SELECT {_COLUMNS} FROM requests {where} ORDER BY key"  # noqa: S608
        yield from (Entry(*row) for row in self.rows(query, leaf=leaf))

    def rows(self, query: str, **parameters: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a query that only reads. `parameters` are those that it names, as `:leaf`."""
        with self._translated():
            yield from self._reader.execute(query, parameters)

    def _prepare(self) -> None:
        self._use_log()
        # FULL: the log is fsynced at every commit. NORMAL would survive a kill too, but not a power cut.
        self._database.execute("PRAGMA synchronous = FULL")
        self._check_version()
        self._database.execute(_TABLE)
        self._database.execute(_INDEX)
        self._database.execute(_IN_VAIN)
        self._database.execute(f"PRAGMA user_version = {_VERSION}")

    def _use_log(self) -> None:
        """SQLite does not wait for others who open a new file too, as it does in a transaction."""
        end = time.monotonic() + _LONGEST_WAIT_S
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.05)
            else:
                return

    def _check_version(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            what = f"the ledger has version {version}, this tilth writes version {_VERSION}"
            raise DataError(what, where=str(self.path), fix="use the tilth that wrote it, or move the file away")

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None]:
        """Whatever is written inside is on disk, fsynced, at the end; on an error none of it."""
        with self._lock, self._translated(), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            yield

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, OverflowError) as error:  # OverflowError: a number that SQLite cannot hold
            told = (fix for sign, fix in _FIXES.items() if sign in str(error))
            fix = next(told, "check the file, or move it away and run again")
            raise DataError(f"the ledger cannot be used ({error})", where=str(self.path), fix=fix) from error


def _connect(place: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(
        place, timeout=_LONGEST_WAIT_S, isolation_level=None, check_same_thread=False, uri=isinstance(place, str)
    )


def _connect_reading(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing, on a disk that takes nothing too. Raises DataError where there is no file."""
    if not path.is_file():
        raise DataError("the ledger is missing", where=str(path), fix="bring it back: the samples were made from it")
    address = f"{path.absolute().as_uri()}?mode=ro"
    if not os.access(path.parent, os.W_OK):  # SQLite could not make the file by which readers and writers agree
        address += "&immutable=1"
    return _connect(address)


def _say_the_same(one: Entry, other: Entry) -> bool:
    """Whether the answers are equal, whatever servers put into a body beside them."""
    try:
        return one.response == other.response or one.completion == other.completion
    except ValueError:
        return False


def _get(database: sqlite3.Connection, key: str) -> Entry | None:
    row = database.execute(f"SELECT {_COLUMNS} FROM requests WHERE key = ?", (key,)).fetchone()  # noqa: S608
    return Entry(*row) if row else None
