"""What a run would cost, and what it may."""

from __future__ import annotations

import shutil

import pytest
from tilth.core.config import Prices
from tilth.llm.budget import Budget, BudgetSpent
from tilth.sdg.store import read_manifest, read_samples

from .conftest import Bench


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
    assert dear.seconds


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
