from __future__ import annotations

import pytest
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.tree import leaf_ids, leaf_ids_under, read_leaves


@pytest.fixture
def tree(repository, skill):
    for leaf_id in ("compositional_skills/a/b", "compositional_skills/a_b", "foundational_skills/c"):
        repository.write(f"{leaf_id}/qna.yaml", skill)
    repository.write("elsewhere/qna.yaml", skill)
    repository.write("compositional_skills/a/qna.yml", skill)
    return WorkingTree(repository.root)


def test_leaves_are_the_folders_with_a_qna_file_in_the_three_sections(tree):
    assert leaf_ids(tree) == ["compositional_skills/a/b", "compositional_skills/a_b", "foundational_skills/c"]
    assert [leaf.id for leaf in read_leaves(tree)] == leaf_ids(tree)
    assert [leaf.id for leaf in read_leaves(tree, ["foundational_skills/c"])] == ["foundational_skills/c"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("compositional_skills/a", ["compositional_skills/a/b"]),
        ("./compositional_skills/", ["compositional_skills/a/b", "compositional_skills/a_b"]),
        ("foundational_skills/c/qna.yaml", ["foundational_skills/c"]),
        (".", ["compositional_skills/a/b", "compositional_skills/a_b", "foundational_skills/c"]),
        ("compositional_skills/a/b", ["compositional_skills/a/b"]),
        ("compositional_skills/a_b/", ["compositional_skills/a_b"]),
    ],
)
def test_paths_name_leaves(tree, path, expected):
    assert leaf_ids_under(tree, [path, path]) == expected


def test_strays_may_be_named_though_no_leaf_is_there(tree):
    strays = ["knowledge/x/qna.yaml", "compositional_skills/a/qna.yml"]
    assert leaf_ids_under(tree, ["compositional_skills/a/qna.yml", "knowledge/x"], strays=strays) == []
    assert leaf_ids_under(tree, ["knowledge/x/qna.yaml", "compositional_skills"], strays=strays) == leaf_ids(tree)[:2]
    with pytest.raises(TaxonomyError, match="no leaf 'knowledge/y'"):
        leaf_ids_under(tree, ["knowledge/y"], strays=strays)


@pytest.mark.parametrize("path", ["compositional_skills/a_", "compositional_skills/aqna.yaml", "qna.yaml", "knowledge"])
def test_half_a_name_names_no_leaf(tree, path):
    with pytest.raises(TaxonomyError, match="there is no leaf"):
        leaf_ids_under(tree, [path])


def test_an_unknown_leaf_is_told_with_the_nearest(tree):
    with pytest.raises(TaxonomyError, match="no leaf 'foundational_skill/c'; did you mean 'foundational_skills/c'"):
        leaf_ids_under(tree, ["foundational_skill/c"])
    with pytest.raises(TaxonomyError, match="did you mean 'compositional_skills/a_b'"):
        read_leaves(tree, ["compositional_skills/ab"])
    with pytest.raises(TaxonomyError, match="no leaf 'x'; `tilth tree` lists them"):
        read_leaves(tree, ["x"])


def test_an_empty_taxonomy_says_what_to_do(repository):
    assert read_leaves(WorkingTree(repository.root)) == []
    with pytest.raises(TaxonomyError, match="has no leaves yet: `tilth add` makes one"):
        read_leaves(WorkingTree(repository.root), ["knowledge/x"])


def test_every_leaf_of_the_public_trees_reads_but_for_old_knowledge(public_tree):
    source = WorkingTree(public_tree)
    refused = ["knowledge/technical_manual/ibm_redbooks", "knowledge/textbook/history/ibm_history"]
    expected = [leaf_id for leaf_id in leaf_ids(source) if leaf_id not in refused]
    leaves = read_leaves(source, expected)
    assert len(leaves) == {"instructlab-2024-07": 146, "instructlab-2025-04": 16}[public_tree.name]
    assert len({leaf.fingerprint for leaf in leaves}) == len(leaves)
    assert all(pair.question and pair.answer for leaf in leaves for seed in leaf.seed_examples for pair in seed.pairs)
    for leaf_id in set(leaf_ids(source)) & set(refused):
        with pytest.raises(TaxonomyError, match="version 1, which is not read any more"):
            read_leaves(source, [leaf_id])
