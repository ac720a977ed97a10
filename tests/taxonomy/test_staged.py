"""Git's index as a tree, and what of it a commit would change."""

from __future__ import annotations

import subprocess

import pytest
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.lint import lint, touched
from tilth.taxonomy.source import CommitTree, EmptyTree, IndexTree

GREET, BRIDGE = "compositional_skills/greet", "knowledge/bridge"


@pytest.fixture
def taxonomy(repository, skill, knowledge):
    repository.write(f"{GREET}/qna.yaml", skill)
    repository.write(f"{GREET}/attribution.txt", "x")
    repository.write(f"{BRIDGE}/qna.yaml", {**knowledge, "document": {"files": ["/docs/*.md"]}})
    repository.write("docs/bridge.md", "A bridge.")
    repository.commit()
    return repository


def staged(repository) -> list[str]:
    repository.git.git.add("--all")
    return touched(CommitTree(repository.root, "HEAD"), IndexTree(repository.root))


def test_the_index_is_read_whatever_the_folder_holds(taxonomy):
    place = taxonomy.write(f"{GREET}/qna.yaml", "staged")
    taxonomy.git.git.add("--all")
    place.write_text("later")
    tree = IndexTree(taxonomy.root)
    assert tree.read(f"{GREET}/qna.yaml") == b"staged"
    assert list(tree.files()) == list(CommitTree(taxonomy.root, "HEAD").files())
    with pytest.raises(TaxonomyError, match="missing: there is no such file in git's index"):
        tree.read("missing")


def test_links_and_what_is_to_be_added_later_are_no_files(taxonomy):
    taxonomy.write("later.txt", "later")
    taxonomy.git.git.add("--intent-to-add", "later.txt")
    (taxonomy.root / "link").symlink_to("docs/bridge.md")
    taxonomy.git.git.add("link")
    tree = IndexTree(taxonomy.root)
    assert tree.others() == {"link": "link"}
    assert not {"later.txt", "link"} & set(tree.files())


def test_a_merge_that_is_not_done_is_told(taxonomy):
    blobs = [taxonomy.git.git.hash_object("-w", str(taxonomy.write("x", text))) for text in ("a", "b")]
    lines = "".join(f"100644 {blob} {stage}\tdocs/bridge.md\n" for stage, blob in enumerate(blobs, start=2))
    command = ["git", "update-index", "--index-info"]
    subprocess.run(command, cwd=taxonomy.root, input=f"0 {'0' * 40}\tdocs/bridge.md\n{lines}".encode(), check=True)
    with pytest.raises(
        TaxonomyError, match=r"docs/bridge\.md: a merge is not done here; mend the file, then `git add`"
    ):
        IndexTree(taxonomy.root).files()


def test_the_index_of_the_commit_that_is_being_made_is_read(taxonomy, monkeypatch):
    taxonomy.write("docs/new.md", "New.")
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/next-index-7.lock")
    assert "docs/new.md" not in IndexTree(taxonomy.root).files()  # there is none of that name, so it was not meant
    subprocess.run(["git", "add", "docs/new.md"], cwd=taxonomy.root, check=True)
    assert list(IndexTree(taxonomy.root).files()) == ["docs/new.md"]


def test_the_index_of_another_repository_is_refused(taxonomy, tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", str(tmp_path / "other")], check=True)
    (tmp_path / "other/.git/index").write_bytes((taxonomy.root / ".git/index").read_bytes())
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))
    with pytest.raises(TaxonomyError, match=r"^GIT_INDEX_FILE names .* not in this repository's .*; unset it$"):
        IndexTree(taxonomy.root).files()


@pytest.mark.parametrize(
    ("path", "text", "leaves"),
    [
        ("README.md", "new", []),
        (f"{GREET}/notes.bin", "new", []),
        (f"{GREET}/attribution.txt", "y", [GREET]),
        (f"{GREET}/qna.yaml", "x", [GREET]),
        ("docs/bridge.md", "Another.", [BRIDGE]),
        ("knowledge/new/qna.yaml", "x", ["knowledge/new"]),
        ("knowledge/new/qna.yml", "x", ["knowledge/new/qna.yml"]),
        (f"{GREET}/attribution.txt", None, [GREET]),
        ("docs/bridge.md", None, [BRIDGE]),
        (f"{GREET}/qna.yaml", None, []),
    ],
)
def test_a_leaf_is_touched_by_its_own_files(taxonomy, path, text, leaves):
    if text is None:
        (taxonomy.root / path).unlink()
    else:
        taxonomy.write(path, text)
    assert staged(taxonomy) == leaves


def test_an_old_fault_is_not_touched_by_files_that_it_might_name(taxonomy, knowledge):
    broken = {**knowledge, "document": {"files": ["/docs/*.md", "/none.md"]}}
    taxonomy.write("knowledge/old/qna.yaml", broken)
    taxonomy.commit()
    taxonomy.write("docs/more.md", "More.")
    assert staged(taxonomy) == [BRIDGE]


def test_a_new_link_in_place_of_a_leaf_is_linted_and_an_old_one_is_not(taxonomy):
    for name in ("old", "new"):
        place = taxonomy.root / "knowledge" / name / "qna.yaml"
        place.parent.mkdir()
        place.symlink_to("../bridge/qna.yaml")
        if name == "old":
            taxonomy.commit()
    paths = staged(taxonomy)
    assert paths == ["knowledge/new/qna.yaml"]
    found = lint(IndexTree(taxonomy.root), paths)
    assert [(finding.code, finding.path) for finding in found] == [("E113", paths[0])]


def test_before_the_first_commit_every_leaf_is_touched(repository, skill):
    repository.write(f"{GREET}/qna.yaml", skill)
    repository.git.git.add("--all")
    assert touched(EmptyTree(), IndexTree(repository.root)) == [GREET]
