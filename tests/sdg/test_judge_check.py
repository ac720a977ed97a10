from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tilth
from tilth.core.config import Config
from tilth.core.errors import ConfigError, DataError
from tilth.core.held_out import find_leaks
from tilth.core.progress import SilentProgress
from tilth.core.records import Provenance, Sample
from tilth.llm.scripted import serve_scripted
from tilth.sdg.judge_check import (
    SHIPPED_CASES,
    Case,
    Checked,
    agreement,
    check_judge,
    judges,
    read_cases,
    suggested,
    thresholds,
)
from tilth.sdg.judges import Judgement
from tilth.sdg.words import words
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.tree import read_leaves

GOOD = {"passage": "The light is amber.", "question": "What colour is the light?", "answer": "amber", "good": True}
SKILL = {"task": "Say it backwards.", "question": "abc", "answer": "cba", "good": True}


def write(path: Path, *cases: Any) -> Path:
    path.write_text("".join(json.dumps(case) + "\n" for case in cases))
    return path


# Cases ---------------------------------------------------------------------------------------------------------------


def test_a_case_is_of_the_kind_that_its_fields_say(tmp_path: Path) -> None:
    foundational = {**SKILL, "foundational": True, "context": "abc"}
    path = write(tmp_path / "cases.jsonl", GOOD, SKILL, {**SKILL, "context": "abc"}, foundational)
    path.write_text(path.read_text().replace("\n", "\n\n", 1))
    assert [(each.line, each.case.kind) for each in read_cases(path)] == [
        (1, "knowledge"),
        (3, "skill"),
        (4, "grounded_skill"),
        (5, "foundational"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", r"cases\.jsonl:2: not a labelled case: no valid JSON; write one a line"),
        ('{"question": "q"}', r"cases\.jsonl:2: not a labelled case: .* is missing"),
        (json.dumps({**GOOD, "colour": 1}), r"cases\.jsonl:2: not a labelled case: unknown key 'colour'"),
        (json.dumps({**GOOD, "good": "perhaps"}), r"cases\.jsonl:2: not a labelled case: good is 'perhaps'"),
        (json.dumps({**GOOD, "task": "t"}), r"cases\.jsonl:2: it has both a passage and a task"),
        (json.dumps({**GOOD, "passage": ""}), r"cases\.jsonl:2: it has neither a passage nor a task"),
        ("\xff", r"cases\.jsonl:2: not a labelled case: no valid JSON"),
    ],
)
def test_what_is_no_case_is_told_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "cases.jsonl", GOOD)
    path.write_bytes(path.read_bytes() + line.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read_cases(path)


def test_no_cases_are_no_check(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no cases in it"):
        read_cases(write(tmp_path / "cases.jsonl"))


def test_the_shipped_cases_are_of_all_kinds_and_half_of_them_bad() -> None:
    cases = [each.case for each in read_cases(SHIPPED_CASES)]
    for kind, least in (("knowledge", 40), ("skill", 10), ("grounded_skill", 10), ("foundational", 20)):
        labels = [case.good for case in cases if case.kind == kind]
        assert len(labels) >= least
        assert labels.count(True) * 2 == len(labels)
    assert all(bool(case.fault) is not case.good for case in cases)
    assert len({(case.passage, case.context, case.question, case.answer) for case in cases}) == len(cases)


def test_the_shipped_passages_are_the_starter_s_and_no_held_out_question_is_asked() -> None:
    root = Path(tilth.__file__).parent / "taxonomy" / "starter"
    source = WorkingTree(root)
    documents = " ".join(" ".join(words(path.read_text())) for path in root.rglob("*.md"))
    questions = [question for leaf in read_leaves(source) for question in leaf.questions]
    nowhere = Provenance(leaf="", leaf_fingerprint="", commit="", recipe="", recipe_fingerprint="", teacher="")
    cases = [each.case for each in read_cases(SHIPPED_CASES)]
    assert all(" ".join(words(case.passage)) in documents for case in cases)
    asked = [Sample.new("knowledge_short", case.question, case.answer, nowhere) for case in cases]
    assert questions
    assert find_leaks(questions, asked) == []


# Figures -------------------------------------------------------------------------------------------------------------


def checked(good: bool, kept: bool, score: int | None = None) -> Checked:
    case = Case.model_validate({**GOOD, "good": good})
    return Checked(1, case, Judgement("" if kept else "no", {"judge": ""}, score))


def test_agreement_counts_and_kappa_is_cohen_s() -> None:
    """Cohen's own way of counting, on the table of 20, 5, 10 and 15 of 50: agreement 0.7, by chance 0.5."""
    cases = [checked(True, True)] * 20 + [checked(True, False)] * 5 + [checked(False, True)] * 10
    found = agreement([*cases, *[checked(False, False)] * 15])
    assert (found.good_kept, found.good_dropped, found.bad_kept, found.bad_dropped) == (20, 5, 10, 15)
    assert (found.precision.value, found.recall.value, found.accuracy.value) == pytest.approx((20 / 30, 0.8, 0.7))
    assert found.kappa == pytest.approx(0.4)
    assert 0.1 < found.kappa_low < 0.4 < found.kappa_high < 0.7


def test_a_judge_who_always_says_yes_agrees_by_chance_only() -> None:
    found = agreement([checked(True, True), checked(False, True)] * 10)
    assert (found.kappa, found.precision.value, found.recall.value) == (0, 0.5, 1)
    assert agreement([checked(True, True)] * 3).kappa == 0


def test_without_an_answer_nothing_is_kept() -> None:
    case = Case.model_validate(GOOD)
    assert agreement([Checked(1, case, None)]).good_dropped == 1


def test_the_lowest_score_that_reaches_a_precision_is_suggested() -> None:
    cases = [checked(good, True, score) for good, score in ((True, 5), (True, 4), (False, 3), (True, 3), (False, 1))]
    found = thresholds([*cases, Checked(9, Case.model_validate(GOOD), None)])
    assert [(each.precision.correct, each.precision.total) for each in found] == [
        (3, 5),
        (3, 4),
        (3, 4),
        (2, 2),
        (1, 1),
    ]
    assert [(each.recall.correct, each.recall.total) for each in found][:4] == [(3, 4), (3, 4), (3, 4), (2, 4)]
    best = suggested(found, 0.9)
    assert best is not None
    assert best.lowest_score == 4
    assert suggested(found, 0.7) == found[1]
    assert suggested(thresholds([checked(False, True, 5)]), 0.5) is None
    assert thresholds([checked(True, True)]) == []


# Asking --------------------------------------------------------------------------------------------------------------


def test_the_recipe_s_judge_is_asked_unless_another_method_is_wanted() -> None:
    config = Config()
    kinds = ["knowledge", "skill", "grounded_skill", "foundational"]
    assert {kind: judge.by for kind, judge in judges(config, kinds).items()} == {
        "knowledge": "answering",
        "skill": "verdict",
        "grounded_skill": "verdict",
        "foundational": "answering",
    }
    by_rubric = judges(config, kinds, by="rubric", votes=3)
    assert [by_rubric[kind].by for kind in kinds] == ["answering", "rubric", "rubric", "rubric"]
    assert all(judge.votes == 3 and judge.prompt.file.temperature > 0 for judge in by_rubric.values())
    with pytest.raises(ConfigError, match="--by: these cases cannot be judged by 'rubrik'; did you mean 'rubric'"):
        judges(config, kinds, by="rubrik")
    with pytest.raises(ConfigError, match=r"--by: .*answering, quoting"):
        judges(config, ["knowledge"], by="rubric")


def test_every_case_is_asked_once_and_the_ledger_keeps_it(tmp_path: Path) -> None:
    cases = read_cases(write(tmp_path / "cases.jsonl", GOOD, SKILL, {**SKILL, "context": "abc"}))
    with serve_scripted() as url:
        config = Config.model_validate({"teacher": {"model": "scripted", "base_url": url}})
        for _ in range(2):
            found = check_judge(
                cases,
                judges(config, ["knowledge", "skill", "grounded_skill"], by="quoting", votes=3),
                config=config,
                ledger=tmp_path / "ledger.db",
                progress=SilentProgress(),
            )
        assert url.stats().requests == 9
    assert [(each.line, each.judgement is None) for each in found] == [(1, False), (2, False), (3, False)]
    assert all(each.judgement and each.judgement.grades["votes"].endswith("of 3") for each in found)


def test_an_answer_that_cannot_be_used_is_no_error(tmp_path: Path) -> None:
    cases = read_cases(write(tmp_path / "cases.jsonl", SKILL))
    with serve_scripted(rates={"garbage": 1.0}) as url:
        config = Config.model_validate({"teacher": {"model": "scripted", "base_url": url}})
        asked = judges(config, ["skill"])
        found = check_judge(cases, asked, config=config, ledger=tmp_path / "ledger.db", progress=SilentProgress())
    assert [each.judgement for each in found] == [None]
