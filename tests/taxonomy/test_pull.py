"""A branch that follows its upstream: real clones, real pushes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.pull import pull, upstream

from .conftest import Repository


def git(root: Path, *arguments: str) -> str:
    names = ["-c", "user.name=ada", "-c", "user.email=ada@localhost"]
    ran = subprocess.run(["git", *names, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return ran.stdout.strip()


@pytest.fixture
def clone(repository: Repository, tmp_path: Path) -> Path:
    """A clone of a repository with one commit."""
    repository.write("one", "1")
    repository.commit()
    root = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository.root), str(root))
    return root


def test_what_was_pushed_comes(repository: Repository, clone: Path) -> None:
    assert upstream(clone) == "origin/main"
    repository.write("two", "2")
    repository.commit()
    pull(clone)
    assert (clone / "two").read_text() == "2"
    assert git(clone, "rev-parse", "HEAD") == git(repository.root, "rev-parse", "HEAD")
    pull(clone)


def test_a_hook_of_the_contributors_does_not_run(repository: Repository, clone: Path) -> None:
    git(clone, "config", "core.hooksPath", ".githooks")
    (repository.root / ".githooks").mkdir()
    hook = repository.root / ".githooks/post-merge"
    hook.write_text("#!/bin/sh\ntouch ran\n")
    hook.chmod(0o755)
    repository.commit()
    pull(clone)
    assert (clone / ".githooks/post-merge").exists()
    assert not (clone / "ran").exists()
    git(clone, "hook", "run", "post-merge")
    assert (clone / "ran").exists()


def test_work_of_ones_own_is_left_alone(repository: Repository, clone: Path) -> None:
    (clone / "one").write_text("mine")
    repository.write("one", "theirs")
    repository.commit()
    with pytest.raises(TaxonomyError, match="git: error: Your local changes to the following files would be over"):
        pull(clone)
    git(clone, "commit", "-qam", "mine")
    with pytest.raises(TaxonomyError, match="fatal: Not possible to fast-forward, aborting"):
        pull(clone)
    assert (clone / "one").read_text() == "mine"


def test_a_branch_that_follows_none(repository: Repository, clone: Path) -> None:
    with pytest.raises(TaxonomyError, match="no upstream configured for branch 'main'; `git branch --set-upstream-to"):
        upstream(repository.root)
    git(clone, "remote", "set-url", "origin", str(clone / "gone"))
    with pytest.raises(TaxonomyError, match="git: fatal: "):
        pull(clone)
