from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.source import CommitTree, WorkingTree


def test_the_working_tree_is_what_is_tracked_and_what_is_new_and_not_ignored(repository):
    repository.write("a.txt", "a")
    repository.write("gone.txt", "gone")
    repository.write(".gitignore", "*.log\n")
    repository.commit()
    (repository.root / "gone.txt").unlink()
    repository.write("new/ü b.txt", "new")
    repository.write("noise.log", "noise")
    repository.write(".tilth/store.txt", "state")
    repository.write("x/.hidden/y.txt", "hidden")
    tree = WorkingTree(repository.root)
    assert tree.files() == ["a.txt", "new/ü b.txt"]
    assert tree.read("new/ü b.txt") == b"new"


def test_a_folder_without_git_is_walked(tmp_path):
    (tmp_path / "x" / ".tilth").mkdir(parents=True)
    (tmp_path / "x" / "a.txt").write_text("a")
    (tmp_path / "x" / ".tilth" / "b.txt").write_text("b")
    assert WorkingTree(tmp_path).files() == ["x/a.txt"]


@pytest.mark.parametrize(
    "path",
    ["link.txt", "folder/secret.txt", "../secret.txt", "x/../../secret.txt", "/etc/hostname", "x", "missing.txt"],
)
def test_the_working_tree_reads_nothing_through_links_or_from_outside(repository, tmp_path, path):
    (tmp_path / "secret.txt").write_text("secret")
    repository.write("x/a.txt", "a")
    (repository.root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (repository.root / "folder").symlink_to(tmp_path)
    tree = WorkingTree(repository.root)
    assert tree.files() == ["x/a.txt"]
    with pytest.raises(TaxonomyError, match=r"^[^\n]*$"):
        tree.read(path)


def test_what_is_no_plain_file_is_no_file(repository):
    os.mkfifo(repository.root / "pipe.txt")
    assert WorkingTree(repository.root).files() == []
    with pytest.raises(TaxonomyError):
        WorkingTree(repository.root).read("pipe.txt")


def test_a_commit_keeps_what_it_held(repository):
    repository.write("knowledge/ü b.txt", "old")
    repository.write(".hidden/x", "x")
    (repository.root / "link.txt").symlink_to("knowledge/ü b.txt")
    first = repository.commit()
    repository.write("knowledge/ü b.txt", "new")
    repository.commit()
    tree = CommitTree(repository.root, "HEAD~1")
    assert (tree.commit, tree.name) == (first, first)
    assert tree.files() == ["knowledge/ü b.txt"]
    assert tree.read("knowledge/ü b.txt") == b"old"
    with pytest.raises(TaxonomyError, match="no such file in commit"):
        tree.read("link.txt")


def test_reading_writes_nothing(repository):
    repository.write("a.txt", "one")
    repository.commit()
    repository.write("a.txt", "two")
    repository.write("b.txt", "staged")
    repository.git.git.add("b.txt")
    before = _snapshot(repository.root)
    for tree in (WorkingTree(repository.root), CommitTree(repository.root, "main")):
        for path in tree.files():
            tree.read(path)
    assert _snapshot(repository.root) == before


@pytest.mark.parametrize("revision", ["nowhere", "-h", "--output=x", "HEAD:a.txt", ""])
def test_an_unknown_revision_is_told_in_a_line(repository, revision):
    repository.write("a.txt", "a")
    repository.commit()
    with pytest.raises(TaxonomyError, match="there is no commit"):
        CommitTree(repository.root, revision)


def test_a_folder_that_is_no_repository_is_told_in_a_line(tmp_path):
    with pytest.raises(TaxonomyError, match="no git repository; run `tilth init`"):
        CommitTree(tmp_path, "HEAD")
    with pytest.raises(TaxonomyError, match="no such folder"):
        CommitTree(tmp_path / "nowhere", "HEAD")
    with pytest.raises(TaxonomyError, match="no such folder"):
        WorkingTree(tmp_path / "nowhere")


def _snapshot(root: Path) -> tuple[str, dict[str, bytes]]:
    status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    files = {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != "index"}
    return status.stdout, files
