"""kill -9 at many moments, and the same call again each time: the weights come out the same to the bit."""

from __future__ import annotations

import json
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


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_kill_9_at_any_moment_changes_no_bit(method: str, forks: Forks, folders: tuple[Path, Path]) -> None:
    phases = [COMMON | METHODS[method]]
    phases += [LAST] if method.startswith("reward") else []
    straight, killed = folders
    assert forks.run(straight, phases) == 0
    events = int((straight / "events").read_text())
    rng = random.Random(method)
    moments = [
        {"event": rng.randint(1, events // 4)},
        {"save": rng.randint(1, 4)},
        {"step": 7},
        {"event": rng.randint(1, events // 6)},
    ]
    for moment in moments:
        assert forks.run(killed, phases, **moment) == -signal.SIGKILL
    assert forks.run(killed, phases) == 0
    assert what_was_done(killed) == what_was_done(straight)
    assert what_was_done(straight)["result"]["steps"] == 12
    assert sorted(path.name for path in (killed / "out" / "01-p").iterdir()) == [
        "data.jsonl", "evaluations.jsonl", "metrics.jsonl", "mix.json", "model", "result.json", "validation.jsonl",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "distributed", "share"),
    [
        ("sft-lora", "none", "rng_state_1.pth"),
        ("dpo", "none", "rng_state_1.pth"),
        ("reward-lora", "none", "rng_state_1.pth"),
        ("sft", "none", "rng_state_1.pth"),
        ("sft", "fsdp", "pytorch_model_fsdp_0/__1_0.distcp"),
        ("dpo", "fsdp", "pytorch_model_fsdp_0/__1_0.distcp"),
        pytest.param(
            *("sft", "zero3", "*/*zero_pp_rank_1*_optim_states.pt"),
            marks=pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed"),
        ),
    ],
)
def test_kill_9_of_one_process_or_of_all_changes_no_bit(
    method: str, distributed: str, share: str, forks: Forks, folders: tuple[Path, Path]
) -> None:
    phases = [COMMON | METHODS[method] | {"micro_batch_size": 1}]
    phases += [LAST] if method.startswith("reward") else []
    straight, killed = folders
    train = {"processes": 2, "distributed": distributed}
    assert forks.run(straight, phases, train=train, rank=1) == 0
    events = int((straight / "events").read_text())
    rng = random.Random(method + distributed)
    moments = [{"event": rng.randint(1, events // 2), "rank": 1}, {"save": rng.randint(1, 4)}, {"step": 8}]
    for moment in moments:
        assert forks.run(killed, phases, train=train, **moment) == (-signal.SIGKILL if "step" in moment else 1)
    assert any(killed.glob(f"out/01-p/checkpoints/*/checkpoint-*/{share}")), "the model is not shared at all"
    assert forks.run(killed, phases, train=train) == 0
    assert what_was_done(killed) == what_was_done(straight)
