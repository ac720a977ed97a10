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


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_a_link_is_no_gitignore(spawner: Spawner, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("KEY=1\n")
    root = tmp_path / "taxonomy"
    root.mkdir()
    (root / ".gitignore").symlink_to("../secret")
    ran = spawner.run(root, "init", "--empty")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert ".gitignore: this is a link, or no file, and git follows none; move it away" in ran.err
    assert (tmp_path / "secret").read_text() == "KEY=1\n"


@pytest.mark.parametrize("commits", [0, 2])
def test_what_was_stopped_goes_on(spawner: Spawner, tmp_path: Path, commits: int) -> None:
    """A hook that refuses stands for Ctrl-C, a full disk, a key to sign with that is not there."""
    git(tmp_path, "init", "-q")
    hook = tmp_path / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntest $(git rev-list --all --count) -lt {commits}\n")
    hook.chmod(0o755)
    assert spawner.run(tmp_path, "init").code == 2
    hook.unlink()
    assert "with 4 starter leaves" in spawner.run(tmp_path, "init").out
    assert git(tmp_path, "status", "--porcelain") == ""
    assert len(git(tmp_path, "log", "--format=%s").splitlines()) == 5
    git(tmp_path, "rm", "-qr", "knowledge")
    git(tmp_path, "commit", "-qm", "Mine alone", "--author", "a <a@b>")
    assert "adopted 2 leaves" in spawner.run(tmp_path, "init").out
