from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import Config, Train
from tilth.core.errors import CheckFailed, ModelError
from tilth.core.progress import SilentProgress
from tilth.train import fits, phase
from tilth.train.data import Files, TrainingInputs
from tilth.train.plan import Plan
from tilth.train.results import TrainResult
from tilth.train.run import run_plan
from tilth.train.trainer import PhaseTraining

ADAPTED = {"adapter": "lora", "lora": {"rank": 4, "alpha": 8, "dropout": 0.2}, "neftune_alpha": 5}


@pytest.fixture
def train(student: Path, make: Any, tmp_path: Path) -> Any:
    new = make.file(tmp_path / "new.jsonl", make.samples(10))

    def run(out: str, **settings: Any) -> TrainResult:
        given = {"epochs": 2, "learning_rate": 5e-3, "batch_size": 4, "micro_batch_size": 2, **settings}
        return run_plan(
            Plan.model_validate({"phases": [{"name": "p", "kinds": ["knowledge_short"], **given}]}),
            TrainingInputs(student, Files([new])),
            out=tmp_path / out,
            config=Config(train=Train(checkpoint_every_s=1e9)),
            progress=SilentProgress(),
        )

    return run


@pytest.mark.parametrize("settings", [pytest.param({}, marks=pytest.mark.slow), ADAPTED], ids=["full", "lora"])
@pytest.mark.slow
def test_the_longest_micro_batch_is_rehearsed_and_nothing_remains_of_it(
    settings: dict[str, Any], train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsed: list[list[int]] = []
    rehearse = PhaseTraining.rehearse

    def look(self: PhaseTraining, rows: list[int]) -> None:
        rehearse(self, rows)
        rehearsed.append([self.lengths[row] for row in rows])
        assert sorted(self.lengths)[-2:] == rehearsed[0][::-1]
        assert all(parameter.grad is None for parameter in self.model.parameters())

    monkeypatch.setattr(PhaseTraining, "rehearse", look)
    with_it = train("with", **settings)
    assert len(rehearsed) == 1
    monkeypatch.setattr(phase, "rehearse_first", lambda *_: None)
    without = train("without", **settings)
    assert with_it.phases[0].weights_sha256 == without.phases[0].weights_sha256
    logs = [(tmp_path / name / "01-p" / "metrics.jsonl").read_text().splitlines() for name in ("with", "without")]
    first, second = ([line.split('"seconds"')[0] for line in log] for log in logs)
    assert first == second


def test_too_little_memory_on_a_gpu_shows_before_the_first_step_with_advice(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(PhaseTraining, "rehearse", full)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, int(0.557e9)))
    message = (
        r"phase 'p': its longest micro-batch \(2 x \d+ tokens\) does not fit .* memory; set its micro_batch_size to 1"
    )
    with pytest.raises(ModelError, match=message):
        train("out")
    assert (tmp_path / "out" / "01-p" / "metrics.jsonl").read_text() == ""


def test_too_little_main_memory_is_refused_before_anything_is_trained(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "free_memory", lambda: 1000)
    with pytest.raises(CheckFailed, match=r"phase 'p': training takes about .* and 0\.0 GB are free; use a machine"):
        train("out")
    assert not (tmp_path / "out" / "01-p" / "metrics.jsonl").exists()
