"""Where tilth runs: odd paths, a workspace that was moved, no home, no language, no room for temporary files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..loop import Loop, Spawner
from .disk import can_mount, full


@pytest.mark.slow  # examines a student
def test_a_workspace_that_was_moved_goes_on_where_it_was(spawner: Spawner, trained: Loop, tmp_path: Path) -> None:
    moved = trained.copy(tmp_path / "ünï cödé 'wörk' $HOME")
    before = len(moved.teacher.requests)
    ran = spawner.run(moved.root, "cycle")
    assert ran.code == 0, ran.err
    assert ran.err.count("done already") == 2
    assert len(moved.teacher.requests) == before
    assert "base: 6 of 12 held-out questions to answer" in ran.err  # the other answers came along
    again = Loop(moved.root.rename(tmp_path / "elsewhere"), moved.teacher, moved.student)
    assert spawner.run(again.root, "cycle").out.startswith("nothing to do")
    assert spawner.run(again.root, "releases", "verify").code == 0
    assert spawner.run(again.root, "report", "2").code == 0


def test_without_a_home_or_a_language(untouched: Loop, copy: Callable[[Loop], Loop]) -> None:
    loop = copy(untouched)
    bare = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    command = [sys.executable, "-m", "tilth.cli.main", "generate"]
    ran = subprocess.run(command, cwd=loop.root, env=bare, capture_output=True, text=True, check=False)
    assert (ran.returncode, "Traceback" in ran.stderr) == (0, False), ran.stderr


def test_a_path_that_is_no_text_is_one_line(spawner: Spawner, untouched: Loop, tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"lat\xe9n")
    shutil.copytree(untouched.root, root)
    before = f"import os; os.chdir({str(root)!r})"
    ran = spawner.run(tmp_path, "cycle", before=before)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("tilth: the path '")
    assert "lat\\udce9n' is not UTF-8 text; rename the folder" in ran.err


@pytest.mark.skipif(not can_mount(), reason="no disk can be mounted here")
def test_no_room_for_temporary_files(spawner: Spawner, untouched: Loop, tmp_path: Path) -> None:
    loop = untouched.copy(tmp_path / "taxonomy")
    (tmp_path / "tmp").mkdir()
    ran = spawner.run(loop.root, "generate", before=full(tmp_path / "tmp"), TMPDIR=str(tmp_path / "tmp"))
    assert ran.code == 0, ran.err


def test_too_few_open_files(spawner: Spawner, untouched: Loop, tmp_path: Path) -> None:
    loop = untouched.copy(tmp_path / "taxonomy")
    loop.configure(teacher={"model": "rule", "base_url": loop.teacher.url, "concurrency": 64})
    loop.teacher.slow_s = 0.2
    limit = "import os, resource; most = len(os.listdir('/proc/self/fd')) + 7; "
    limit += "resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))"
    try:
        ran = spawner.run(loop.root, "generate", before=limit)
    finally:
        loop.teacher.slow_s = 0.0
    assert ran.code == 2
    assert "Traceback" not in ran.err
    assert "ulimit -n" in ran.err.splitlines()[-1]
    assert spawner.run(loop.root, "generate").code == 0
