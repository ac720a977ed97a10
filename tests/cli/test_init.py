"""`tilth init` inside another git repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ..loop import Spawner


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with one tracked file, in `notes/`."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("grow a model\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "notes"], cwd=tmp_path, check=True)
    return tmp_path


def test_a_nested_repository_is_told_once_and_not_where_it_is_ignored(spawner: Spawner, project: Path) -> None:
    note = f"note: it is a repository of its own inside that of {project}: have that one ignore it"
    assert note in spawner.run(project, "init", "taxonomy", "--empty").out
    assert "note:" not in spawner.run(project, "init", "taxonomy", "--empty").out
    (project / ".gitignore").write_text("other/\n")
    assert "note:" not in spawner.run(project, "init", "other", "--empty").out


def test_a_folder_that_another_repository_tracks_is_refused(spawner: Spawner, project: Path) -> None:
    ran = spawner.run(project, "init", "notes")
    assert (ran.code, ran.out) == (2, "")
    assert f"{project / 'notes'}: its files belong to the git repository {project}" in ran.err
    assert f"run `tilth init` in {project}, or name another folder" in ran.err
    assert not (project / "notes" / ".git").exists()
    assert spawner.run(project, "init", "--empty").code == 0


def test_a_folder_named_git_that_is_no_repository_is_none(spawner: Spawner, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    ran = spawner.run(tmp_path, "init", "taxonomy", "--empty")
    assert (ran.code, "note:" in ran.out) == (0, False)
