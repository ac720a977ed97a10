import asyncio
import functools
import json
import sqlite3
import subprocess
import sys
from dataclasses import astuple, replace

import pytest
from tilth.core.errors import DataError
from tilth.llm.ledger import Entry, Ledger, Merged


def make_entry(key="k1", leaf="a", step="facts", text="hello", created_at="2026-01-01T00:00:00.000000+00:00"):
    body = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})
    return Entry(key, leaf, step, "m@1", "{}", body, 10, 5, created_at, 0.5)


def test_an_entry_survives_closing(tmp_path):
    with Ledger(tmp_path / "new" / "ledger.db") as ledger:
        ledger.put(make_entry())
    with Ledger(tmp_path / "new" / "ledger.db") as ledger:
        entry = ledger.get("k1")
        assert entry == make_entry()
        assert entry.completion.text == "hello"
        assert ledger.get("k2") is None


def test_an_entry_survives_a_process_that_dies_right_after_put(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from tilth.llm.ledger import Ledger, Entry\n"
        "Ledger(Path(sys.argv[1])).put(Entry('k', 'a', 's', 'm', '{}', '{}', 1, 1, 'now', 0.1)); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "ledger.db")], check=False)
    assert done.returncode == 9
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.get("k") is not None


def test_a_number_that_cannot_be_kept_is_told_and_the_next_entry_is_kept(tmp_path):
    async def both(ledger):
        with pytest.raises(DataError, match=r"the ledger cannot be used \(Python int too large"):
            await ledger.put_soon(replace(make_entry(), prompt_tokens=2**64))
        return await asyncio.wait_for(ledger.put_soon(make_entry("k2")), timeout=30)

    with Ledger(tmp_path / "ledger.db") as ledger:
        assert asyncio.run(both(ledger)).key == "k2"
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert [entry.key for entry in ledger.entries()] == ["k2"]


def test_commits_are_fsynced(ledger):
    assert ledger._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert ledger._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_first_answer_stays(ledger):
    first = ledger.put(make_entry(text="first"))
    assert ledger.put(make_entry(text="second")) == first
    assert ledger.get("k1").completion.text == "first"


def test_two_connections_write_and_see_each_other(tmp_path, ledger):
    with Ledger(ledger.path) as other:
        other.put(make_entry("k1"))
        ledger.put(make_entry("k2"))
        assert ledger.get("k1")
        assert other.get("k2")


def test_who_opens_a_new_file_at_the_same_time_is_waited_for(tmp_path, monkeypatch):
    tries = []

    class Busy(sqlite3.Connection):
        """SQLite does not wait itself for who else makes the log."""

        def execute(self, statement, *parameters):
            if "journal_mode" in statement and len(tries) < 2:
                tries.append(statement)
                raise sqlite3.OperationalError("database is locked")
            return super().execute(statement, *parameters)

    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Busy))
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert [*ledger.rows("PRAGMA journal_mode")] == [("wal",)]
    assert len(tries) == 2


def test_the_entries_of_a_leaf_are_found_without_reading_the_others(ledger):
    for number in range(20):
        ledger.put(make_entry(f"k{number:02}", leaf="ab"[number % 2]))
    assert [entry.key for entry in ledger.entries("b")] == [f"k{number:02}" for number in range(1, 20, 2)]
    assert len(list(ledger.entries())) == 20
    [*_, plan] = ledger.rows("EXPLAIN QUERY PLAN SELECT * FROM requests WHERE leaf = 'b'")
    assert "USING INDEX" in plan[-1]


def test_a_ledger_of_before_the_index_is_opened_and_gets_it(tmp_path):
    """Its file is as tilth wrote it until the index came, at the same version: that tilth can go on with it too."""
    table = """CREATE TABLE requests (
        key TEXT PRIMARY KEY, leaf TEXT NOT NULL, step TEXT NOT NULL, model TEXT NOT NULL, request TEXT NOT NULL,
        response TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
        created_at TEXT NOT NULL, seconds REAL NOT NULL) STRICT"""
    old = sqlite3.connect(tmp_path / "ledger.db")
    for statement in ("PRAGMA journal_mode = WAL", table, "PRAGMA user_version = 1"):
        old.execute(statement)
    old.execute("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", astuple(make_entry("k1")))
    old.commit()
    old.close()
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert list(ledger.entries("a")) == [make_entry("k1")]
        assert list(ledger.rows("SELECT name FROM sqlite_master WHERE name = 'requests_by_leaf'"))
        assert list(ledger.rows("PRAGMA user_version")) == [(1,)]


def test_entries_from_elsewhere_replace_nothing(ledger):
    ledger.put(make_entry("k1", text="ours"))
    ledger.put(make_entry("k2", text="same"))
    there = [make_entry("k1", text="theirs"), make_entry("k2", text="same"), make_entry("k3", text="new")]
    assert ledger.merge(there) == Merged(added=1, there=1, differing=1)
    assert [ledger.get(key).completion.text for key in ("k1", "k2", "k3")] == ["ours", "same", "new"]


def test_entries_from_elsewhere_come_all_or_none(ledger):
    def cut():
        yield make_entry("k1")
        raise DataError("the rest is missing")

    with pytest.raises(DataError, match="the rest"):
        ledger.merge(cut())
    assert list(ledger.entries()) == []
    assert ledger.put(make_entry("k1"))


def test_a_full_disk_is_one_line(ledger):
    pages = ledger._database.execute("PRAGMA page_count").fetchone()[0]
    ledger._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DataError, match="disk is full") as caught:
        ledger.put(replace(make_entry(), response="x" * 400_000))
    assert "free some space" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_ledger_is_refused(tmp_path):
    (tmp_path / "ledger.db").write_text("this is not a database, but it is long enough to look like one" * 20)
    with pytest.raises(DataError, match="not a database"):
        Ledger(tmp_path / "ledger.db")


def test_a_ledger_of_a_later_tilth_is_refused(tmp_path):
    database = sqlite3.connect(tmp_path / "ledger.db")
    database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(DataError, match="version 9"):
        Ledger(tmp_path / "ledger.db")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be used"):
        Ledger(tmp_path / "file" / "ledger.db")
