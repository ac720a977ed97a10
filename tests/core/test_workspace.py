"""core/workspace: finding it, and one writer at a time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest
from tilth.core.config import Config
from tilth.core.errors import ConfigError, TilthError
from tilth.core.workspace import Workspace, model_cache

HOLD = """
import sys, pathlib
root, *sys.argv = sys.argv[1:]
from tilth.core.config import Config
from tilth.core.workspace import Workspace
with Workspace(pathlib.Path(root), Config()).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_it_is_found_from_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / "tilth.yaml").write_text("seed: 5\n", encoding="utf-8")
    below = tmp_path / "knowledge" / "birds"
    below.mkdir(parents=True)
    workspace = Workspace.open(below, ("gate.significance=0.01",))
    assert workspace.root == tmp_path
    assert (workspace.config.seed, workspace.config.gate.significance) == (5, 0.01)


def test_everything_it_writes_is_in_one_folder(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, Config())
    state = tmp_path / ".tilth"
    assert workspace.state == state
    assert {path.parent for path in (workspace.ledger, workspace.store, workspace.cycles, workspace.releases)} == {
        state
    }


def test_no_workspace_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run `tilth init` first"):
        Workspace.open(tmp_path)


@contextmanager
def holding(root: Path, *argv: str) -> Generator[subprocess.Popen[str]]:
    """A process of those arguments that has the lock, until it is killed."""
    command = [sys.executable, "-c", HOLD, str(root), *argv]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def refusal(workspace: Workspace) -> str:
    with pytest.raises(TilthError) as caught, workspace.lock():
        pass
    assert (caught.value.where, caught.value.fix) == (str(workspace.root), "wait for it to end")
    return caught.value.what


@pytest.mark.slow
def test_a_second_writer_is_told_who_holds_it_until_that_one_dies(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, Config())
    with holding(tmp_path, "/usr/bin/tilth", "cycle", "--set", "a.b=secret") as process:
        told = rf"another tilth command \(`tilth cycle`, pid {process.pid}, for \d+ s\) is writing here"
        assert re.fullmatch(told, refusal(workspace))
    assert process.returncode == -9
    with workspace.lock():
        written = json.loads((workspace.state / "lock").read_text(encoding="utf-8"))
        assert written["pid"] == os.getpid()
        assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(written["since"]) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("argv", "said"), [(["/a/nightly.py", "secret"], "nightly.py"), (["/b/tilth"], "tilth"), (["-c"], "python")]
)
def test_a_program_that_calls_the_library_is_named_without_its_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    workspace = Workspace(tmp_path, Config())
    with workspace.lock():
        assert f"(`{said}`, pid {os.getpid()}, " in refusal(workspace)


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (timedelta(seconds=-3600), "0 s"),  # the clock was set back
        (timedelta(seconds=119), "119 s"),
        (timedelta(minutes=12, seconds=9), "12 min"),
        (timedelta(hours=47, minutes=59), "47 h"),
        (timedelta(days=12), "12 days"),
    ],
)
def test_the_holder_s_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ago: timedelta, said: str) -> None:
    workspace = Workspace(tmp_path, Config())
    now_s = 1.8e9

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(now_s, tz)

    monkeypatch.setattr("tilth.core.workspace.datetime", Clock)
    with workspace.lock():
        record = {"pid": 5, "since": (datetime.fromtimestamp(now_s, UTC) - ago).isoformat(), "command": "tilth train"}
        (workspace.state / "lock").write_text(json.dumps(record), encoding="utf-8")
        assert refusal(workspace) == f"another tilth command (`tilth train`, pid 5, for {said}) is writing here"


@pytest.mark.parametrize(
    ("lock", "told"),
    [
        (b"4711", " (pid 4711)"),
        (b"4711\n", " (pid 4711)"),
        (b"", ""),
        (b"\xff{", ""),
        (b"[]", ""),
        (b'{"pid": 1}', ""),
        (b'{"pid": 1, "since": "2026-03-01T00:00:00", "command": "x"}', ""),
    ],
)
def test_a_lock_file_of_an_older_version_or_no_sense(tmp_path: Path, lock: bytes, told: str) -> None:
    workspace = Workspace(tmp_path, Config())
    with workspace.lock():
        (workspace.state / "lock").write_bytes(lock)
        assert refusal(workspace) == f"another tilth command{told} is writing here"
    with workspace.lock():
        assert b"since" in (workspace.state / "lock").read_bytes()


def test_the_lock_is_freed_at_the_end_of_its_block(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, Config())
    for _ in range(2):
        with workspace.lock():
            pass


def test_the_model_cache_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTH_CACHE", str(tmp_path))
    assert model_cache() == tmp_path / "models"
    monkeypatch.setenv("TILTH_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_cache() == tmp_path / ".cache" / "tilth" / "models"
