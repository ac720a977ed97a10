"""kill -9 at many moments, and the same call again each time: the weights come out the same to the bit.

The moments are drawn anew in each run from a seed, which is printed with them where a test fails: set TILTH_TEST_SEED
to it for the same ones.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .forks import Forks

METHODS: dict[str, dict[str, Any]] = {
    "sft": {"kinds": ["knowledge_short"], "neftune_alpha": 5.0},
    "sft-lora": {"kinds": ["knowledge_short"], "adapter": "lora", "lora": {"rank": 4, "alpha": 8, "dropout": 0.2}},
    "dpo": {"method": "dpo", "kinds": ["preference"]},
    "kto": {"method": "kto", "kinds": ["preference"], "adapter": "lora", "lora": {"rank": 4}},
    "reward": {"method": "reward", "kinds": ["preference"]},
    "reward-lora": {"method": "reward", "kinds": ["preference"], "adapter": "lora", "lora": {"rank": 4}},
}
"""Twelve steps each, three an epoch, of two micro-batches for each process, with a checkpoint after every one."""
COMMON = {
    "name": "p",
    "epochs": 4,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup_ratio": 0.2,
    "batch_size": 4,
    "micro_batch_size": 2,
    "select": {"by": "validation_loss", "validation": 0.25},
}
STEPS = 12
SEED = os.environ.get("TILTH_TEST_SEED") or str(random.randrange(10**6))
LAST = {"name": "last", "kinds": ["knowledge_short"], "epochs": 1, "batch_size": 8}
"""A plan has a phase that trains the model itself."""


@pytest.fixture(scope="module")
def forks(student: Path) -> Generator[Forks]:
    started = Forks(student)
    yield started
    started.close()


def what_was_done(folder: Path) -> dict[str, Any]:
    """All that a phase leaves but the clock's part."""
    out = folder / "out" / "01-p"
    done: dict[str, Any] = {"result": json.loads((out / "result.json").read_text())}
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        done[name] = [json.loads(line) for line in (out / name).read_text().splitlines()]
        for line in done[name]:
            for of_the_clock in ("seconds", "tokens_per_s", "mfu"):
                line.pop(of_the_clock, None)
    del done["result"]["seconds"], done["result"]["tokens_per_s"]
    return done


@pytest.fixture
def folders(make: SimpleNamespace, tmp_path: Path) -> tuple[Path, Path]:
    """For a run that goes straight to its end, and for one that is killed."""
    pairs = [make.pair(f"What is {i}?", f"It is {i}.", "No" + " no" * (i % 4)) for i in range(16)]
    for name in ("straight", "killed"):
        make.file(tmp_path / name / "new.jsonl", make.samples(16))
        make.file(tmp_path / name / "pairs.jsonl", pairs)
    return tmp_path / "straight", tmp_path / "killed"


def moments_of(straight: Path, windows: list[int], rng: random.Random) -> list[dict[str, int]]:
    """In the order of time, one after each of so many steps, at something that a process did then in a run to the end.

    After 0 steps that begins with the phase's data; after the last one it ends with the removal of its checkpoints.
    """
    print(f"TILTH_TEST_SEED={SEED}")  # noqa: T201 (shown where a test fails)
    found: list[dict[str, int]] = []
    logs = [log.read_text().splitlines() for log in sorted(straight.glob("events-*"))]
    for after in sorted(windows):
        rank = rng.randrange(len(logs))
        events = [line for line in logs[rank] if line.startswith(f"{after} ")]
        number = rng.randint(1, len(events))
        print(f"process {rank}, event {number} of {len(events)}: {events[number - 1]}")  # noqa: T201
        found.append({"after": after, "event": number, "rank": rank})
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "times"), [("sft", 15), ("sft-lora", 15), ("dpo", 15), ("reward", 15), ("kto", 4), ("reward-lora", 4)]
)
def test_kill_9_at_any_moment_changes_no_bit(method: str, times: int, forks: Forks, folders: tuple[Path, Path]) -> None:
    phases = [COMMON | METHODS[method]]
    phases += [LAST] if method.startswith("reward") else []
    straight, killed = folders
    assert forks.run(straight, phases) == 0
    rng = random.Random(SEED + method)
    twice = rng.sample(range(STEPS), max(0, times - STEPS - 1))
    once = rng.sample(range(STEPS + 1), times - len(twice))
    for moment in moments_of(straight, [*once, *twice], rng):
        assert forks.run(killed, phases, **moment) == -signal.SIGKILL
    assert forks.run(killed, phases) == 0
    assert what_was_done(killed) == what_was_done(straight)
    assert what_was_done(straight)["result"]["steps"] == STEPS
    assert sorted(path.name for path in (killed / "out" / "01-p").iterdir()) == [
        "data.jsonl", "evaluations.jsonl", "metrics.jsonl", "mix.json", "model", "result.json", "validation.jsonl",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "distributed", "times", "share"),
    [
        ("sft", "none", 5, "rng_state_1.pth"),
        ("sft-lora", "none", 5, "rng_state_1.pth"),
        ("dpo", "none", 5, "rng_state_1.pth"),
        ("reward", "none", 5, "rng_state_1.pth"),
        ("sft", "fsdp", 2, "pytorch_model_fsdp_0/__1_0.distcp"),
        ("dpo", "fsdp", 2, "pytorch_model_fsdp_0/__1_0.distcp"),
        pytest.param(
            *("sft", "zero3", 2, "*/*zero_pp_rank_1*_optim_states.pt"),
            marks=pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed"),
        ),
    ],
)
def test_kill_9_of_one_process_or_of_all_changes_no_bit(
    method: str, distributed: str, times: int, share: str, forks: Forks, folders: tuple[Path, Path]
) -> None:
    phases = [COMMON | METHODS[method] | {"micro_batch_size": 1}]
    phases += [LAST] if method.startswith("reward") else []
    straight, killed = folders
    train = {"processes": 2, "distributed": distributed}
    assert forks.run(straight, phases, train=train) == 0
    rng = random.Random(SEED + method + distributed)
    of_one = moments_of(straight, rng.sample(range(STEPS + 1), times), rng)
    of_all = {"step": rng.randint(3, STEPS - 3)}
    shared = False
    for moment in sorted([*of_one, of_all], key=lambda moment: moment.get("step", moment.get("after", 0))):
        died = -signal.SIGKILL if "step" in moment else 1
        assert forks.run(killed, phases, train=train, **moment) == died
        shared = shared or any(killed.glob(f"out/01-p/checkpoints/*/checkpoint-*/{share}"))
    assert shared, "the model is not shared at all"
    assert forks.run(killed, phases, train=train) == 0
    assert what_was_done(killed) == what_was_done(straight)
