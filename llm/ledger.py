"""The ledger: every request made to a model with its raw answer, in SQLite, written before the answer is used.

The key of a request is the hash of what decides its answer: the model's identity, the messages, the sampling settings
and the seed. Where the model runs, and which leaf and step asked, are not part of it. Whatever is in the ledger is
never paid for again; that makes a killed run go on where it was, without any checkpoint code.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from ..core.errors import DataError
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
    """What one step of one leaf has cost."""

    leaf: str
    step: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """Summed over requests, which overlap: not wall-clock time."""


_COLUMNS = ", ".join(field.name for field in fields(Entry))
_MARKS = ", ".join("?" for _ in fields(Entry))


def now() -> str:
    """The time as the ledger writes it: UTC, microseconds, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Ledger:
    """The open ledger; a context manager. Several processes may have it open, for writing too. Raises DataError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=30, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def get(self, key: str) -> Entry | None:
        """The entry of a key, None when that request was never answered."""
        with self._translated():
            row = self._database.execute(f"SELECT {_COLUMNS} FROM requests WHERE key = ?", (key,)).fetchone()  # noqa: S608
        return Entry(*row) if row else None

    def put(self, entry: Entry) -> Entry:
        """Put an entry on disk, fsynced, and return it; if the key is there already, return what is there.

        An entry is never replaced: samples were made from it.
        """
        with self._translated():
            added = self._database.execute(
                f"INSERT OR IGNORE INTO requests ({_COLUMNS}) VALUES ({_MARKS})",  # noqa: S608
                astuple(entry),
            ).rowcount
        return entry if added else self.get(entry.key) or entry

    def count(self, *, leaf: str | None = None, step: str | None = None, since: str = "") -> int:
        """How many requests were answered: for a leaf, in a step, at or after a time (as `now` writes it)."""
        return sum(use.requests for use in self.usage(leaf=leaf, step=step, since=since))

    def usage(self, *, leaf: str | None = None, step: str | None = None, since: str = "") -> list[Usage]:
        """What was paid, by leaf and step, in that order; narrowed as in `count`."""
        query = """
            SELECT leaf, step, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), SUM(seconds) FROM requests
            WHERE leaf = COALESCE(:leaf, leaf) AND step = COALESCE(:step, step) AND created_at >= :since
            GROUP BY leaf, step ORDER BY leaf, step
        """
        with self._translated():
            rows = self._database.execute(query, {"leaf": leaf, "step": step, "since": since}).fetchall()
        return [Usage(*row) for row in rows]

    def _prepare(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        # FULL: the log is fsynced at every commit. NORMAL would survive a kill too, but not a power cut, and what it
        # saves (2.5 ms against 0.1 ms here) is nothing beside an answer that takes a second.
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
