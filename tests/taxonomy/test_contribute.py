from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml
from git import Repo
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.contribute import (
    add_files,
    author_name,
    commit_files,
    full_leaf_id,
    init_repository,
    plan_leaf,
    write_leaf,
    write_schema,
)
from tilth.taxonomy.leaf import read_leaf
from tilth.taxonomy.lint import lint
from tilth.taxonomy.source import CommitTree, WorkingTree
from tilth.taxonomy.starter_taxonomy import SECOND_KNOWLEDGE, starter_files


def test_a_repository_is_made_once_and_ignores_the_state(tmp_path):
    root = tmp_path / "new"
    init_repository(root)
    init_repository(root)
    assert Repo(root).active_branch.name == "main"
    assert (root / ".gitignore").read_text() == ".tilth\n"


def test_a_repository_that_is_there_keeps_its_branch_and_its_rules(tmp_path):
    Repo.init(tmp_path, initial_branch="trunk")
    (tmp_path / ".gitignore").write_text("*.log")
    init_repository(tmp_path)
    assert Repo(tmp_path).active_branch.name == "trunk"
    assert (tmp_path / ".gitignore").read_text() == "*.log\n.tilth\n"
    (tmp_path / ".gitignore").write_bytes(b"*.log\r\n*.tmp\r\n")
    init_repository(tmp_path)
    assert (tmp_path / ".gitignore").read_bytes() == b"*.log\r\n*.tmp\r\n.tilth\r\n"


@pytest.mark.parametrize("name", [".hidden.md", " spaced.md", "spaced ", "bell\a.md"])
def test_a_document_whose_name_no_leaf_can_have_is_refused(repository, tmp_path, name):
    with pytest.raises(TaxonomyError, match="cannot be named in a leaf; rename the document"):
        plan_leaf(repository.root, "knowledge", "bridge", [tmp_path / name])


def test_a_folder_is_no_document(repository, tmp_path):
    with pytest.raises(TaxonomyError, match="this is a folder; name a file in it"):
        plan_leaf(repository.root, "knowledge", "bridge", [tmp_path])


def test_nothing_is_written_through_a_folder_that_is_a_link(repository, tmp_path):
    (tmp_path / "out").mkdir()
    (repository.root / "knowledge").symlink_to(tmp_path / "out")
    with pytest.raises(TaxonomyError, match="knowledge: this is a link, not a folder"):
        add_files(repository.root, "knowledge/places/x", {"qna.yaml": ""})
    assert not list((tmp_path / "out").iterdir())


def test_of_a_leaf_that_cannot_be_written_whole_nothing_stays(repository):
    with pytest.raises(TaxonomyError, match="the leaf cannot be written"):
        add_files(repository.root, "knowledge/x", {"qna.yaml": "", f"{'a' * 252}.md": ""})
    assert not list((repository.root / "knowledge/x").iterdir())


def test_a_repository_of_sha256_objects_takes_commits(tmp_path):
    subprocess.run(["git", "init", "-q", "--object-format=sha256", str(tmp_path)], check=True)
    init_repository(tmp_path)
    first = commit_files(tmp_path, [tmp_path / ".gitignore"], "First")
    assert (len(first), commit_files(tmp_path, [tmp_path / ".gitignore"], "Again")) == (64, first)


def add_leaf(root, kind, leaf_id, *documents, created_by=""):
    return write_leaf(root, plan_leaf(root, kind, leaf_id, documents), created_by=created_by)


def gaps(repository) -> set[str]:
    return {f"{finding.path.rsplit('/', 1)[-1]} {finding.code}" for finding in lint(WorkingTree(repository.root))}


@pytest.mark.parametrize("kind", ["knowledge", "skill", "grounded_skill"])
def test_a_scaffold_names_its_gaps_until_they_are_filled(repository, kind):
    paths = add_leaf(repository.root, kind, "things/new_one", created_by="ada")
    leaf_id = full_leaf_id(kind, "things/new_one")
    qna = repository.root / leaf_id / "qna.yaml"
    assert paths == [qna, qna.parent / "attribution.txt"]
    document = {"qna.yaml E122"} if kind == "knowledge" else set()
    assert gaps(repository) - document == {"qna.yaml E106", "attribution.txt E132"}
    for number in range(qna.read_text().count(': ""')):
        qna.write_text(qna.read_text().replace(': ""', f": text {number}", 1))
    owned = qna.parent / "attribution.txt"
    owned.write_text(owned.read_text().replace("work:\n", "work: MIT\n"))
    assert gaps(repository) == document
    if kind == "knowledge":
        (qna.parent / "new_one.md").write_text("# New one\n")
    assert lint(WorkingTree(repository.root)) == []
    assert read_leaf(WorkingTree(repository.root), leaf_id).kind == kind


def test_a_document_is_copied_beside_the_leaf(repository, tmp_path):
    document = tmp_path / "My page [1].md"
    document.write_text("# Bridge\n")
    add_leaf(repository.root, "knowledge", "knowledge/places/bridge/", document)
    folder = repository.root / "knowledge/places/bridge"
    assert (folder / "My page [1].md").read_text() == "# Bridge\n"
    assert yaml.safe_load((folder / "qna.yaml").read_text())["document"] == {"files": ["My page [1].md"]}
    assert gaps(repository) == {"qna.yaml E106", "attribution.txt E132"}


def test_several_documents(repository, tmp_path):
    files = [tmp_path / name for name in ("a.md", "b.txt")]
    for file in files:
        file.write_text("text")
    paths = add_leaf(repository.root, "knowledge", "bridge", *files)
    assert [path.name for path in paths] == ["qna.yaml", "a.md", "b.txt", "attribution.txt"]
    (tmp_path / "c").mkdir()
    (tmp_path / "c/a.md").write_text("text")
    with pytest.raises(TaxonomyError, match=r"^a\.md: two documents have this name; rename one, or name it once$"):
        plan_leaf(repository.root, "knowledge", "tower", [*files, tmp_path / "c/a.md"])


def test_the_schema_is_written_once_and_found_from_the_leaf(repository):
    [schema] = write_schema(repository.root)
    assert write_schema(repository.root) == []
    qna = add_leaf(repository.root, "skill", "a/b")[0]
    named = qna.read_text().splitlines()[0].partition("$schema=")[2]
    assert (qna.parent / named).resolve() == schema.resolve()
    assert json.loads(schema.read_text())


def test_the_author_is_who_git_says(repository):
    assert author_name(repository.root) == ""
    repository.git.git.config("user.name", "Ada Ö.")
    assert author_name(repository.root) == "Ada Ö."


def test_a_document_that_is_in_its_place_already_stays_there(repository):
    document = repository.write("knowledge/bridge/page.md", "# Bridge\n")
    paths = add_leaf(repository.root, "knowledge", "bridge", document)
    assert [path.name for path in paths] == ["qna.yaml", "attribution.txt"]
    assert document.read_text() == "# Bridge\n"


def test_nothing_is_overwritten_and_a_refusal_writes_nothing(repository, tmp_path):
    folder = repository.root / "knowledge/bridge"
    repository.write("knowledge/bridge/attribution.txt", "mine")
    with pytest.raises(TaxonomyError, match=r"knowledge/bridge/attribution\.txt: the file is there already"):
        add_leaf(repository.root, "knowledge", "bridge")
    assert [path.name for path in folder.iterdir()] == ["attribution.txt"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.epub", b"x", "cannot be read; use one of: .md, .markdown, .txt"),
        ("attribution.txt", b"x", "this name is taken by the leaf's own file"),
        ("a.md", None, "there is no such document"),
        ("a.md", b"\xff", "UTF-8"),
        ("a.md", b" \n", "is empty; write it"),
    ],
)
def test_a_document_that_cannot_be_used_is_refused(repository, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TaxonomyError, match=message):
        add_leaf(repository.root, "knowledge", "bridge", tmp_path / name)
    assert not (repository.root / "knowledge").exists()


@pytest.mark.parametrize(
    ("kind", "leaf_id", "message"),
    [
        ("knowledge", "Places/bridge", "did you mean 'places'?"),
        ("knowledge", "places/old-bridge", "did you mean 'old_bridge'?"),
        ("skill", "sayHello", "did you mean 'say_hello'?"),
        ("knowledge", "../outside", "must be lower case letters"),
        ("knowledge", "knowledge", "names no folder for the leaf; write it like science/animals/birds"),
        ("knowledge", "", "the path '' names no folder for the leaf"),
        ("knowledge", " ", "' ' must be lower case letters, digits and _; write it like science/animals/birds"),
        ("knowledge", "x" * 300, "a folder's name has 300 letters; choose one with 100 at most"),
        ("skill", "knowledge/x", "a skill leaf belongs below compositional_skills/, not knowledge/; leave know"),
        ("knowledge", "foundational_skills/x", "a knowledge leaf belongs below knowledge/, not foundational_skills/"),
    ],
)
def test_a_bad_id_is_refused_with_a_better_one(repository, kind, leaf_id, message):
    with pytest.raises(TaxonomyError) as caught:
        add_leaf(repository.root, kind, leaf_id)
    assert message in str(caught.value)


def test_what_is_no_plain_file_is_not_read(repository, tmp_path):
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "endless.md").symlink_to("/dev/zero")
    for name in ("pipe.md", "endless.md"):
        with pytest.raises(TaxonomyError, match=f"{name}: this is no plain file; name a document"):
            add_leaf(repository.root, "knowledge", "things/new_one", tmp_path / name)


def test_a_commit_holds_exactly_the_files_and_needs_no_configured_author(repository):
    repository.write("other.txt", "staged")
    repository.git.git.add("other.txt")
    repository.write("loose.txt", "untracked")
    paths = add_files(repository.root, SECOND_KNOWLEDGE, starter_files(SECOND_KNOWLEDGE))
    sha = commit_files(repository.root, paths, "Add the zellophar")
    assert sha == repository.git.head.commit.hexsha
    assert CommitTree(repository.root, sha).files() == sorted(
        path.relative_to(repository.root).as_posix() for path in paths
    )
    commit = repository.git.head.commit
    assert (commit.message, str(commit.author), commit.author.email) == (
        "Add the zellophar\n",
        "tilth",
        "tilth@localhost",
    )
    assert _status(repository.root) == "A  other.txt\n?? loose.txt\n"


def test_a_configured_author_is_kept(repository):
    repository.git.git.config("user.name", "Ada")
    repository.git.git.config("user.email", "ada@x.org")
    commit_files(repository.root, [repository.write("a.txt", "a")], "a")
    commit = repository.git.head.commit
    assert (commit.author.name, commit.author.email, commit.committer.name) == ("Ada", "ada@x.org", "Ada")


def test_committing_again_makes_no_second_commit(repository):
    path = repository.write("[a].txt", "a")
    first = commit_files(repository.root, [path], "one")
    assert commit_files(repository.root, [path], "two") == first
    path.write_text("b")
    repository.write("a.txt", "matches the pattern")
    assert commit_files(repository.root, [path], "three") != first
    assert _status(repository.root) == "?? a.txt\n"


def test_a_refusal_of_git_is_one_line(repository):
    repository.write(".gitignore", "*.log\n")
    with pytest.raises(TaxonomyError, match=r"^[^\n]*git: [^\n]*$"):
        commit_files(repository.root, [repository.write("x.log", "x")], "x")


def _status(root) -> str:
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
