"""The ledger: every request made to a model with its raw answer, in SQLite, written before the answer is used.

The key of a request is the hash of what decides its answer: the model's identity, the messages, the sampling settings
and the seed. Where the model runs, and which leaf and step asked, are not part of it. Whatever is in the ledger is
never paid for again; that makes a killed run go on where it was, without any checkpoint code.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from ..core.errors import DataError
from ..core.fingerprint import text_sha256
from .completion import Completion, read_completion

_VERSION = 1
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
class Usage:
    """What one step of one leaf has asked of one model."""

    leaf: str
    step: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """Summed over requests, which overlap: not wall-clock time."""
    first: str
    """When the first and the `last` of them were answered, as `now` writes it."""
    last: str


@dataclass(frozen=True)
class Merged:
    """What became of entries from elsewhere."""

    added: int
    there: int
    """The ledger had the same answer."""
    differing: int
    """It had another answer, and keeps it."""


_COLUMNS = ", ".join(field.name for field in fields(Entry))
_MARKS = ", ".join("?" for _ in fields(Entry))


def now() -> str:
    """The time as the ledger writes it: UTC, microseconds, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Ledger:
    """The open ledger; a context manager. Several processes may have it open, for writing too. Raises DataError.

    What is written goes over a connection of its own, for another thread may wait for the disk there while `get`, which
    a log in front of the database (WAL) never makes wait, is asked for more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._unwritten: list[tuple[Entry, asyncio.Future[Entry]]] = []
        self._writing: asyncio.Task[None] | None = None
        with self._translated(), contextlib.ExitStack() as opened:
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
        insert = f"INSERT OR IGNORE INTO requests ({_COLUMNS}) VALUES ({_MARKS})"  # noqa: S608
        with self._lock, self._translated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                added = self._database.executemany(insert, [astuple(entry) for entry in entries]).rowcount
                self._database.execute("COMMIT")
            except sqlite3.Error:
                self._database.rollback()
                raise
            if added == len(entries):
                return list(entries)
            return [_get(self._database, entry.key) or entry for entry in entries]

    def merge(self, entries: Iterable[Entry]) -> Merged:
        """Add entries from elsewhere, all of them or, when taking one of them raises, none; nothing is replaced."""
        counts: Counter[str] = Counter()
        insert = f"INSERT INTO requests ({_COLUMNS}) VALUES ({_MARKS})"  # noqa: S608
        with self._lock, self._translated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                for entry in entries:
                    there = _get(self._database, entry.key)
                    if there is None:
                        self._database.execute(insert, astuple(entry))
                    counts["added" if there is None else "there" if there.response == entry.response else "other"] += 1
                self._database.execute("COMMIT")
            except BaseException:
                self._database.rollback()
                raise
        return Merged(counts["added"], counts["there"], counts["other"])

    def faults(self) -> list[str]:
        """What is wrong with the file: pages that SQLite finds damaged, keys that are not the hash of their request."""
        with self._translated():
            found = [line for (line,) in self._reader.execute("PRAGMA quick_check(3)") if line != "ok"]
            rows = self._reader.execute("SELECT key, request FROM requests")
            wrong = [key for key, request in rows if text_sha256(request) != key]
        if wrong:
            found.append(f"keys that are not the hash of their request: {len(wrong):,}, such as {wrong[0]}")
        return found

    def entries(self, leaf: str | None = None) -> Iterator[Entry]:
        """All entries, or those that a leaf asked for first, by key."""
        query = f"SELECT {_COLUMNS} FROM requests WHERE leaf = COALESCE(?, leaf) ORDER BY key"  # noqa: S608
        with self._translated():
            yield from (Entry(*row) for row in self._reader.execute(query, (leaf,)))

    def count(self, *, leaf: str | None = None, step: str | None = None, since: str = "") -> int:
        """How many requests were answered: for a leaf, in a step, at or after a time (as `now` writes it)."""
        return sum(use.requests for use in self.usage(leaf=leaf, step=step, since=since))

    def usage(self, *, leaf: str | None = None, step: str | None = None, since: str = "") -> list[Usage]:
        """What was paid, by leaf, step and model, in that order; narrowed as in `count`."""
        query = """
            SELECT leaf, step, model, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), SUM(seconds),
                MIN(created_at), MAX(created_at)
            FROM requests
            WHERE leaf = COALESCE(:leaf, leaf) AND step = COALESCE(:step, step) AND created_at >= :since
            GROUP BY leaf, step, model ORDER BY leaf, step, model
        """
        with self._translated():
            rows = self._reader.execute(query, {"leaf": leaf, "step": step, "since": since}).fetchall()
        return [Usage(*row) for row in rows]

    def _prepare(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        # FULL: the log is fsynced at every commit. NORMAL would survive a kill too, but not a power cut.
        self._database.execute("PRAGMA synchronous = FULL")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            what = f"the ledger has version {version}, this tilth writes version {_VERSION}"
            raise DataError(what, where=str(self.path), fix="use the tilth that wrote it, or move the file away")
        self._database.execute(_TABLE)
        self._database.execute(f"PRAGMA user_version = {_VERSION}")

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            fix = "free some space" if "full" in str(error) else "check the file, or move it away and run again"
            raise DataError(f"the ledger cannot be used ({error})", where=str(self.path), fix=fix) from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)


def _get(database: sqlite3.Connection, key: str) -> Entry | None:
    row = database.execute(f"SELECT {_COLUMNS} FROM requests WHERE key = ?", (key,)).fetchone()  # noqa: S608
    return Entry(*row) if row else None
