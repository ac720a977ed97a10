from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from git import Repo
from tilth.core.config import Documents
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.documents import Document, load_documents
from tilth.taxonomy.leaf import DocumentSpec, Leaf, read_leaf
from tilth.taxonomy.source import WorkingTree

LEAF = "knowledge/bridge"


@pytest.fixture
def load(repository, knowledge, tmp_path):
    """Loads the documents of a leaf whose `document` is what is given."""

    def load(document: dict[str, Any], *, allow_local: bool = True) -> tuple[Document, ...]:
        repository.write(f"{LEAF}/qna.yaml", {**knowledge, "document": document})
        source = WorkingTree(repository.root)
        settings = Documents(allow_local=allow_local)
        return load_documents(read_leaf(source, LEAF), source, tmp_path / "cache", settings)

    return load


@pytest.fixture
def library(tmp_path) -> Any:
    """Another repository, with a document in two states, a link out of it, and a hook that must never run."""
    repo = Repo.init(tmp_path / "library", initial_branch="main")
    root = Path(repo.working_dir)
    (root / "docs").mkdir()
    (root / "docs/bridge.md").write_bytes(b"\xef\xbb\xbfold\r\ntext\r")
    (root / "docs/tool.exe").write_bytes(b"MZ")
    (root / "docs/link.md").symlink_to("/etc/hostname")
    _commit(repo)
    return repo


def _commit(repo: Repo) -> str:
    repo.git.add("--all")
    repo.git.execute(["git", "-c", "user.name=ada", "-c", "user.email=ada@x", "commit", "-qm", "work"])
    return repo.head.commit.hexsha


def test_files_of_the_taxonomy_are_read_in_the_order_of_the_entries(repository, load):
    for name in ("a.md", "b.txt", "c.md"):
        repository.write(f"{LEAF}/{name}", f"{name}\r\n")
    found = load({"files": ["b.txt", "*.md"]})
    assert [(document.path, document.text) for document in found] == [
        (f"{LEAF}/{name}", f"{name}\n") for name in ("b.txt", "a.md", "c.md")
    ]


def test_a_skill_has_no_documents(repository, skill, tmp_path):
    repository.write("compositional_skills/x/qna.yaml", skill)
    source = WorkingTree(repository.root)
    assert load_documents(read_leaf(source, "compositional_skills/x"), source, tmp_path) == ()


def test_documents_of_another_repository_are_those_of_the_commit(load, library):
    first = library.head.commit.hexsha
    document = {"repo": library.working_dir, "commit": first, "patterns": ["docs/*.md", "docs/bridge.md"]}
    assert load(document) == (Document(path="docs/bridge.md", text="old\ntext\n"),)
    (Path(library.working_dir) / "docs/bridge.md").write_text("new")
    second = _commit(library)
    assert load({**document, "commit": second})[0].text == "new"
    assert load({**document, "commit": first[:10]})[0].text == "old\ntext\n"


def test_a_commit_that_was_fetched_needs_no_repository_any_more(load, library, tmp_path):
    document = {"repo": library.working_dir, "commit": library.head.commit.hexsha, "patterns": ["docs/*.md"]}
    before = load(document)
    Path(library.working_dir).rename(tmp_path / "gone")
    (tmp_path / "library").mkdir()
    (tmp_path / "library/HEAD").touch()
    assert load(document) == before
    with pytest.raises(TaxonomyError, match=r"^[^\n]*library: git: fatal: [^\n]*$"):
        load({**document, "commit": "0" * 40})


def test_a_path_where_nothing_is_is_told(load, tmp_path):
    with pytest.raises(TaxonomyError, match=r"^[^\n]*nowhere: there is no such folder$"):
        load({"repo": str(tmp_path / "nowhere"), "commit": "0" * 40, "patterns": ["*.md"]})
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"commit": "0" * 40}, "library: the repository has no such commit; mend document.commit"),
        ({"commit": "main"}, "'main' is no commit; write the commit's hash"),
        ({"commit": "--upload-pack=x"}, "'--upload-pack=x' is no commit"),
        ({"patterns": ["docs/*.md", "docs/*.txt"]}, r"no file matches 'docs/\*.txt' in"),
        ({"patterns": ["docs/link.md"]}, "no file matches 'docs/link.md'"),
        ({"patterns": ["docs/*.exe"]}, "docs/tool.exe: the document cannot be read; use one of: .md,"),
    ],
)
def test_what_the_other_repository_has_not_is_told(load, library, changed, message):
    document = {"repo": library.working_dir, "commit": library.head.commit.hexsha, "patterns": ["docs/*.md"]}
    with pytest.raises(TaxonomyError, match=message):
        load({**document, **changed})


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_repository_of_this_machine_is_fetched_from_if_that_is_allowed(load, library, tmp_path, scheme):
    commit = library.head.commit.hexsha
    document = {"repo": f"{scheme}{library.working_dir}", "commit": commit, "patterns": ["docs/*.md"]}
    with pytest.raises(TaxonomyError, match="paths of this machine are not allowed"):
        load(document, allow_local=False)
    assert load(document)[0].text == "old\ntext\n"
    (mirror,) = (tmp_path / "cache").glob("*.git")
    assert (mirror / "shallow").read_text().split() == [commit]


def test_a_folder_is_read_while_its_content_is_as_the_leaf_says(load, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.md").write_text("a")
    (folder / "b.html").write_text("<h1>b</h1>")
    (folder / "c.txt").write_text("not named")
    document = {"repo": str(folder), "commit": "0000000", "patterns": ["*.md", "*.html"]}
    with pytest.raises(
        TaxonomyError, match=r"qna.yaml: the documents in .*folder are others than .* was written; write"
    ) as told:
        load(document)
    document["commit"] = re.search(r"`commit: (\w+)`", str(told.value))[1]
    assert [(each.path, each.text) for each in load(document)] == [("a.md", "a"), ("b.html", "# b\n")]
    (folder / "c.txt").write_text("changed")
    assert len(load(document)) == 2
    (folder / "a.md").write_text("changed")
    with pytest.raises(TaxonomyError, match="others than when"):
        load(document)


def test_formats_may_be_mixed(repository, load):
    repository.write(f"{LEAF}/a.md", "# One\n")
    repository.write(f"{LEAF}/b.txt", "Two")
    repository.write(f"{LEAF}/c.HTM", "<p>Three")
    found = load({"files": ["a.md", "b.txt", "c.HTM"]})
    assert [each.text for each in found] == ["# One\n", "Two", "Three\n"]


def test_documents_are_hidden_from_a_leaf_that_was_made_by_hand(tmp_path):
    """`load_documents` trusts no path of a spec, whoever made the leaf."""
    (tmp_path / "secret.md").write_text("secret")
    (tmp_path / "root" / LEAF).mkdir(parents=True)
    leaf = Leaf.model_construct(id=LEAF, documents=DocumentSpec(files=("../../../secret.md",)))
    assert load_documents(leaf, WorkingTree(tmp_path / "root"), tmp_path) == ()
