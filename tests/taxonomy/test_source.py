from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.changes import changes
from tilth.taxonomy.formats import MAX_DOCUMENT_MB
from tilth.taxonomy.git_blobs import BlobReader
from tilth.taxonomy.lint import lint
from tilth.taxonomy.repository import git_output, merge_base
from tilth.taxonomy.source import CommitTree, TooLarge, WorkingTree


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


def test_what_git_lists_nowhere_is_told_where_a_leaf_should_be(repository):
    for folder in ("knowledge/empty/qna.yaml", "knowledge/pipe", "knowledge/.hidden/qna.yaml", "docs/qna.yaml"):
        (repository.root / folder).mkdir(parents=True)
    os.mkfifo(repository.root / "knowledge/pipe/qna.yaml")
    repository.write("knowledge/ignored/qna.yaml", "x")
    repository.write(".gitignore", "ignored\n")
    expected = {"knowledge/empty/qna.yaml": "folder", "knowledge/pipe/qna.yaml": "pipe"}
    assert WorkingTree(repository.root).others() == expected
    (repository.root / ".git").rename(repository.root / ".hidden")
    assert WorkingTree(repository.root).others() == expected


def test_what_a_sparse_checkout_leaves_out_is_there(repository, skill):
    for name in ("a", "b"):
        repository.write(f"compositional_skills/{name}/qna.yaml", skill)
    repository.write("knowledge/k.md", "k")
    repository.commit()
    whole = WorkingTree(repository.root)
    files, ids = whole.files(), whole.blob_ids()
    data = whole.read("compositional_skills/b/qna.yaml")
    git_output(repository.root, "sparse-checkout", "set", "--cone", "compositional_skills/a")
    sparse = WorkingTree(repository.root)
    assert not (repository.root / "knowledge").exists()
    assert (sparse.files(), sparse.blob_ids(), sparse.others()) == (files, ids, {})
    assert sparse.read("compositional_skills/b/qna.yaml") == data
    assert not changes(CommitTree(repository.root, "HEAD"), sparse).removed
    (repository.root / "compositional_skills/a/qna.yaml").unlink()  # this one is gone
    assert "compositional_skills/a/qna.yaml" not in WorkingTree(repository.root).files()


@pytest.mark.parametrize("with_git", [True, False])
def test_a_section_that_is_a_link_is_told_and_not_walked(repository, tmp_path, with_git):
    (tmp_path / "elsewhere/leaf/qna.yaml").mkdir(parents=True)
    (repository.root / "knowledge").symlink_to(tmp_path / "elsewhere")
    if not with_git:
        (repository.root / ".git").rename(repository.root / ".hidden")
    assert WorkingTree(repository.root).others() == {"knowledge": "link"}
    assert [(each.code, each.path) for each in lint(WorkingTree(repository.root))] == [("E113", "knowledge")]


@pytest.mark.slow
def test_no_more_is_read_than_a_document_may_hold(repository, monkeypatch):
    repository.write("most.md", b"x" * (MAX_DOCUMENT_MB << 20))
    with (repository.root / "more.md").open("wb") as file:
        file.truncate((MAX_DOCUMENT_MB << 20) + (1 << 20))
    repository.commit()
    for tree in (WorkingTree(repository.root), CommitTree(repository.root, "HEAD")):
        assert len(tree.read("most.md")) == MAX_DOCUMENT_MB << 20
        monkeypatch.setattr(BlobReader, "read", None)
        with pytest.raises(TooLarge, match=r"^more\.md: the file has 33 MB, at most 32 are read; split it$"):
            tree.read("more.md")
        monkeypatch.undo()


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


def test_reading_writes_nothing_not_even_what_git_would_refresh(repository, skill):
    repository.write("a.txt", "one")
    repository.write("compositional_skills/hello/qna.yaml", skill)
    repository.commit()
    repository.write("a.txt", "two")
    repository.write("b.txt", "staged")
    repository.git.git.add("b.txt")
    (repository.root / "compositional_skills/hello/qna.yaml").touch()  # git's status would note that it is as before
    before = _snapshot(repository.root)
    head, base = WorkingTree(repository.root), CommitTree(repository.root, "main")
    changes(base, head)
    for tree in (head, base):
        tree.blob_ids()
        for path in tree.files():
            tree.read(path)
    merge_base(repository.root, "main")
    assert _snapshot(repository.root) == before


def test_blob_ids_are_those_of_git_and_need_no_reading(repository, monkeypatch):
    repository.write("a.txt", "one")
    repository.write("ü b.txt", "two")
    repository.commit()
    repository.write("c.txt", "new")
    ids = CommitTree(repository.root, "HEAD").blob_ids()
    assert ids == {
        "a.txt": repository.git.git.hash_object("a.txt"),
        "ü b.txt": repository.git.git.hash_object("ü b.txt"),
    }
    new = {"c.txt": repository.git.git.hash_object("c.txt")}
    assert WorkingTree(repository.root).blob_ids() == {**ids, **new}
    os.utime(repository.root / ".git/index", (4e9, 4e9))  # all files were written long before git looked at them
    monkeypatch.setattr(WorkingTree, "_hash", lambda *_: "read")
    assert WorkingTree(repository.root).blob_ids() == {**ids, "c.txt": "read"}


def test_a_git_that_lists_its_index_otherwise_only_costs_time(repository, monkeypatch):
    repository.write("a.txt", "one")
    repository.commit()
    os.utime(repository.root / ".git/index", (4e9, 4e9))
    ids = WorkingTree(repository.root).blob_ids()

    def without_stats(root, *arguments, **options):
        return git_output(root, *(argument for argument in arguments if argument != "--debug"), **options)

    monkeypatch.setattr("tilth.taxonomy.git_index.git_output", without_stats)
    assert WorkingTree(repository.root).blob_ids() == ids
    monkeypatch.setattr(WorkingTree, "_hash", lambda *_: "read")
    assert WorkingTree(repository.root).blob_ids() == {"a.txt": "read"}


def test_blob_ids_without_git_are_those_that_git_would_give(repository, tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/a.txt").write_text("one")
    repository.write("a.txt", "one")
    assert WorkingTree(tmp_path / "plain").blob_ids() == {"a.txt": repository.git.git.hash_object("a.txt")}


def test_a_repository_of_sha256_objects(tmp_path):
    _git(tmp_path, "init", "-q", "--object-format=sha256", "new")
    (tmp_path / "new/a.txt").write_text("one")
    _git(tmp_path / "new", "add", "a.txt")
    _git(tmp_path / "new", "-c", "user.name=a", "-c", "user.email=a@x", "commit", "-qm", "x")
    tree = CommitTree(tmp_path / "new", "HEAD")
    assert WorkingTree(tmp_path / "new").blob_ids() == tree.blob_ids()
    assert tree.read("a.txt") == b"one"


def test_a_file_that_cannot_be_read_has_no_id(repository, monkeypatch):
    repository.write("a.txt", "one")
    monkeypatch.setattr("tilth.taxonomy.source.FileIO", _refused)
    assert WorkingTree(repository.root).blob_ids() == {"a.txt": ""}


def test_a_worktree_and_a_submodule_are_repositories_too(repository, tmp_path):
    repository.write("a.txt", "one")
    repository.commit()
    _git(repository.root, "worktree", "add", "-q", "--detach", str(tmp_path / "beside"))
    _git(tmp_path, "init", "-q", "outer")
    _git(
        tmp_path / "outer",
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(repository.root),
        "sub",
    )
    for root in (tmp_path / "beside", tmp_path / "outer/sub"):
        (root / "b.txt").write_text("two")
        assert WorkingTree(root).files() == ["a.txt", "b.txt"]
        assert CommitTree(root, "HEAD").read("a.txt") == b"one"
    assert WorkingTree(tmp_path / "outer").files() == []
    assert WorkingTree(tmp_path / "outer").others() == {"sub": "folder"}


@pytest.mark.parametrize("revision", ["nowhere", "-h", "--output=x", "HEAD:a.txt", "", "HEAD^{tree}", "^main"])
def test_an_unknown_revision_is_told_in_a_line(repository, revision):
    repository.write("a.txt", "a")
    repository.commit()
    with pytest.raises(TaxonomyError, match="there is no commit"):
        CommitTree(repository.root, revision)


@pytest.mark.parametrize("revision", ["main", "HEAD@{0}", ":/work", "v1", "main~0", "HEAD^{}"])
def test_any_revision_names_a_commit(repository, revision):
    repository.write("a.txt", "a")
    commit = repository.commit()
    _git(repository.root, "-c", "user.name=a", "-c", "user.email=a@x", "tag", "-a", "v1", "-m", "one")
    assert CommitTree(repository.root, revision).commit == commit


def test_an_unknown_revision_is_told_with_the_nearest_name(repository, tmp_path):
    with pytest.raises(TaxonomyError, match="there is no commit 'main'; commit something first"):
        CommitTree(repository.root, "main")
    repository.write("a.txt", "a")
    repository.commit()
    with pytest.raises(TaxonomyError, match="there is no commit 'mian'; did you mean 'main'"):
        CommitTree(repository.root, "mian")
    with pytest.raises(TaxonomyError, match="`git log` and `git branch --all` list them"):
        CommitTree(repository.root, "v2.0.0")
    repository.write("a.txt", "b")
    repository.commit()
    _git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository.root}", "shallow")
    with pytest.raises(TaxonomyError, match="run `git fetch --unshallow`"):
        CommitTree(tmp_path / "shallow", "HEAD~1")


def test_the_merge_base_is_where_head_left_the_branch(repository):
    repository.write("a.txt", "a")
    fork = repository.commit()
    _git(repository.root, "checkout", "-q", "-b", "contribution")
    repository.write("b.txt", "b")
    repository.commit()
    _git(repository.root, "checkout", "-q", "main")
    repository.write("c.txt", "c")
    repository.commit()
    assert merge_base(repository.root, "contribution") == fork
    _git(repository.root, "checkout", "-q", "--orphan", "other")
    repository.commit()
    with pytest.raises(TaxonomyError, match="HEAD and 'main' have no commit in common"):
        merge_base(repository.root, "main")


def test_a_folder_that_is_no_repository_is_told_in_a_line(tmp_path):
    with pytest.raises(TaxonomyError, match="no git repository; run `tilth init`"):
        CommitTree(tmp_path, "HEAD")
    with pytest.raises(TaxonomyError, match="no such folder"):
        CommitTree(tmp_path / "nowhere", "HEAD")
    with pytest.raises(TaxonomyError, match="no such folder"):
        WorkingTree(tmp_path / "nowhere")


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def _refused(descriptor: int) -> None:
    os.close(descriptor)
    raise PermissionError(13, "Permission denied")


def _snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of the working tree and of git, with the time of its last change."""
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}
