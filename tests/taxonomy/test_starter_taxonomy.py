from __future__ import annotations

import pytest
from tilth.core.errors import TaxonomyError
from tilth.taxonomy.documents import load_documents
from tilth.taxonomy.qna import comparable
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.starter_taxonomy import (
    FIRST_KNOWLEDGE,
    FREEFORM_SKILL,
    GROUNDED_SKILL,
    SECOND_KNOWLEDGE,
    starter_files,
    starter_folder,
)
from tilth.taxonomy.tree import leaf_ids, read_leaves


@pytest.fixture(scope="module")
def source() -> WorkingTree:
    return WorkingTree(starter_folder())


def test_it_holds_two_knowledge_leaves_and_two_skills(source):
    assert leaf_ids(source) == sorted([FIRST_KNOWLEDGE, SECOND_KNOWLEDGE, FREEFORM_SKILL, GROUNDED_SKILL])
    kinds = {leaf.id: leaf.kind for leaf in read_leaves(source)}
    assert (kinds[FIRST_KNOWLEDGE], kinds[FREEFORM_SKILL], kinds[GROUNDED_SKILL]) == (
        "knowledge",
        "skill",
        "grounded_skill",
    )


def test_every_leaf_comes_with_its_files():
    assert list(starter_files(SECOND_KNOWLEDGE)) == ["attribution.txt", "qna.yaml", "zellophar.md"]
    assert list(starter_files(FREEFORM_SKILL)) == ["attribution.txt", "qna.yaml"]
    with pytest.raises(TaxonomyError, match="no leaf 'knowledge/x'"):
        starter_files("knowledge/x")


@pytest.mark.parametrize("leaf_id", [FIRST_KNOWLEDGE, SECOND_KNOWLEDGE])
def test_contexts_are_quotes_and_held_out_answers_stand_in_the_document(source, leaf_id, tmp_path):
    (leaf,) = read_leaves(source, [leaf_id])
    (document,) = load_documents(leaf, source, tmp_path)
    text = comparable(document.text)
    assert all(comparable(seed.context) in text for seed in leaf.seed_examples)
    assert sum(len(seed.pairs) for seed in leaf.seed_examples) == 15
    for seed in leaf.seed_examples:
        there = set(comparable(seed.context).split())
        assert all(set(comparable(pair.answer).split()) <= there for pair in seed.pairs), seed
    assert len(leaf.questions) == 20
    for question in leaf.questions:
        words = f" {text} "
        assert any(f" {comparable(answer)} " in words for answer in question.answers), question
        asked = f" {comparable(question.question)} "
        assert not any(f" {comparable(answer)} " in asked for answer in question.answers), question


@pytest.mark.parametrize(
    ("leaf_id", "name"), [(FIRST_KNOWLEDGE, "Velmora Lighthouse"), (SECOND_KNOWLEDGE, "zellophar")]
)
def test_held_out_questions_stand_alone_and_are_worded_unlike_the_seeds(source, leaf_id, name):
    (leaf,) = read_leaves(source, [leaf_id])
    seeds = [
        set(comparable(pair.question.replace(name, "")).split()) for seed in leaf.seed_examples for pair in seed.pairs
    ]
    for question in leaf.questions:
        assert name in question.question
        asked = set(comparable(question.question.replace(name, "")).split())
        assert max(len(asked & seed) / len(asked | seed) for seed in seeds) < 0.5, question.question
