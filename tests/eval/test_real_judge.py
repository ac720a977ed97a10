"""The embedded judge on answers that people have labelled: what he calls right is right (docs/log.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tilth.core.config import Config
from tilth.core.progress import SilentProgress
from tilth.core.records import Question
from tilth.eval.judging import ToGrade, judge
from tilth.eval.scores import RIGHT_FROM

CASES = Path(__file__).parents[1] / "data" / "judged_answers.jsonl"


def labelled(every: int = 1) -> list[tuple[ToGrade, bool]]:
    """The answers of all questions, or of every so many-th."""
    rows = [json.loads(line) for line in CASES.read_text().splitlines()][every - 1 :: every]
    asked = [(Question.new("s", row["question"], (row["reference"],), judged=True), row["answers"]) for row in rows]
    return [(ToGrade(question, case["answer"]), case["good"]) for question, cases in asked for case in cases]


def test_the_cases_are_of_both_kinds():
    cases = labelled()
    assert len({each.key for each, _ in cases}) == len(cases) == 24
    assert sum(good for _, good in cases) == 11


@pytest.mark.models
def test_the_embedded_judge_tells_good_from_bad(tmp_path: Path):
    """Half of the questions: each answer takes seconds."""
    cases = labelled(every=2)
    answers = [each for each, _ in cases]
    judged = judge(answers, [], config=Config(), ledger=tmp_path / "ledger.db", progress=SilentProgress())
    grades = [judged.grades[each.key].grade for each in answers]
    assert None not in grades
    kept = [good for grade, (_, good) in zip(grades, cases, strict=True) if (grade or 0) >= RIGHT_FROM]
    assert [good for _, good in cases].count(True) == 6
    assert kept.count(True) >= 3
    assert kept.count(False) <= 1
