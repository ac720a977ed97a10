from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from git import Repo
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
        return load_documents(read_leaf(source, LEAF), source, tmp_path / "cache", allow_local=allow_local)

    return load


@pytest.fixture
def library(tmp_path) -> Any:
    """Another repository, with a document in two states, a link out of it, and a hook that must never run."""
    repo = Repo.init(tmp_path / "library", initial_branch="main")
    root = Path(repo.working_dir)
    (root / "docs").mkdir()
    (root / "docs/bridge.md").write_bytes(b"\xef\xbb\xbfold\r\ntext\r")
    (root / "docs/scan.pdf").write_bytes(b"%PDF")
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
    assert load(document) == before
    with pytest.raises(TaxonomyError, match=r"^[^\n]*library: git: fatal: [^\n]*$"):
        load({**document, "commit": "0" * 40})


def test_a_repository_that_cannot_be_reached_leaves_nothing_behind(load, tmp_path):
    with pytest.raises(TaxonomyError, match=r"^[^\n]*nowhere: git: fatal: [^\n]*$"):
        load({"repo": str(tmp_path / "nowhere"), "commit": "0" * 40, "patterns": ["*.md"]})
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"commit": "0" * 40}, "there is no commit '0000000"),
        ({"commit": "main"}, "'main' is no commit; write the commit's hash"),
        ({"commit": "--upload-pack=x"}, "'--upload-pack=x' is no commit"),
        ({"patterns": ["docs/*.md", "docs/*.txt"]}, r"no file matches 'docs/\*.txt' in"),
        ({"patterns": ["docs/link.md"]}, "no file matches 'docs/link.md'"),
        ({"patterns": ["docs/*.pdf"]}, "docs/scan.pdf: documents of this format cannot be read; use one of: .md,"),
    ],
)
def test_what_the_other_repository_has_not_is_told(load, library, changed, message):
    document = {"repo": library.working_dir, "commit": library.head.commit.hexsha, "patterns": ["docs/*.md"]}
    with pytest.raises(TaxonomyError, match=message):
        load({**document, **changed})


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c 'touch /tmp/x'",
        "--upload-pack=touch /tmp/x",
        "-oProxyCommand=x",
        "file:///etc",
        "/etc",
        "../library",
        "http://x.org/y.git",
        "git://x.org/y.git",
        "https://",
        "https://[x/y",
        "https://x.org/y z",
        "https://x.org/y\nz",
        "ssh://-oProxyCommand=x/y",
        "git@-x:y",
        "git@x.org:-y",
        "git@x.org::y",
        "fd::17",
    ],
)
def test_other_transports_are_refused_before_anything_runs(load, tmp_path, url):
    with pytest.raises(TaxonomyError, match=r"^knowledge/bridge/qna.yaml: the repository .* is not allowed; use https"):
        load({"repo": url, "commit": "0" * 40, "patterns": ["*.md"]}, allow_local=False)
    assert not (tmp_path / "cache").exists()


def test_a_key_in_the_address_is_refused_and_not_repeated(load):
    with pytest.raises(TaxonomyError, match="holds a user name or a key; remove it") as caught:
        load({"repo": "https://ada:hunter2@x.org/y.git", "commit": "0" * 40, "patterns": ["*.md"]})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://127.0.0.1:1/y.git", "ssh://git@127.0.0.1:1/y.git"])
def test_allowed_addresses_reach_git_and_its_refusal_is_one_line(load, url):
    with pytest.raises(TaxonomyError, match=r"^[^\n]*y.git: git: [^\n]*$"):
        load({"repo": url, "commit": "0" * 40, "patterns": ["*.md"]}, allow_local=False)


def test_documents_are_hidden_from_a_leaf_that_was_made_by_hand(tmp_path):
    """`load_documents` trusts no path of a spec, whoever made the leaf."""
    (tmp_path / "secret.md").write_text("secret")
    (tmp_path / "root" / LEAF).mkdir(parents=True)
    leaf = Leaf.model_construct(id=LEAF, documents=DocumentSpec(files=("../../../secret.md",)))
    assert load_documents(leaf, WorkingTree(tmp_path / "root"), tmp_path) == ()
