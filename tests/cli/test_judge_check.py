from __future__ import annotations

import json
from pathlib import Path

import pytest
from tilth.llm.scripted import ScriptedUrl, serve_scripted

from ..loop import Spawner

SKILL = {"task": "Say it backwards.", "question": "abc", "answer": "cba"}


@pytest.fixture
def workspace(tmp_path: Path, spawner: Spawner) -> Path:
    assert spawner.run(tmp_path, "init", "--empty").code == 0
    cases = [{**SKILL, "good": True}, {**SKILL, "answer": "bac", "good": False, "fault": "two letters"}]
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    return tmp_path


def judge_with(url: ScriptedUrl) -> list[str]:
    return ["--set", "teacher.model=scripted", "--set", f"teacher.base_url={url}"]


def test_figures_and_what_was_wrong(workspace: Path, spawner: Spawner) -> None:
    with serve_scripted(second_choice_share=0) as url:
        said = spawner.run(workspace, "judge-check", "cases.jsonl", *judge_with(url))
        told = spawner.run(workspace, "judge-check", "cases.jsonl", "--json", *judge_with(url))
        assert url.stats().requests == 2
    assert (said.code, told.code) == (0, 0), said.err
    assert "skill: 2 pairs, judged by verdict, scripted" in said.out
    assert "precision 1/2 (9–91 %)" in said.out  # noqa: RUF001
    assert "kappa     0.00" in said.out
    assert "cases.jsonl:2: kept, though bad (two letters)\n  abc -> bac\n  the judge: yes\n" in said.out
    found = json.loads(told.out)["kinds"]["skill"]
    assert (found["good_kept"], found["bad_kept"], found["suggested_lowest_score"]) == (1, 1, None)
    assert [(wrong["line"], wrong["fault"]) for wrong in found["wrong"]] == [(2, "two letters")]


def test_a_rubric_s_threshold(workspace: Path, spawner: Spawner) -> None:
    with serve_scripted() as url:
        said = spawner.run(workspace, "judge-check", "cases.jsonl", "--by", "rubric", *judge_with(url))
        told = spawner.run(workspace, "judge-check", "cases.jsonl", "--by", "rubric", "--json", *judge_with(url))
    assert "a precision of 0.95 is reached" in said.out
    assert [each["lowest_score"] for each in json.loads(told.out)["kinds"]["skill"]["thresholds"]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nothing.jsonl"], "tilth: there is no file 'nothing.jsonl'; name a file, or none for the pairs that"),
        (["cases.jsonl", "--by", "quoting"], "tilth: --by: these cases cannot be judged by 'quoting'; use one of: "),
        (["tilth.yaml"], "tilth: tilth.yaml:1: not a labelled case: no valid JSON; write one a line: "),
    ],
)
def test_what_is_wrong_is_told_in_one_line(workspace: Path, spawner: Spawner, arguments: list[str], line: str) -> None:
    ran = spawner.run(workspace, "judge-check", *arguments)
    assert ran.code == 2
    assert ran.err.startswith(line)
    assert ran.err.count("\n") == 1
