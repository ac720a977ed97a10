from __future__ import annotations

from typing import Any

import pytest
from tilth.core.errors import CheckFailed
from tilth.train.auto import Resolved, resolve
from tilth.train.plan import Phase

ROLLOUT = {"completions": 8, "max_new_tokens": 8, "rewards": [{"answer": "exact"}]}


def resolved(
    *, rows: int = 400, longest: int = 100, parameters: int = 135_000_000, processes: int = 1, **settings: Any
) -> tuple[Resolved, dict[str, str]]:
    phase = Phase.model_validate({"name": "p", "kinds": ["skill"], **settings})
    return resolve(phase, rows, longest, parameters=parameters, context=2048, processes=processes)


def test_what_the_plan_says_stays_and_has_no_reason() -> None:
    given = {"learning_rate": 3e-4, "batch_size": 12, "micro_batch_size": 3, "max_length": 64}
    phase, reasons = resolved(**given)
    assert phase.model_dump(include=set(given)) == given
    assert reasons == {}


def test_every_auto_is_a_number_with_its_reason() -> None:
    phase, reasons = resolved()
    assert (phase.max_length, phase.learning_rate, phase.batch_size, phase.micro_batch_size) == (100, 1.4e-4, 8, 8)
    assert reasons == {
        "max_length": "100 (the longest sample)",
        "learning_rate": "0.00014 (sft of 135 million parameters)",
        "batch_size": "8 (400 samples)",
        "micro_batch_size": "8 (at most 8,192 tokens at once)",
    }


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({"parameters": 7_000_000_000}, 2e-5),
        ({"parameters": 1_750_000_000}, 4e-5),  # a quarter of the size, twice the rate
        ({"parameters": 7_000_000_000, "adapter": "lora"}, 2e-4),
        ({"parameters": 7_000_000_000, "adapter": "qlora", "lora": {"rank": 4}}, 2e-4),
        ({"parameters": 7_000_000_000, "method": "dpo", "kinds": ["preference"]}, 5e-7),
        ({"parameters": 7_000_000_000, "method": "grpo", "rollout": ROLLOUT}, 1e-6),
        ({"parameters": 1000}, 1.7e-3),  # as one of a million
    ],
)
def test_the_learning_rate_follows_from_method_size_and_adapter(settings: dict[str, Any], rate: float) -> None:
    assert resolved(**settings)[0].learning_rate == pytest.approx(rate)


@pytest.mark.parametrize(
    ("rows", "adapter", "batch"),
    [(1, "none", 8), (640, "none", 16), (10_000, "none", 256), (10_000, "lora", 128), (1_000_000, "none", 4096)],
)
def test_the_batch_makes_about_forty_steps_an_epoch(rows: int, adapter: str, batch: int) -> None:
    assert resolved(rows=rows, adapter=adapter)[0].batch_size == batch


def test_a_batch_can_be_dealt_out_and_cut_into_micro_batches() -> None:
    assert resolved(processes=3)[0].batch_size == 9
    assert resolved(micro_batch_size=6)[0].batch_size == 12


def test_a_micro_batch_is_a_divisor_whose_longest_samples_fit() -> None:
    assert resolved(batch_size=12, longest=2048)[0].micro_batch_size == 4
    assert resolved(batch_size=10, longest=2048)[0].micro_batch_size == 2
    assert resolved(batch_size=12, longest=9999)[0].micro_batch_size == 4  # the model holds 2,048 of them
    assert resolved(batch_size=12, longest=9999, max_length=512)[0].micro_batch_size == 12
    assert resolved(batch_size=12, longest=512, method="grpo", rollout=ROLLOUT)[0].micro_batch_size == 2


def test_a_micro_batch_is_one_of_each_process() -> None:
    auto, reasons = resolved(batch_size=16, processes=4)
    assert (auto.micro_batch_size, reasons["micro_batch_size"]) == (4, "4 (at most 8,192 tokens at once)")
    given, reasons = resolved(batch_size=24, micro_batch_size=8, processes=2)
    assert (given.micro_batch_size, reasons) == (
        6,
        {"micro_batch_size": "6 instead of 8 (each process has 12 samples of a batch)"}
        | {name: reasons[name] for name in ("max_length", "learning_rate")},
    )
    for batch_size, processes in ((2, 4), (16, 3)):
        with pytest.raises(CheckFailed, match=rf"batch_size {batch_size} cannot be dealt out to {processes} processes"):
            resolved(batch_size=batch_size, processes=processes)


def test_no_row_is_longer_than_what_the_model_holds() -> None:
    phase, reasons = resolved(longest=3000)
    assert (phase.max_length, reasons["max_length"]) == (
        2048,
        "2,048 (all that the model holds; the longest sample has 3,000)",
    )
    phase, reasons = resolved(longest=100, max_length=4096)
    assert (phase.max_length, reasons["max_length"]) == (
        2048,
        "2,048 instead of 4,096 (all that the model holds; the longest sample has 100)",
    )
