"""Repositories that try to run something, to lead out, or to confuse: reading them runs nothing and changes nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.changes import changes
from tilth.taxonomy.repository import git_output, merge_base
from tilth.taxonomy.source import CommitTree, WorkingTree
from tilth.taxonomy.tree import leaf_ids

HELLO = "compositional_skills/hello"


@pytest.fixture
def trap(repository, skill, tmp_path):
    """A program that leaves a mark when it runs."""
    program = tmp_path / "trap.sh"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    program.chmod(0o755)
    repository.write(f"{HELLO}/qna.yaml", skill)
    repository.commit()
    return program


def read_all(root: Path) -> None:
    base, head = CommitTree(root, "HEAD"), WorkingTree(root)
    changes(base, head)
    for source in (base, head):
        source.blob_ids()
        for path in source.files():
            source.read(path)
    merge_base(root, "main")


SETTINGS = [
    ("core.fsmonitor", "{}"),
    ("core.hooksPath", "{}.hooks"),
    ("core.sshCommand", "{}"),
    ("core.pager", "{}"),
    ("pager.ls-files", "{}"),
    ("core.alternateRefsCommand", "{}"),
    ("diff.external", "{}"),
    ("diff.trap.textconv", "{}"),
    ("diff.trap.command", "{}"),
    ("filter.trap.clean", "{}"),
    ("filter.trap.smudge", "{}"),
    ("filter.trap.process", "{}"),
    ("alias.ls-files", "!{}"),
    ("credential.helper", "{}"),
]


@pytest.mark.parametrize(("setting", "value"), SETTINGS, ids=[name for name, _ in SETTINGS])
@pytest.mark.slow
def test_no_program_that_a_repository_names_is_run(repository, trap, tmp_path, setting, value):
    hooks = Path(f"{trap}.hooks")
    hooks.mkdir()
    for hook in ("post-index-change", "post-checkout", "fsmonitor-watchman", "reference-transaction"):
        (hooks / hook).symlink_to(trap)
    subprocess.run(["git", "config", setting, value.format(trap)], cwd=repository.root, check=True)
    repository.write(".gitattributes", "* diff=trap filter=trap\n")
    (repository.root / HELLO / "qna.yaml").touch()
    repository.write(f"{HELLO}/new.md", "New.\n")
    read_all(repository.root)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("setting", ["core.fsmonitor", "filter.trap.clean"])
def test_the_trap_springs_where_git_itself_is_asked(repository, trap, tmp_path, setting):
    subprocess.run(["git", "config", setting, str(trap)], cwd=repository.root, check=True)
    repository.write(".gitattributes", "* filter=trap\n")
    (repository.root / HELLO / "qna.yaml").touch()
    subprocess.run(["git", "status"], cwd=repository.root, check=False, capture_output=True)
    assert (tmp_path / "sprung").exists()


def test_missing_objects_are_fetched_from_nobody(repository, trap, tmp_path):
    """A clone that has no blobs would ask the server that its configuration names, by any transport."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "config", "uploadpack.allowFilter", "true"], cwd=repository.root, check=True)
    url = f"file://{repository.root}"
    subprocess.run(["git", "clone", "-q", "--bare", "--filter=blob:none", url, str(clone)], check=True)
    subprocess.run(["git", "config", "remote.origin.url", f"ext::{trap}"], cwd=clone, check=True)
    subprocess.run(["git", "config", "protocol.ext.allow", "always"], cwd=clone, check=True)
    tree = CommitTree(clone, "HEAD")
    with pytest.raises(TaxonomyError, match=r"hello/qna\.yaml: git does not have the file's bytes .*; run `git fsck`"):
        tree.read(f"{HELLO}/qna.yaml")
    assert not (tmp_path / "sprung").exists()


def test_a_work_tree_elsewhere_is_not_read(repository, skill, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "knowledge" / "secret"
    elsewhere.mkdir(parents=True)
    (elsewhere / "qna.yaml").write_text("secret")
    repository.write(f"{HELLO}/qna.yaml", skill)
    subprocess.run(["git", "config", "core.worktree", str(tmp_path / "elsewhere")], cwd=repository.root, check=True)
    assert WorkingTree(repository.root).files() == [f"{HELLO}/qna.yaml"]


def test_what_git_tells_its_hooks_does_not_lead_to_another_repository(repository, skill, tmp_path, monkeypatch):
    repository.write(f"{HELLO}/qna.yaml", skill)
    repository.commit()
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert WorkingTree(repository.root).files() == CommitTree(repository.root, "main").files() == [f"{HELLO}/qna.yaml"]


def test_replaced_objects_are_read_as_they_were(repository, skill):
    repository.write(f"{HELLO}/qna.yaml", skill)
    repository.commit()
    blob = git_output(repository.root, "rev-parse", f"HEAD:{HELLO}/qna.yaml").decode().strip()
    other = repository.git.git.hash_object("-w", str(repository.write("other", "other\n")))
    repository.git.git.replace(blob, other)
    assert CommitTree(repository.root, "HEAD").read(f"{HELLO}/qna.yaml") != b"other\n"


@pytest.mark.parametrize(
    "name",
    [
        "new\nline",
        'quo"te',
        "-leading",
        "--output=x",
        "tab\there",
        "back\\slash",
        " space ",
        "ü",
        "e\u0301",
        "\x1b[31m",
    ],
)
@pytest.mark.slow
def test_any_name_is_a_name(repository, skill, name):
    leaf = f"compositional_skills/{name}"
    repository.write(f"{leaf}/qna.yaml", skill)
    repository.commit()
    base, head = CommitTree(repository.root, "HEAD"), WorkingTree(repository.root)
    assert leaf_ids(base) == leaf_ids(head) == [leaf]
    assert base.blob_ids() == head.blob_ids()
    assert changes(base, head).unchanged == (leaf,)
    repository.write(f"{leaf}/qna.yaml", {**skill, "created_by": "bob"})
    assert [each.leaf for each in changes(base, WorkingTree(repository.root)).modified] == [leaf]


def test_a_name_that_is_no_utf8_is_told(repository, skill):
    repository.write(f"{HELLO}/qna.yaml", skill)
    (repository.root / HELLO).rename(repository.root / os.fsdecode(b"compositional_skills/caf\xe9"))
    head = WorkingTree(repository.root)
    (told,) = changes(CommitTree(repository.root, empty_commit(repository)), head).unreadable
    assert told.leaf == r"compositional_skills/caf\xe9"
    assert told.reason == r"compositional_skills/caf\xe9/qna.yaml: the file's name is not UTF-8; rename it"
    repository.commit()
    assert changes(CommitTree(repository.root, "HEAD"), head).unchanged == (told.leaf,)


def test_an_index_beyond_what_git_can_check_out_is_read(repository, skill):
    """Two files that one file system may not be able to hold, and a path longer than any system takes."""
    long = "/".join(["knowledge", *["d" * 200] * 25, "qna.yaml"])
    blob = repository.git.git.hash_object("-w", str(repository.write("x", "x")))
    for path in (long, "knowledge/A/qna.yaml", "knowledge/a/qna.yaml"):
        repository.git.git.update_index("--add", "--cacheinfo", f"100644,{blob},{path}")
    tree = repository.git.git.write_tree()
    commit = repository.git.git.execute(
        ["git", "-c", "user.name=a", "-c", "user.email=a@x", "commit-tree", tree, "-m", "x"]
    )
    assert len(leaf_ids(CommitTree(repository.root, commit))) == 3
    assert WorkingTree(repository.root).files() == ["x"]


def empty_commit(repository) -> str:
    repository.git.git.execute(
        ["git", "-c", "user.name=a", "-c", "user.email=a@x", "commit", "--allow-empty", "-qm", "x"]
    )
    return "HEAD"
