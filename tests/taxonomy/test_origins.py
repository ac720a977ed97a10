from __future__ import annotations

from pathlib import Path

import pytest
from tilth.core.config import Documents
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.contribute import plan_leaf
from tilth.taxonomy.documents import remote_refs
from tilth.taxonomy.leaf import DocumentSpec
from tilth.taxonomy.origins import _split, read_origins

from .conftest import Repository

SHA = "0123456789abcdef0123456789abcdef01234567"
PUBLIC = Documents()


def test_files_are_files() -> None:
    assert read_origins(["a.md", "/b/c d.md", "C.md"], PUBLIC) == (
        (Path("a.md"), Path("/b/c d.md"), Path("C.md")),
        None,
    )
    assert read_origins([], PUBLIC) == ((), None)


@pytest.mark.parametrize(
    ("page", "repo"),
    [
        (f"https://forge.example/ada/bridges/blob/{SHA}/docs/a%20b.md", "https://forge.example/ada/bridges"),
        (f"https://forge.example/ada/bridges/raw/{SHA}/docs/a%20b.md?plain=1#L3", "https://forge.example/ada/bridges"),
        (f"https://lab.example/group/sub/bridges/-/blob/{SHA}/docs/a%20b.md", "https://lab.example/group/sub/bridges"),
        (f"https://tea.example/ada/bridges/src/commit/{SHA}/docs/a%20b.md", "https://tea.example/ada/bridges"),
    ],
)
def test_a_page_at_a_commit_needs_no_server(page: str, repo: str) -> None:
    assert read_origins([page], PUBLIC).remote == DocumentSpec(repo=repo, commit=SHA, patterns=("docs/a b.md",))


def test_several_pages_of_one_commit() -> None:
    pages = [f"https://forge.example/ada/bridges/blob/{SHA}/{name}.md" for name in "aba"]
    remote = read_origins(pages, PUBLIC).remote
    assert remote
    assert remote.patterns == ("a.md", "b.md")


def test_what_head_and_branches_are_is_asked_of_the_server(repository: Repository) -> None:
    repository.write("docs/a.md", "# A\n")
    old = repository.commit()
    repository.git.git.branch("feature/new")
    repository.git.git.execute(["git", "-c", "user.name=a", "-c", "user.email=a", "tag", "-a", "-m", "t", "v1"])
    repository.write("docs/b.md", "# B\n")
    new = repository.commit()
    local = Documents(allow_local=True)
    url = f"file://{repository.root}/.git"
    assert read_origins([f"{url}#docs/*.md"], local).remote == DocumentSpec(
        repo=url, commit=new, patterns=("docs/*.md",)
    )
    refs = remote_refs(url, local)
    assert _split("", "main/docs/b.md", refs) == (new, "docs/b.md")
    assert _split("", "feature/new/docs/a.md", refs) == (old, "docs/a.md")
    assert _split("", "v1/docs/a.md", refs) == (old, "docs/a.md")
    with pytest.raises(TaxonomyError, match="no branch or tag 'old'"):
        _split("x", "old/docs/a.md", refs)


@pytest.mark.parametrize(
    ("origins", "message"),
    [
        (
            ["https://en.wikipedia.org/wiki/Fern"],
            "this is not the address of a file in a git repository; save the page",
        ),
        (
            ["https://forge.example/ada/bridges.git"],
            "not a document; add a path or a pattern: https://forge.example/ada",
        ),
        (["git@forge.example:ada/bridges"], "this is not the address of a file"),
        (["a.md", f"https://forge.example/ada/bridges/blob/{SHA}/a.md"], "either files or documents of a repository"),
        ([f"https://x.example/a/{name}/blob/{SHA}/a.md" for name in "bc"], "several repositories or commits"),
        (["file:///srv/a.git#a.md"], "paths of this machine are not allowed"),
        (["ext::sh -c id"], "cannot be read; use one of: .md"),
    ],
)
def test_what_is_no_document_is_refused(origins: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError) as caught:
        plan_leaf(tmp_path, "knowledge", "a", *read_origins(origins, PUBLIC))
    assert message in str(caught.value)
