from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tilth.core.yaml_source import parse_yaml
from tilth.taxonomy.leaf import DocumentSpec, SeedExample, SeedPair
from tilth.taxonomy.qna import LeafProblems, parse_qna
from tilth.taxonomy.scaffold import Draft, attribution, knowledge_qna, skill_qna, yaml_text
from tilth.taxonomy.schema import KnowledgeV4, SkillV4

FILES = DocumentSpec(files=("a page: [1].md",))


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn"]) | st.sampled_from("\n\t"), max_size=300)


@given(TEXTS, st.integers(0, 3))
@pytest.mark.slow
def test_any_text_is_read_back_as_it_was_wherever_it_stands(text: str, level: int) -> None:
    indent = 4 + 2 * level
    parents = "".join(f"{'  ' * depth}k:\n" for depth in range(2 + level))
    yaml = f"{parents}{' ' * indent}b: {yaml_text(text, indent)}\n{' ' * indent}c: d\n"
    read = parse_yaml(yaml, "x").data
    for _ in range(2 + level):
        read = read["k"]
    assert read == {"b": text.strip(), "c": "d"}


def test_control_characters_have_no_place_in_yaml() -> None:
    assert parse_yaml("a: " + yaml_text("one\x08two\x00\r\x85"), "x").data == {"a": "one two"}


def draft(passages: int) -> Draft:
    def pair(number: int) -> SeedPair:
        return SeedPair(question=f"What about {number}: 'this' or \"that\"?", answer=f"{number}")

    seeds = [
        SeedExample(context=f"Line {n}.\n\n# {'long ' * 40}end", pairs=tuple(pair(10 * n + i) for i in range(3)))
        for n in range(passages)
    ]
    return Draft(domain="a: b", document_outline="- x", seed_examples=tuple(seeds), held_out=(pair(99), pair(98)))


def test_a_whole_draft_is_a_whole_leaf() -> None:
    said = draft(5)
    text = knowledge_qna("knowledge/a/b", FILES, said, created_by="yes", note="not\nreviewed: # at all")
    assert text.splitlines()[:2] == [
        "# yaml-language-server: $schema=../../../qna.schema.json",
        "# not reviewed: # at all",
    ]
    qna, _ = parse_qna(text.encode(), "knowledge/a/b/qna.yaml")
    assert isinstance(qna, KnowledgeV4)
    assert (qna.created_by, qna.domain, qna.document.files) == ("yes", said.domain, list(FILES.files))
    assert [seed.context for seed in qna.seed_examples] == [seed.context for seed in said.seed_examples]
    assert [item.question for item in qna.test_questions] == [pair.question for pair in said.held_out]


@pytest.mark.parametrize("passages", [0, 2])
def test_what_a_draft_lacks_is_a_gap_in_the_file(passages: int) -> None:
    text = knowledge_qna("knowledge/b", FILES, draft(passages), created_by="ada")
    with pytest.raises(LeafProblems) as caught:
        parse_qna(text.encode(), "knowledge/b/qna.yaml")
    assert {problem.kind for problem in caught.value.problems} == {"blank"}
    assert len(caught.value.problems) == (5 - passages) * (1 + 3 * 2)


def test_documents_of_another_repository() -> None:
    spec = DocumentSpec(repo="https://example.org/a.git", commit="1" * 40, patterns=("docs/*.md",))
    qna, _ = parse_qna(knowledge_qna("knowledge/b", spec, draft(5), created_by="ada").encode(), "knowledge/b/qna.yaml")
    assert isinstance(qna, KnowledgeV4)
    assert (qna.document.repo, qna.document.commit, qna.document.patterns) == (spec.repo, spec.commit, ["docs/*.md"])


@pytest.mark.parametrize("grounded", [False, True])
def test_a_skill(*, grounded: bool) -> None:
    seeds = [
        SeedExample(context="c" if grounded else "", pairs=(SeedPair(question=f"q{n}", answer="a\nb"),))
        for n in range(6)
    ]
    said = Draft(task_description="Do it.", seed_examples=tuple(seeds))
    text = skill_qna("compositional_skills/b", said, created_by="ada", grounded=grounded)
    qna, _ = parse_qna(text.encode(), "compositional_skills/b/qna.yaml")
    assert isinstance(qna, SkillV4)
    assert [(seed.context, seed.answer) for seed in qna.seed_examples] == [("c" if grounded else "", "a\nb")] * 6


def test_attribution_is_one_line_for_each_field() -> None:
    text = attribution(title="A\nB", link="", revision="1", creator="")
    assert text == "Title of work: A B\nLink to work:\nRevision: 1\nLicense of the work:\nCreator names:\n"
