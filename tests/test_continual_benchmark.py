"""What `benchmarks/continual` makes of a plan and of its numbers: docs/results.md rests on it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tilth.core.rate import wilson
from tilth.core.records import Question
from tilth.eval.evaluation import Answer, Evaluation, Settings
from tilth.train.plan import load_plan

LEAVES = ("first", "second", "third")


@pytest.fixture(autouse=True)
def _from_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


def variant(name: str) -> Any:
    variants = importlib.import_module("benchmarks.continual.variants").VARIANTS
    return next(each for each in variants if each.name == name)


def asked(leaf: str, count: int = 4) -> list[Question]:
    return [Question.new(leaf, f"{leaf} {place}?", ("x",)) for place in range(count)]


def evaluation(marks: dict[str, str], leaves: Sequence[str]) -> Evaluation:
    """Model -> a mark for each question, leaf by leaf: 1 is right."""
    questions = [question for leaf in leaves for question in asked(leaf)]
    answers = {
        model: {
            question.id: Answer(text=f"{model}'s", outcome="right" if mark == "1" else "wrong", exact=False, f1=0)
            for question, mark in zip(questions, row, strict=True)
        }
        for model, row in marks.items()
    }
    settings = Settings(system_prompt="", max_new_tokens=8, max_new_tokens_judged=8, choice="letter")
    return Evaluation(settings=settings, models=dict.fromkeys(marks, ""), questions=tuple(questions), answers=answers)


def test_a_variant_as_shipped_is_the_plan():
    assert variant("lab").load() == load_plan("lab")


@pytest.mark.parametrize(("name", "times"), [("halved", 0.5), ("doubled", 2), ("off", 0)])
def test_more_or_less_is_replayed_of_earlier_contributions_and_as_much_of_all_else(name: str, times: float):
    shipped = [phase for phase in load_plan("lab").phases if phase.method == "sft"]
    changed = variant(f"lab, replay {name}").load().phases
    assert [phase.name for phase in changed] == [phase.name for phase in shipped]
    assert any(phase.replay.earlier_cycles for phase in shipped)
    for was, now in zip(shipped, changed, strict=True):
        new_was, new_now = 1 - was.replay.shares, 1 - now.replay.shares
        for source, factor in (("earlier_cycles", times), ("general", 1), ("earlier_phases", 1)):
            each_was, each_now = (getattr(phase.replay, source) for phase in (was, now))
            assert each_now / new_now == pytest.approx(factor * each_was / new_was, abs=1e-3), (was.name, source)
        rest = {"replay", "average"}
        assert now.model_dump(exclude=rest) == was.model_dump(exclude=rest)


def test_self_generated_answers_take_the_place_of_earlier_samples():
    shipped = {phase.name: phase.replay for phase in load_plan("lab").phases}
    for phase in variant("lab, replay self-generated").load().phases:
        assert phase.replay.earlier_cycles == 0
        assert phase.replay.self_generated == pytest.approx(shipped[phase.name].earlier_cycles, abs=1e-3)


def test_variants_that_differ_in_later_cycles_only_share_the_first():
    shared = ["lab", "lab, replay off", "lab, replay doubled", "lab, replay self-generated"]
    assert {variant(name).first_cycle_of for name in shared} == {"lab"}
    own = ["lab, joint", "lab, general prompts off", "lab, averages off", "lab, seed 43", "lab, all weights"]
    assert [variant(name).first_cycle_of for name in own] == own


def test_learning_and_forgetting_are_those_of_each_leaf_s_own_cycle():
    outcome = importlib.import_module("benchmarks.continual.outcome").outcome
    page = importlib.import_module("benchmarks.continual.page")
    found = outcome(
        variant("lab"),
        LEAVES,
        (),
        evaluation(
            {"base": "0" * 12, "after 1": "1111" "0000" "0000", "after 2": "1110" "1100" "0000",
             "after 3": "1000" "1100" "1111"}, LEAVES
        ),
        evaluation({"base": "1111", "after 3": "1100"}, ["general/facts"]),
    )  # fmt: skip
    assert found.summary.learning_accuracy.terms == {"first": 1, "second": 0.5, "third": 1}
    assert found.summary.forgetting.terms == {"first": 0.75, "second": 0}
    assert (found.general.value, found.general_parts["general/facts"][1].correct) == (-0.5, 2)
    assert found.wrong_when_learned["second"] == {"second 2?": "after 2's", "second 3?": "after 2's"}
    said = page._goal("lab, float32", found)
    assert "- learning: missed by second 0.50;" in said
    assert "- forgetting: 0.375, missed;" in said
    assert "- general set: -0.500, missed." in said
    untaught = {"first": [], "second": ["second 3?"], "third": []}
    assert (page._taught(found, untaught).correct, page._taught(found, untaught).total) == (10, 11)


@pytest.mark.parametrize(
    ("numbers", "share"),
    [
        ([(60, 99), (57, 102), (53, 110), (44, 115), (17, 118)], 0.3),
        ([(60, 90), (50, 100), (40, 110)], None),
        ([(60, 90), (30, 95), (20, 120)], None),
    ],
)
def test_where_the_curve_bends(numbers: list[tuple[int, int]], share: float | None):
    point, shares = importlib.import_module("benchmarks.continual.curve").Point, (0, 0.1, 0.2, 0.3, 0.5)
    points = [
        point(share=at, leaves=wilson(leaves, 100), general=wilson(general, 256))
        for at, (leaves, general) in zip(shares, numbers, strict=False)
    ]
    found = importlib.import_module("benchmarks.continual.page").bend(points)
    assert (found.share if found else None) == share
