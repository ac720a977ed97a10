from __future__ import annotations

import pytest
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.leaf import read_leaf
from tilth.taxonomy.migrate import migrated
from tilth.taxonomy.qna import LeafProblems
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.tree import leaf_ids

SKILL = """\
# A skill.
created_by: ada
task_description: Greet.
seed_examples: # five
""" + "".join(f'- {{question: "Greet {name}.", answer: "Hello, {name}."}}\n' for name in "ABCDE")
PATH = "compositional_skills/x/qna.yaml"


def indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def migrate(text: str, path: str = PATH) -> str:
    return migrated(text.encode(), path).decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SKILL, SKILL.replace("created_by", "version: 4\ncreated_by", 1)),
        (f"version: 1\n{SKILL}", f"version: 4\n{SKILL}"),
        (f"version:   3   # three\n{SKILL}", f"version:   4   # three\n{SKILL}"),
        (f"{SKILL}version: 2", f"{SKILL}version: 4"),
        (f"---\n{SKILL}", "---\n" + SKILL.replace("created_by", "version: 4\ncreated_by", 1)),
        (f"\ufeff{SKILL}", "\ufeff" + SKILL.replace("created_by", "version: 4\ncreated_by", 1)),
        (f"version: 4\n{SKILL}", f"version: 4\n{SKILL}"),
        (f"version: &v 3\n{SKILL}", f"version: &v 4\n{SKILL}"),
        (f"version: !!int '3'\n{SKILL}", f"version: !!int '4'\n{SKILL}"),
        (indented(SKILL), indented(SKILL).replace("  created_by", "  version: 4\n  created_by", 1)),
    ],
)
def test_only_the_version_changes(before, after):
    assert migrate(before) == after
    assert migrate(before.replace("\n", "\r\n")) == after.replace("\n", "\r\n")
    assert migrate(after) == after


def test_a_file_in_braces():
    seeds = ", ".join(f"{{question: Q{number}, answer: A}}" for number in range(5))
    assert migrate(f"{{created_by: a, task_description: b, seed_examples: [{seeds}]}}\n").startswith(
        "{version: 4, created_by"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SKILL[: SKILL.rindex("- {")], "4 given, at least 5 needed"),
        (SKILL.replace("Greet.\n", '""\n', 1), "task_description: there is no text"),
        (f"{SKILL}- {{question: Greet A., answer: 'Hello, A.'}}\n", "says the same as an earlier one"),
        (f"version: 9\n{SKILL}", "version 9 is unknown"),
        (f'version: "3"\n{SKILL}', "version '3' is text"),
        ("a: [", "not valid YAML"),
        ("", "keys and values"),
    ],
)
def test_what_stands_in_the_way_is_told(text, told):
    with pytest.raises(LeafProblems, match=r"qna\.yaml:") as raised:
        migrate(text)
    assert told in str(raised.value)


def test_old_knowledge_is_told_what_it_lacks():
    with pytest.raises(LeafProblems) as raised:
        migrate(SKILL, "knowledge/x/qna.yaml")
    told = [problem.message for problem in raised.value.problems]
    assert {"the key 'document' is missing; add it", "the key 'domain' is missing; add it"} <= set(told)


def test_places_are_those_of_the_file_as_it_is():
    text = SKILL.replace("Greet.\n", '""\n', 1)
    for spelt in (text, f"version: 3\n{text}"):
        with pytest.raises(LeafProblems) as raised:
            migrate(spelt)
        line = spelt.splitlines().index('task_description: ""') + 1
        assert [problem.line for problem in raised.value.problems] == [line]


def test_bytes_that_are_no_text():
    with pytest.raises(LeafProblems, match="not UTF-8"):
        migrated(b"\xff", PATH)


@pytest.mark.slow
def test_no_fingerprint_of_a_public_leaf_changes(public_tree, tmp_path):
    source = WorkingTree(public_tree)
    num_migrated = 0
    for leaf_id in leaf_ids(source):
        path = f"{leaf_id}/qna.yaml"
        try:
            before = read_leaf(source, leaf_id)
            after = migrated(source.read(path), path)
        except TaxonomyError:
            continue
        (tmp_path / leaf_id).mkdir(parents=True)
        (tmp_path / path).write_bytes(after)
        leaf = read_leaf(WorkingTree(tmp_path), leaf_id)
        assert (leaf.version, leaf.fingerprint) == (4, before.fingerprint)
        num_migrated += 1
    assert num_migrated == {"instructlab-2024-07": 18, "instructlab-2025-04": 7}[public_tree.name]
