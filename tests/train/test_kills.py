"""kill -9 at twenty moments, and the same call again each time: the weights come out the same to the bit.

A process that has loaded the libraries forks a child for each run. A child is killed from outside once it has come to a
step, whatever it does then; or it kills itself, at some opening, renaming or removing of a file of its checkpoints, or
with half of one written.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

_FORKS = """
import gc, json, os, signal, sys, traceback
from pathlib import Path
import torch, peft, transformers
import trl.trainer.dpo_trainer, trl.trainer.reward_trainer, trl.trainer.sft_trainer
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from tilth.core.config import Config, Train
from tilth.core.progress import SilentProgress
from tilth.train.data import Files
from tilth.train.plan import Phase, Plan
from tilth.train.run import run_plan

LOOKED_AT = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
events = saves = 0
save = torch.save

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def watch_files(event, arguments):
    global events
    if event in LOOKED_AT and "/checkpoints/" in str(arguments[0]):
        events += 1
        if events == order["event"]:
            die()

def save_or_half(what, file, *arguments, **more):
    global saves
    saves += 1
    save(what, file, *arguments, **more)
    if saves == order["save"]:
        os.truncate(file, os.path.getsize(file) // 2)
        die()

def train():
    folder = Path(order["folder"])
    sys.addaudithook(watch_files)
    torch.save = save_or_half
    run_plan(Plan(phases=tuple(map(Phase.model_validate, order["phases"]))),
             new=Files([folder / "new.jsonl"], [folder / "pairs.jsonl"]), earlier=Files(),
             student=Path(order["student"]), out=folder / "out", progress=SilentProgress(),
             config=Config(train=Train(checkpoint_every_s=1e-9)))
    (folder / "events").write_text(str(events))

gc.freeze()
for line in iter(sys.stdin.readline, ""):
    child = os.fork()
    if not child:
        order = json.loads(line)
        try:
            train()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.write(1, f"{child}\\n".encode())
    os.write(1, f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\\n".encode())
"""

METHODS: dict[str, dict[str, Any]] = {
    "sft": {"kinds": ["knowledge_short"], "neftune_alpha": 5.0},
    "sft-lora": {"kinds": ["knowledge_short"], "adapter": "lora", "lora": {"rank": 4, "alpha": 8, "dropout": 0.2}},
    "dpo": {"method": "dpo", "kinds": ["preference"]},
    "reward": {"method": "reward", "kinds": ["preference"], "adapter": "lora", "lora": {"rank": 4}},
}
"""Twelve steps each, three an epoch, of two micro-batches, with a checkpoint after every one."""
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
LAST = {"name": "last", "kinds": ["knowledge_short"], "epochs": 1}
"""A plan has a phase that trains the model itself."""


class Forks:
    """The process that forks the runs."""

    def __init__(self, student: Path) -> None:
        self._student = student
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdin
        assert self._process.stdout
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def run(self, folder: Path, phases: list[dict[str, Any]], *, event: int = 0, save: int = 0, step: int = 0) -> int:
        """Train, to the end or to a kill; how the run ended."""
        order = {"folder": str(folder), "student": str(self._student), "phases": phases, "event": event, "save": save}
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()
        child = int(self._answers.readline())
        if step:
            _wait_for_step(folder, step)
            os.kill(child, signal.SIGKILL)
        return int(self._answers.readline())

    def close(self) -> None:
        self._orders.close()
        self._process.wait()
        self._answers.close()


def _wait_for_step(folder: Path, step: int) -> None:
    log = folder / "out" / "01-p" / "metrics.jsonl"
    while not log.exists() or log.read_text().count("\n") < step:
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.1))


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


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_kill_9_at_any_moment_changes_no_bit(method: str, forks: Forks, make: SimpleNamespace, tmp_path: Path) -> None:
    phases = [COMMON | METHODS[method]]
    phases += [LAST] if method == "reward" else []
    pairs = [make.pair(f"What is {i}?", f"It is {i}.", "No" + " no" * (i % 4)) for i in range(16)]
    for name in ("straight", "killed"):
        make.file(tmp_path / name / "new.jsonl", make.samples(16))
        make.file(tmp_path / name / "pairs.jsonl", pairs)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert forks.run(straight, phases) == 0
    events = int((straight / "events").read_text())
    rng = random.Random(method)
    moments = [
        {"event": rng.randint(1, events // 4)},
        {"step": 4},
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
