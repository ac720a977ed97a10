from __future__ import annotations

import shutil

import pytest
import yaml
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.changes import Changes, changes
from tilth.taxonomy.source import CommitTree, WorkingTree

BRIDGE, HELLO, BYE = "knowledge/bridge", "compositional_skills/hello", "compositional_skills/bye"


@pytest.fixture
def base(repository, knowledge, skill):
    repository.write(f"{BRIDGE}/qna.yaml", knowledge)
    repository.write(f"{BRIDGE}/bridge.md", "# Bridge\n")
    repository.write(f"{HELLO}/qna.yaml", skill)
    repository.commit()
    return CommitTree(repository.root, "HEAD")


def since(base, repository) -> Changes:
    return changes(base, WorkingTree(repository.root))


def test_against_nothing_all_is_added(base, repository):
    assert changes(None, base) == Changes(added=(HELLO, BRIDGE))


def test_the_same_tree_has_no_changes(base, repository):
    found = since(base, repository)
    assert found == Changes(unchanged=(HELLO, BRIDGE))
    assert not found


def test_reformatting_is_no_change(base, repository, skill):
    text = "# tidy\n" + yaml.safe_dump({**skill, "version": 3}, default_style='"').replace('!!int "3"', "3")
    repository.write(f"{HELLO}/qna.yaml", text)
    assert not since(base, repository)


def test_edits_new_leaves_and_deletions_are_seen_before_they_are_committed(base, repository, skill):
    repository.write(f"{BRIDGE}/bridge.md", "# Bridge\n\nIt fell.\n")
    shutil.rmtree(repository.root / HELLO)
    skill["task_description"] = "Take leave."
    repository.write(f"{BYE}/qna.yaml", skill)
    found = since(base, repository)
    assert found == Changes(added=(BYE,), modified=(BRIDGE,), removed=(HELLO,))
    assert found


def test_another_folder_is_a_move(base, repository):
    (repository.root / "knowledge/spans").mkdir()
    (repository.root / BRIDGE).rename(repository.root / "knowledge/spans/old_bridge")
    assert since(base, repository) == Changes(moved=((BRIDGE, "knowledge/spans/old_bridge"),), unchanged=(HELLO,))


def test_a_copy_is_added_and_of_two_copies_one_is_moved(base, repository):
    shutil.copytree(repository.root / HELLO, repository.root / BYE)
    assert since(base, repository) == Changes(added=(BYE,), unchanged=(HELLO, BRIDGE))
    (repository.root / HELLO).rename(repository.root / "compositional_skills/hi")
    found = since(base, repository)
    assert found == Changes(added=("compositional_skills/hi",), moved=((HELLO, BYE),), unchanged=(BRIDGE,))


def test_a_mistake_in_the_base_is_a_change_and_one_in_the_head_an_error(repository, skill):
    repository.write(f"{HELLO}/qna.yaml", "version: 9\n")
    repository.commit()
    broken = CommitTree(repository.root, "HEAD")
    repository.write(f"{HELLO}/qna.yaml", skill)
    assert since(broken, repository) == Changes(modified=(HELLO,))
    with pytest.raises(TaxonomyError, match=r"hello/qna\.yaml:1:1: version 9 is unknown"):
        changes(None, broken)
