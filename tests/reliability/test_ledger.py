"""The ledger under concurrent readers and killed writers, and what is saved of a damaged one."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from tilth.llm.ledger import Ledger
from tilth.llm.ledger_report import count

from ..loop import Loop, Spawner

WRITER = """
import sys
from pathlib import Path
from tilth.llm.ledger import Entry, Ledger

with Ledger(Path(sys.argv[1])) as ledger:
    for number in range(100_000):
        key = f"{sys.argv[2]}-{number}"
        ledger.put(Entry(key, "leaf", "step", "m", "{}", "x" * 9000, 1, 1, "2026-01-01T00:00:00+00:00", 0.1))
        print(key, flush=True)
"""


class Writer:
    """A process that writes until it is killed, and says of each answer when it is on disk."""

    def __init__(self, path: Path, name: str) -> None:
        self._told = path.with_name(name)
        command = [sys.executable, "-c", WRITER, str(path), name]
        with self._told.open("w") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True)

    def wait(self, number: int) -> None:
        """Until it has written so many."""
        while len(self.kept()) < number:
            assert self._process.poll() is None
            time.sleep(0.002)

    def kill(self) -> None:
        self._process.kill()
        assert self._process.communicate()[1] == ""

    def kept(self) -> list[str]:
        """What it said, but for half a line."""
        return [line.strip() for line in self._told.read_text().splitlines(keepends=True) if line.endswith("\n")]


@contextlib.contextmanager
def reading(path: Path) -> Generator[list[int]]:
    """Read the ledger all the time, and yield how many answers were there each time."""
    seen: list[int] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            with Ledger(path, reading=True) as ledger:
                seen.append(count(ledger))
            time.sleep(0.002)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        over.set()
        reader.join()


@pytest.mark.slow
def test_readers_and_writers_that_are_killed_leave_it_sound(tmp_path: Path) -> None:
    path, rng, all_ = tmp_path / "ledger.db", random.Random(0), list[Writer]()
    with Ledger(path):
        pass
    with reading(path) as seen:
        for round_ in range(3):
            writers = [Writer(path, f"{round_}-{name}") for name in "ab"]
            all_ += writers
            for writer in writers:
                writer.wait(rng.randint(3, 25))
            for writer in writers:
                writer.kill()
            with contextlib.closing(sqlite3.connect(path)) as database:
                assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with Ledger(path) as ledger:
        assert [key for writer in all_ for key in writer.kept() if not ledger.get(key)] == []
    assert seen == sorted(seen)
    assert len(set(seen)) > 4


def test_a_reader_waits_for_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger, Ledger(path, reading=True) as reader, ledger._transaction():
        assert count(reader) == 0
        with Ledger(path, reading=True) as late:
            assert count(late) == 0


def cut(data: bytearray) -> bytearray:
    return data[: len(data) // 2 + 100]


def overwrite(data: bytearray) -> bytearray:
    """A page in the middle."""
    page = len(data) // 2 // 4096 * 4096
    data[page : page + 4096] = random.Random(0).randbytes(4096)
    return data


@pytest.mark.parametrize("damage", [cut, overwrite])
def test_a_damaged_ledger_is_named_and_what_can_be_read_is_saved(
    spawner: Spawner, turned_once: Loop, tmp_path: Path, damage: Callable[[bytearray], bytearray]
) -> None:
    loop = turned_once.copy(tmp_path / "taxonomy")
    path, made = loop.state / "ledger.db", {file.name for file in loop.state.glob("store/*")}
    with Ledger(path) as ledger:
        had = count(ledger)
    shutil.rmtree(loop.state / "store")
    path.write_bytes(damage(bytearray(path.read_bytes())))
    told = spawner.run(loop.root, "ledger")
    assert told.code in {1, 2}
    assert "run `tilth ledger rescue`" in told.err
    assert len(told.err.splitlines()) == 1
    rescued = spawner.run(loop.root, "ledger", "rescue")
    assert rescued.code == 0, rescued.err
    with Ledger(path, reading=True) as ledger:
        saved = count(ledger)
    assert rescued.out.startswith(f"saved {saved} answers;")
    assert had // 4 < saved < had
    assert (loop.state / "ledger.db.damaged").exists()
    before = len(loop.teacher.requests)
    assert spawner.run(loop.root, "generate").code == 0
    assert {file.name for file in loop.state.glob("store/*")} == made
    assert len(loop.teacher.requests) - before <= had - saved
    assert "nothing to rescue" in spawner.run(loop.root, "ledger", "rescue").out
