from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tilth.core.normalise import QUESTION_CHARACTERS
from tilth.core.yaml_source import Problem
from tilth.taxonomy.qna import LeafProblems, comparable, parse_qna
from tilth.taxonomy.schema import KnowledgeV3, KnowledgeV4, SkillV1, SkillV2, SkillV4
from tilth.taxonomy.starter_taxonomy import FIRST_KNOWLEDGE, STARTER_LEAVES, starter_files

REAL = [(starter_files(leaf)["qna.yaml"].encode(), f"{leaf}/qna.yaml") for leaf in (*STARTER_LEAVES, FIRST_KNOWLEDGE)]
SKILL_PATH = "compositional_skills/x/qna.yaml"
KNOWLEDGE_PATH = "knowledge/x/qna.yaml"


def parse(data: dict[str, Any], path: str) -> Any:
    return parse_qna(yaml.safe_dump(data, sort_keys=False).encode(), path)[0]


def problem(data: dict[str, Any], path: str) -> str:
    """The kind, place and message of the only problem."""
    with pytest.raises(LeafProblems) as caught:
        parse(data, path)
    (found,) = caught.value.problems
    return f"{found.kind} {found.line}:{found.column} {found.message}"


def test_a_skill_without_a_version_is_version_1_and_needs_one_seed(skill):
    del skill["version"]
    skill["seed_examples"] = skill["seed_examples"][:1] * 2
    skill["task_description"] = ""
    assert isinstance(parse(skill, SKILL_PATH), SkillV1)


@pytest.mark.parametrize(("version", "model"), [(2, SkillV2), (3, SkillV2), (4, SkillV4)])
def test_later_skills_need_five(skill, version, model):
    skill["version"] = version
    assert type(parse(skill, SKILL_PATH)) is model
    assert type(parse(skill, "foundational_skills/x/qna.yaml")) is model
    skill["seed_examples"].pop()
    assert problem(skill, SKILL_PATH) == "too_few 4:1 seed_examples: 4 given, at least 5 needed; add 1"


def test_a_version_is_a_number_as_json_schema_knows_them(skill):
    skill["version"] = 3.0
    assert parse(skill, SKILL_PATH).version == 3


def test_knowledge_of_version_3_names_a_repository(knowledge):
    del knowledge["test_questions"]
    knowledge["version"] = 3
    knowledge["document"] = {"repo": "https://x.org/y.git", "commit": "abcdef0", "patterns": ["*.md"]}
    knowledge["seed_examples"][0]["questions_and_answers"][0]["note"] = "the public schema allows this"
    assert type(parse(knowledge, KNOWLEDGE_PATH)) is KnowledgeV3
    knowledge["document"]["patterns"] *= 2
    assert "this pattern stands here already" in problem(knowledge, KNOWLEDGE_PATH)


def test_knowledge_of_version_4_has_files_or_a_repository(knowledge):
    assert type(parse(knowledge, KNOWLEDGE_PATH)) is KnowledgeV4
    knowledge["document"] = {"repo": "https://x.org/y.git", "commit": "abcdef0", "patterns": ["*.md"]}
    assert type(parse(knowledge, KNOWLEDGE_PATH)) is KnowledgeV4
    for wrong in ({"files": ["a.md"], "repo": "https://x.org/y.git"}, {"repo": "https://x.org/y.git"}, {}):
        knowledge["document"] = wrong
        assert "write either files, or all of repo, commit and patterns" in problem(knowledge, KNOWLEDGE_PATH)
    for files, what in (([], "at least 1 needed; add 1"), (["*.md"] * 101, "a list of 101; write 100 items at most")):
        knowledge["document"] = {"files": files}
        assert what in problem(knowledge, KNOWLEDGE_PATH)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (1, "knowledge of version 1 is not read any more; rewrite it as version 4"),
        (2, "knowledge of version 2 is not read any more; rewrite it as version 4"),
        (2.0, "knowledge of version 2.0 is not read any more; rewrite it as version 4"),
        (5, "version 5 is unknown; use 3 or 4"),
        (3.5, "version 3.5 is unknown; use 3 or 4"),
        ("3", "version '3' is text; write the number without quotes"),
        (True, "version True is unknown; use 3 or 4"),
        (None, "version None is unknown; use 3 or 4"),
    ],
)
def test_other_versions_are_refused_by_name(knowledge, version, message):
    knowledge["version"] = version
    assert problem(knowledge, KNOWLEDGE_PATH) == f"version 1:1 {message}"


def test_an_unknown_key_is_told_with_the_nearest(skill):
    skill["seed_examples"][2]["anwser"] = "x"
    assert "'seed_examples.2.anwser'; did you mean 'answer'?" in problem(skill, SKILL_PATH)
    del skill["seed_examples"][2]["anwser"]
    skill["domain"] = "greetings"
    assert "unknown key 'domain'" in problem(skill, SKILL_PATH)


@pytest.mark.parametrize("value", ["", "  \n", None])
def test_an_empty_text_is_refused(skill, value):
    skill["seed_examples"][1]["answer"] = value
    assert problem(skill, SKILL_PATH).endswith("seed_examples.1.answer: there is no text; write it")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1874", "the number 1874"),
        ("12:30", "the number 750"),
        ("1.0e+3", "the number 1000.0"),
        ("yes", "true"),
        ("No", "false"),
        ("[a, b]", "a list"),
        ("{a: b}", "keys and values"),
    ],
)
def test_what_yaml_does_not_read_as_text_is_refused_with_the_way_out(skill, written, read):
    skill["seed_examples"][1]["answer"] = "@"
    data = yaml.safe_dump(skill, sort_keys=False).replace("'@'", written).encode()
    with pytest.raises(LeafProblems) as caught:
        parse_qna(data, SKILL_PATH)
    (found,) = caught.value.problems
    assert found.message == f"seed_examples.1.answer: YAML reads this as {read}, not as text; put it in quotes"
    assert (found.line, found.column, found.kind) == (8, 3, "not_text")


@pytest.mark.parametrize("text", ["2024-01-31", "=", "1.2.3", "n", "12:30 o'clock"])
def test_what_can_only_be_text_is_read_as_text(skill, text):
    skill["seed_examples"][1]["answer"] = "@"
    data = yaml.safe_dump(skill, sort_keys=False).replace("'@'", text).encode()
    assert parse_qna(data, SKILL_PATH)[0].seed_examples[1].answer == text


def test_the_wrong_shape_is_refused_in_plain_words(skill):
    skill["seed_examples"] = "none"
    assert "seed_examples is 'none'; write a list: [a, b], or a line that begins" in problem(skill, SKILL_PATH)
    skill["seed_examples"] = ["one"] * 5
    with pytest.raises(LeafProblems, match="is 'one'; write keys and values: question, answer, context"):
        parse(skill, SKILL_PATH)
    with pytest.raises(LeafProblems, match="the file must hold keys and values"):
        parse_qna(b"- a\n", SKILL_PATH)
    with pytest.raises(LeafProblems, match="the file must hold keys and values"):
        parse_qna(b"", SKILL_PATH)


def test_seeds_must_differ_by_more_than_white_space(skill):
    skill["seed_examples"][3] = {"answer": "Hello,  A.\n", "question": "Greet A."}
    assert problem(skill, SKILL_PATH).startswith("repeated 11:3 this seed example says the same as an earlier one")


def test_seeds_may_begin_alike(skill):
    begin = "Rewrite the following sentence in one word:"
    for seed, (question, answer) in zip(skill["seed_examples"], ["ab", "cd", "ef", "ab", "gh"], strict=True):
        seed |= {"question": f"{begin} {question}", "answer": f"The one word is this: {answer}"}
    assert problem(skill, SKILL_PATH).startswith("repeated 11:3 this seed example says the same as an earlier one")


def test_grounded_and_freeform_seeds_do_not_mix(skill):
    for seed in skill["seed_examples"]:
        seed["context"] = "Somebody comes in."
    parse(skill, SKILL_PATH)
    del skill["seed_examples"][4]["context"]
    assert problem(skill, SKILL_PATH).startswith("mixed 17:3 some seed examples have a context and this one has none")


def test_no_more_repetitions_are_told_than_someone_reads(skill):
    skill["seed_examples"] *= 1000
    with pytest.raises(LeafProblems, match=r"\(and 4994 more\)") as caught:
        parse(skill, SKILL_PATH)
    assert len(caught.value.problems) == 100


def test_a_held_out_question_is_no_seed_and_stands_once(knowledge):
    knowledge["test_questions"].append({"question": "what is 3.1", "answer": "x"})
    assert "is a seed question too" in problem(knowledge, KNOWLEDGE_PATH)
    knowledge["test_questions"][1]["question"] = "How long is it ?"
    assert "stands here already" in problem(knowledge, KNOWLEDGE_PATH)


def test_options_say_something_of_their_own_each(knowledge):
    held_out = knowledge["test_questions"][0]
    held_out |= {"accept": [], "wrong": ["8 miles", "Nine miles.", "11 miles"]}
    assert problem(knowledge, KNOWLEDGE_PATH).endswith("this option says the same as another one; change it")
    held_out |= {"accept": ["nine miles"], "wrong": ["8 miles"]}
    assert "remove accept, or wrong" in problem(knowledge, KNOWLEDGE_PATH)
    held_out |= {"accept": [], "wrong": ["+", "-"]}
    assert parse(knowledge, KNOWLEDGE_PATH).test_questions[0].wrong == ["+", "-"]
    held_out["wrong"] = [f"{number} feet" for number in range(10)]
    assert "write 9 items at most" in problem(knowledge, KNOWLEDGE_PATH)


def test_all_problems_are_told_in_order(knowledge):
    knowledge["created_by"] = ""
    del knowledge["domain"]
    knowledge["seed_examples"][0]["questions_and_answers"].pop()
    with pytest.raises(LeafProblems) as caught:
        parse(knowledge, KNOWLEDGE_PATH)
    assert [found.kind for found in caught.value.problems] == ["missing", "blank", "too_few"]
    assert str(caught.value).startswith(f"{KNOWLEDGE_PATH}:1:1: the key 'domain' is missing; add it (and 2 more)")


def test_what_is_not_utf_8_is_placed():
    with pytest.raises(LeafProblems, match=r"^knowledge/x/qna.yaml:2:1: not UTF-8 text"):
        parse_qna(b"version: 4\ncreated_by: \xff\n", KNOWLEDGE_PATH)


def test_questions_are_compared_without_case_punctuation_and_spacing():
    assert comparable("  Who's THERE?\n") == comparable("who s there")
    assert comparable("Where?") != comparable("Who?")


def test_no_question_makes_much_more_of_itself_when_it_is_compared():
    assert len(comparable("\ufdfa" * 490_000)) == 18 * QUESTION_CHARACTERS


WORDS = ["version: 4", "seed_examples:", "question: ", ": ", "- ", "\n  ", "&a ", "*a", "!!int ", "? ", "---\n", "<<: "]
yaml_ish = st.lists(st.sampled_from([*WORDS, *"aé5\0\n\t[]{},|>'\"#%\\\ufeff\x85"])).map("".join)


@given(st.binary() | st.text().map(str.encode) | yaml_ish.map(str.encode))
def test_no_bytes_make_a_traceback(data):
    for path in (SKILL_PATH, KNOWLEDGE_PATH):
        with pytest.raises(LeafProblems, match=r"^[^\n]*$"):
            parse_qna(data, path)


@settings(max_examples=150)
@given(st.data())
@pytest.mark.slow
def test_no_change_of_a_real_leaf_makes_a_traceback(data):
    """Pieces of a leaf cut out, doubled, or replaced by other pieces, bytes or signs of YAML."""
    leaf, path = data.draw(st.sampled_from(REAL))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(leaf)))
        end = data.draw(st.integers(start, min(start + 40, len(leaf))))
        piece = data.draw(st.binary(max_size=4) | yaml_ish.map(str.encode) | st.just(leaf[start:end] * 2))
        leaf = leaf[:start] + piece + leaf[end:]
    problems = problems_of(leaf, path)
    assert all("\n" not in problem.message for problem in problems)
    assert all(0 < problem.line <= len(leaf) + 1 for problem in problems)


def problems_of(data: bytes, path: str) -> list[Problem]:
    try:
        parse_qna(data, path)
    except LeafProblems as error:
        return error.problems
    return []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
some_keys = st.sampled_from(["version", "created_by", "seed_examples", "document", "test_questions", "domain"])


@settings(max_examples=50)
@given(st.dictionaries(some_keys, json_values, min_size=1), st.sampled_from([1, 3, 4]))
@pytest.mark.slow
def test_no_shape_makes_a_traceback(data, version):
    for path in (SKILL_PATH, KNOWLEDGE_PATH):
        with pytest.raises(LeafProblems, match=r"^[^\n]*$"):
            parse({"version": version, **data}, path)
