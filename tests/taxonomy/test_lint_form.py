"""Mending what is only form: what a file says stays as it is, and so do its comments and their order."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tilth.core.yaml_source import YamlProblems, parse_yaml
from tilth.taxonomy.leaf import read_leaf
from tilth.taxonomy.lint import lint, mended
from tilth.taxonomy.lint.report import report, report_from_json
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.starter_taxonomy import starter_folder

SKILL = """\
# A skill.
created_by: ada  # who
task_description: Greet.
seed_examples:
  - question: Greet Ada.
    answer: |
      Hello,

      Ada.
"""


def mend(text: str) -> str:
    return mended(text.encode(), "compositional_skills").decode()


@pytest.mark.parametrize(
    "spoilt",
    [
        SKILL,
        SKILL.replace("\n", "\r\n"),
        SKILL.replace("\n", "\r"),
        SKILL.replace("Greet.\n", "Greet. \t\n"),
        SKILL.replace("# A skill.", "# A skill.   "),
        SKILL.replace("\n\n", "\n      \n"),
        SKILL.removesuffix("\n"),
        SKILL.replace("Ada.\n", "Ada.  \n"),
        "\ufeff" + SKILL,
        "\ufeff" + SKILL.replace("\n", " \r\n").replace(", \r", ",\r").removesuffix("\r\n"),
    ],
)
def test_form_is_mended(spoilt):
    assert mend(spoilt) == SKILL


def test_spaces_that_are_part_of_a_text_stay():
    text = SKILL.replace("Hello,\n\n", "Hello,  \n        \n")
    assert mend(text) == text


def test_tabs_become_spaces_where_that_gives_a_leaf():
    tabs = SKILL.replace("    answer: |\n      Hello,\n\n      Ada.\n", "\t\tanswer: Hello.\n")
    assert mend(tabs) == tabs.replace("\t", "  ")
    assert mend(tabs.replace("answer", "anwser")) == tabs.replace("answer", "anwser")


@pytest.mark.parametrize("value", ["1874", "yes", "Off", "12:30", "3.50", "1_000", "-.inf", "007"])
def test_values_that_were_meant_as_text_get_quotes(value):
    text = SKILL.replace("task_description: Greet.", f"task_description: {value}  # said {value}")
    assert mend(text) == SKILL.replace("Greet.\n", f'"{value}"  # said {value}\n')


@pytest.mark.parametrize("value", ["[1874]", "null", "~", "!!int 7", "&a 7", "!!bool yes"])
def test_what_may_have_been_meant_otherwise_is_left(value):
    text = SKILL.replace("task_description: Greet.", f"task_description: {value}")
    assert mend(text) == text


@pytest.mark.parametrize("text", ["a: [\n ", "a: 1\na: 2 \n", "\t\n", "- x: \t\n\ty", "%", ""])
def test_what_cannot_be_read_is_left(text):
    assert mend(text) == text


def test_a_finding_says_whether_it_is_mended(repository):
    text = (
        SKILL.replace("Hello,\n", "Hello, \n").replace("Greet Ada.", "1874 ").replace("created_by: ada", "created_by:")
    )
    place = repository.write("compositional_skills/x/qna.yaml", text)
    found = {(finding.code, finding.fixable) for finding in lint(WorkingTree(repository.root))}
    assert found == {("E105", True), ("W202", True), ("W202", False), ("E106", False)}
    place.write_text(mend(text))
    left = {(finding.code, finding.fixable) for finding in lint(WorkingTree(repository.root))}
    assert left == {("W202", False), ("E106", False)}


def test_mending_changes_no_fingerprint(tmp_path):
    random.seed(0)
    for place in starter_folder().rglob("qna.yaml"):
        leaf_id = place.parent.relative_to(starter_folder()).as_posix()
        (tmp_path / leaf_id).mkdir(parents=True)
        for document in place.parent.iterdir():
            (tmp_path / leaf_id / document.name).write_bytes(document.read_bytes())
        lines = place.read_text().removesuffix("\n").split("\n")
        spoilt = "\r\n".join(line + " " * (random.random() < 0.5) for line in lines).encode()
        (tmp_path / leaf_id / "qna.yaml").write_bytes(spoilt)
        before = read_leaf(WorkingTree(tmp_path), leaf_id).fingerprint
        after = mended(spoilt, leaf_id.split("/")[0])
        assert after != spoilt
        assert b"\r" not in after
        (tmp_path / leaf_id / "qna.yaml").write_bytes(after)
        assert read_leaf(WorkingTree(tmp_path), leaf_id).fingerprint == before


YAMLISH = st.lists(
    st.sampled_from([*"ab:- \t\n|>'\"#[]{}&*!%,1\r\x85", "\n  ", ": ", "- ", "yes", "|\n", "\ufeff", "é", "\u2028"])
).map("".join)


# Before the block scalar stand signs that end a line to libyaml and not to an editor.
ODD_LINE_ENDS = "a: b # \x85 # \u2028 # \x85 #   \nq: |\n    x  \n    y \nc: d"


@example(ODD_LINE_ENDS)
@given(YAMLISH | st.text())
def test_whatever_the_text_its_content_stays(text):
    def said(text: str):
        try:
            data = parse_yaml(text, "x").data
        except YamlProblems:
            return None
        return stripped(data)

    def stripped(value):
        if isinstance(value, dict):
            return {key: stripped(item) for key, item in value.items()}
        return [stripped(item) for item in value] if isinstance(value, list) else str(value).strip()

    once = mend(text)
    if said(text.removeprefix("\ufeff")) is not None:
        assert said(once) == said(text.removeprefix("\ufeff"))
    assert mend(once) == once


def test_lines_are_those_of_an_editor():
    assert mend(ODD_LINE_ENDS) == "a: b # \x85 # \u2028 # \x85 #\nq: |\n    x  \n    y\nc: d\n"


@given(st.binary() | YAMLISH.map(str.encode))
def test_whatever_the_bytes_there_is_a_report(data):
    found = report(data, "knowledge")
    assert found.faults
    kept = json.dumps(found.to_json())
    assert json.dumps(report_from_json(json.loads(kept)).to_json()) == kept
    mended(data, "knowledge")
