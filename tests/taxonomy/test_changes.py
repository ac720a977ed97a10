from __future__ import annotations

import shutil

import pytest
import yaml
from tilth.taxonomy.changes import Changes, Modified, Unreadable, changed_leaves, changes
from tilth.taxonomy.source import CommitTree, EmptyTree, WorkingTree

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
    assert changes(EmptyTree(), base) == Changes(added=(HELLO, BRIDGE))


def test_the_same_tree_has_no_changes(base, repository):
    found = since(base, repository)
    assert found == Changes(unchanged=(HELLO, BRIDGE))
    assert not found


def test_the_leaves_of_a_commit_that_another_has_not_or_has_otherwise(base, repository, skill):
    repository.write(f"{BYE}/qna.yaml", {**skill, "task_description": "Say goodbye."})
    repository.write(f"{BRIDGE}/bridge.md", "# Bridge\n\nIt fell.\n")
    (repository.root / HELLO).rename(repository.root / "compositional_skills/greet")
    repository.commit()
    assert changed_leaves(repository.root, base.commit) == (BYE, BRIDGE)
    assert changed_leaves(repository.root, base.commit, base.commit) == ()


def test_reformatting_is_no_change(base, repository, skill):
    text = "# tidy\n" + yaml.safe_dump({**skill, "version": 3}, default_style='"').replace('!!int "3"', "3")
    repository.write(f"{HELLO}/qna.yaml", text)
    assert not since(base, repository)


def test_a_checkout_with_other_line_ends_has_no_changes(base, repository):
    """As core.autocrlf leaves one; broken leaves and attributions too."""
    repository.write(f"{HELLO}/attribution.txt", "Title of work: a\n")
    repository.write(f"{BYE}/qna.yaml", "version: 9\n")
    repository.commit()
    committed = CommitTree(repository.root, "HEAD")
    for path in committed.files():
        repository.write(path, committed.read(path).replace(b"\n", b"\r\n"))
    assert since(committed, repository) == Changes(unchanged=(BYE, HELLO, BRIDGE))
    repository.write(f"{BRIDGE}/bridge.md", "# Bridge\r\n\r\nIt fell.\r\n")
    found = since(committed, repository)
    assert found.modified == (Modified(leaf=BRIDGE, files=("bridge.md",)),)
    (repository.root / BRIDGE).rename(repository.root / "knowledge/spans")
    repository.write("knowledge/spans/bridge.md", "# Bridge\r\n")
    assert since(committed, repository).moved == ((BRIDGE, "knowledge/spans"),)


def test_edits_new_leaves_and_deletions_are_seen_before_they_are_committed(base, repository, skill):
    repository.write(f"{BRIDGE}/bridge.md", "# Bridge\n\nIt fell.\n")
    shutil.rmtree(repository.root / HELLO)
    skill["seed_examples"] = [{"question": f"Leave {name}.", "answer": f"Bye, {name}."} for name in "ABCDE"]
    repository.write(f"{BYE}/qna.yaml", skill)
    found = since(base, repository)
    assert found == Changes(added=(BYE,), modified=(Modified(leaf=BRIDGE, files=("bridge.md",)),), removed=(HELLO,))
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


def test_a_leaf_that_moved_and_was_edited_is_one_leaf(base, repository, skill):
    (repository.root / HELLO).rename(repository.root / BYE)
    skill["seed_examples"][0]["answer"] = "Good day, A."
    skill["seed_examples"][1]["question"] = "Welcome B."
    repository.write(f"{BYE}/qna.yaml", skill)
    found = since(base, repository)
    assert found == Changes(modified=(Modified(leaf=BYE, moved_from=HELLO, files=("qna.yaml",)),), unchanged=(BRIDGE,))


def test_a_leaf_with_other_questions_is_another_leaf(base, repository, skill):
    shutil.rmtree(repository.root / HELLO)
    for number, seed in enumerate(skill["seed_examples"][:3]):
        seed["question"] = f"Take leave of {number}."
    repository.write(f"{BYE}/qna.yaml", skill)
    assert since(base, repository) == Changes(added=(BYE,), removed=(HELLO,), unchanged=(BRIDGE,))


def test_what_changed_in_a_leaf_is_told(base, repository, knowledge):
    knowledge["document"]["files"] += ["/docs/*.md"]
    repository.write(f"{BRIDGE}/qna.yaml", knowledge)
    repository.write("docs/pier.md", "# Pier\n")
    repository.write(f"{BRIDGE}/attribution.txt", "Title of work: Bridge\n")
    (told,) = since(base, repository).modified
    assert told == Modified(leaf=BRIDGE, files=("/docs/pier.md", "attribution.txt", "qna.yaml"))
    repository.commit()
    second = CommitTree(repository.root, "HEAD")
    repository.write("docs/pier.md", "# Pier\n\nOf stone.\n")
    repository.write(f"{BRIDGE}/qna.yaml", "# tidy\n" + yaml.safe_dump(knowledge))
    assert since(second, repository).modified == (Modified(leaf=BRIDGE, files=("/docs/pier.md",)),)


def test_another_attribution_is_told_and_no_change_of_the_leaf(base, repository):
    repository.write(f"{HELLO}/attribution.txt", "Title of work: Hello\n")
    assert since(base, repository) == Changes(unchanged=(HELLO, BRIDGE), attributed=(HELLO,))
    (repository.root / HELLO).rename(repository.root / BYE)
    assert since(base, repository) == Changes(moved=((HELLO, BYE),), unchanged=(BRIDGE,), attributed=(BYE,))


def test_names_that_differ_by_a_slash_do_not_collide(repository, skill):
    names = [f"compositional_skills/{name}" for name in ("A/b", "a/b", "a/b_c", "a_b", "a_b/c")]
    for name in names[:3]:
        repository.write(f"{name}/qna.yaml", {**skill, "task_description": name})
    repository.commit()
    base = CommitTree(repository.root, "HEAD")
    for name in names:
        repository.write(f"{name}/qna.yaml", {**skill, "task_description": f"New: {name}"})
    found = since(base, repository)
    assert [each.leaf for each in found.modified] == names[:3]
    assert found.added == tuple(names[3:])


def test_a_mistake_stops_nothing(repository, skill, base):
    repository.write(f"{HELLO}/qna.yaml", "version: 9\n")
    shutil.rmtree(repository.root / BRIDGE)
    found = since(base, repository)
    reason = f"{HELLO}/qna.yaml:1:1: version 9 is unknown; use 1 or 2 or 3 or 4"
    assert found == Changes(removed=(BRIDGE,), unreadable=(Unreadable(leaf=HELLO, reason=reason),))
    assert found
    repository.commit()
    broken = CommitTree(repository.root, "HEAD")
    assert since(broken, repository) == Changes(unchanged=(HELLO,))
    repository.write(f"{HELLO}/qna.yaml", "version: 8\n")
    assert [each.leaf for each in since(broken, repository).unreadable] == [HELLO]
    repository.write(f"{HELLO}/qna.yaml", skill)
    assert since(broken, repository) == Changes(modified=(Modified(leaf=HELLO, files=("qna.yaml",)),))
    (repository.root / HELLO).rename(repository.root / BYE)
    assert since(broken, repository) == Changes(added=(BYE,), removed=(HELLO,))
