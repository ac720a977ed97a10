"""What linting found out about a file's bytes, kept between runs: a file that did not change is not read again.

The facts are worth no more than the time that they took: a cache that is broken, made by other code, or copied from
elsewhere is made anew, and one that cannot be written is done without.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

_ROOM = Path(__file__).parents[2]
_CODE = ("core/*.py", "taxonomy/*.py", "taxonomy/lint/*.py")
"""The files that decide what is found."""

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Facts:
    """JSON-able values by key. `put` ones are kept when the block of `open_facts` ends."""

    def __init__(self, stored: dict[str, str]) -> None:
        self._stored = stored
        self._used: set[str] = set()
        self._new: dict[str, str] = {}
        self._forgotten: set[str] = set()

    def get(self, key: str) -> Any:
        """The value of `key`, or None."""
        self._used.add(key)
        try:
            return json.loads(self._stored[key])
        except (KeyError, ValueError):  # not there, or broken on the disk
            return None

    def put(self, key: str, value: Any) -> None:
        """Keep `value`."""
        self._new[key] = _encode(value)

    def forget_others(self) -> None:
        """Drop what this run did not ask for, once it is most of it: another branch may need it again."""
        others = self._stored.keys() - self._used
        if len(others) > len(self._used):
            self._forgotten = others

    def save(self, database: sqlite3.Connection) -> None:
        """Write what is new, in one step."""
        with database:
            database.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", self._new.items())
            database.executemany("DELETE FROM fact WHERE key = ?", [(key,) for key in self._forgotten])


@contextlib.contextmanager
def open_facts(path: Path | None) -> Generator[Facts]:
    """The facts of the SQLite file `path`; None: of this run alone."""
    if path is None:
        yield Facts({})
        return
    stored = _stored(path)
    facts = Facts(stored or {})
    yield facts
    with contextlib.suppress(sqlite3.Error, OSError):  # a full or read-only disk costs the next run some time
        if stored is None:
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as database:
            if stored is None:
                database.execute("CREATE TABLE IF NOT EXISTS fact (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
                facts.put("made", _made(path))
            facts.save(database)


def _stored(path: Path) -> dict[str, str] | None:
    """All facts; None where the file is not there, is broken, or is not what this code wrote in this place."""
    if not path.is_file():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            stored: dict[str, str] = dict(database.execute("SELECT key, value FROM fact"))
        return stored if json.loads(stored.pop("made")) == _made(path) else None
    except (sqlite3.Error, KeyError, ValueError, TypeError):
        return None


def _made(path: Path) -> list[str | int]:
    """What a cache must have been made by and in: a contribution that brings its own verdicts along is not believed."""
    return [_code_sha256(), path.stat().st_ino]


def _code_sha256() -> str:
    import pydantic
    import yaml

    digest = hashlib.sha256(f"{sys.version} {pydantic.VERSION} {yaml.__version__}".encode())
    for pattern in _CODE:
        for file in sorted(_ROOM.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()
