"""core/workspace: finding it, and one writer at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tilth.core.config import Config
from tilth.core.errors import ConfigError, TilthError
from tilth.core.workspace import Workspace, model_cache

HOLD = """
import sys, pathlib
from tilth.core.config import Config
from tilth.core.workspace import Workspace
with Workspace(pathlib.Path(sys.argv[1]), Config()).lock():
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


def test_a_second_writer_is_told_who_holds_it_until_that_one_dies(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, Config())
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(TilthError, match=rf"another tilth command \(pid {holder.pid}\) is writing here"),
            workspace.lock(),
        ):
            pass
        holder.kill()
    with workspace.lock():
        assert (workspace.state / "lock").read_text(encoding="utf-8") == str(os.getpid())


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
