"""What a run would cost, and what it may."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tilth.core.config import Config, Generate, ModelServer, Prices
from tilth.core.progress import SilentProgress
from tilth.llm.budget import Budget, BudgetSpent
from tilth.llm.scripted import serve_scripted
from tilth.sdg import forecast
from tilth.sdg.generate import Setup, bring_up_to_date, foresee
from tilth.sdg.others import STUDENT_STEPS
from tilth.sdg.store import Entry, read_manifest, read_samples
from tilth.taxonomy.source import WorkingTree
from tilth.taxonomy.starter_taxonomy import FIRST_KNOWLEDGE, SECOND_KNOWLEDGE, starter_files
from tilth.taxonomy.tree import read_leaves

from .conftest import Bench
from .test_preferences_flow import students, use


@pytest.mark.parametrize("judge", [True, False])
def test_the_estimate_is_what_is_asked_where_nothing_is_dropped(bench: Bench, judge: bool) -> None:
    bench.use_recipe("knowledge", chunk_tokens=15, calls_per_chunk=2, judge=judge)
    bench.use_recipe("skills", tasks_per_call=2, judge=judge)
    estimates = [each.calls for each in bench.foresee()]
    # 3 chunks and 5 sentences, 2 calls each; 2 seeds and 2 answers, 4 rewordings and a long answer of each;
    # 3 seeds, 2 tasks each; 2 seeds, 2 tasks each.
    calls = 2 if judge else 1
    judged = 2 * 5 + (2 + 2) * (4 + 1) if judge else 0
    assert estimates == [2 * 3 + (2 + 2) * 2 + judged, 3 * (1 + 2 * calls), 2 * (1 + 2 * calls)]
    assert bench.teacher.asked.total() == 0
    asked = [read_manifest(entry.folder).requests.asked for entry in bench.run()]
    # Rye is judged away, and where no judge is, it is known from a seed: new are the year and the wood.
    assert asked == estimates
    assert bench.foresee() == []


def test_a_forecast_knows_what_the_ledger_has_and_what_it_costs(bench: Bench) -> None:
    before = bench.foresee()
    assert [(each.cached, each.seconds) for each in before] == [(0, None)] * 3
    bench.run()
    shutil.rmtree(bench.store())
    again = bench.foresee()
    assert [(each.leaf, each.calls - each.cached, each.prompt_tokens) for each in again[1:]] == [
        (each.leaf, 0, 0) for each in before[1:]
    ]
    bench.use_recipe("skills", tasks_per_call=3)
    prices = Prices(prompt=1e6, completion=2e6)
    bench.config = bench.config.model_copy(
        update={"teacher": bench.config.teacher.model_copy(update={"prices": prices})}
    )
    dear = bench.foresee()[1]
    assert dear.calls > dear.cached
    assert dear.cost == pytest.approx(dear.prompt_tokens + 2 * dear.completion_tokens)


def test_what_a_judge_of_his_own_asks_costs_his_prices(bench: Bench) -> None:
    """Two seeds and two answers of each task: of five requests for an example two are the judge's."""
    bench.use_recipe("skills", tasks_per_call=2)
    judge = bench.config.teacher.model_copy(update={"model": "judge", "prices": Prices(prompt=1e6, completion=1e6)})
    free, bench.config = bench.foresee(), bench.config.model_copy(update={"judge": judge})
    dear = bench.foresee()
    assert [each.cost for each in free] == [0, 0, 0]
    assert dear[1].calls == free[1].calls == 3 * 5
    assert dear[1].cost == pytest.approx((dear[1].prompt_tokens + dear[1].completion_tokens) * 2 / 5)
    entries = bench.run()
    assert read_manifest(entries[1].folder).steps["judge"].asked == 3 * 2


def asked_of_servers(entry: Entry) -> int:
    steps = read_manifest(entry.folder).steps
    return sum(use.asked for step, use in steps.items() if step not in STUDENT_STEPS)


@pytest.mark.parametrize(
    "recipe", ["quick", *(pytest.param(name, marks=pytest.mark.slow) for name in ("standard", "rich"))]
)
@pytest.mark.slow
def test_a_forecast_knows_what_leaves_before_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str) -> None:
    """The scripted teacher writes so much that filters drop that the first guess is three times what it takes."""
    for leaf in (FIRST_KNOWLEDGE, SECOND_KNOWLEDGE):
        for name, text in starter_files(leaf).items():
            (tmp_path / leaf).mkdir(parents=True, exist_ok=True)
            (tmp_path / leaf / name).write_text(text)
    tree, known = WorkingTree(tmp_path), students(monkeypatch, lambda prompt: prompt[:30])
    first, second = read_leaves(tree, [FIRST_KNOWLEDGE, SECOND_KNOWLEDGE])
    with serve_scripted() as url:
        server = ModelServer(model="scripted", base_url=str(url))
        config = Config(teacher=server, generate=Generate(recipe=recipe))
        places = (tmp_path / "state" / name for name in ("store", "ledger", "documents"))
        setup = Setup(tree, config, *places, known)
        [guessed], _ = foresee([second], setup)
        bring_up_to_date([first], setup, SilentProgress())
        [learned], _ = foresee([second], setup)
        [entry] = bring_up_to_date([second], setup, SilentProgress())
    asked = asked_of_servers(entry)
    assert guessed.calls > 2 * asked
    assert 0.75 < learned.calls / asked < 1.25


def test_a_forecast_finds_what_student_and_pairs_have_in_the_ledger(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(bench, "weak", mode="strong_weak", candidates=2, kinds=["knowledge_short", "skill"])
    bench.teacher.rules["preferences answer"] = lambda asked: f"{asked['question']} Yes."
    bench.teacher.rules["preferences grade"] = lambda _: {"grade": 5}
    given = students(monkeypatch, lambda _: "Something made up.")
    asked = [asked_of_servers(entry) for entry in bench.run(students=given)]
    shutil.rmtree(bench.store())
    assert [each.cached for each in bench.foresee(given)] == asked


def test_time_is_told_from_enough_answers_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BudgetSpent):
        bench.run(budget=Budget(max_calls=12))
    assert [each.seconds for each in bench.foresee()] == [None] * 3
    monkeypatch.setattr(forecast, "_ENOUGH_ANSWERS", 12)
    assert all(each.seconds for each in bench.foresee())


@pytest.mark.slow
def test_a_budget_stops_between_requests_and_goes_on(bench: Bench) -> None:
    with pytest.raises(BudgetSpent, match=r"the budget is spent \(12 of 12 calls\)"):
        bench.run(budget=Budget(max_calls=12))
    assert bench.teacher.asked.total() == 12
    bench.run()
    asked = bench.teacher.asked.total()
    again = bench.run(state="undisturbed")
    assert bench.teacher.asked.total() == 2 * asked
    for entry, undisturbed in zip(bench.run(), again, strict=True):
        assert read_samples(entry) == read_samples(undisturbed)
