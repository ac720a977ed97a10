from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tilth.core.errors import ConfigError
from tilth.train import report_to
from tilth.train.metrics import Step
from tilth.train.report_to import Run, reporting, require_boards


def step(number: int) -> Step:
    return Step(
        step=number, epoch=0.5, loss=2.0, learning_rate=1e-3, grad_norm=1.0, tokens=10, trained_tokens=5, seconds=0.1,
        more={"kl": 0.25},
    )  # fmt: skip


def run(folder: Path, done: int = 0) -> Run:
    return Run("0001/01-p", "abc", folder, {"learning_rate": 1e-3}, done)


def test_a_missing_package_is_said_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_to, "find_spec", lambda name: None if name == "wandb" else name)
    require_boards(["tensorboard"])
    with pytest.raises(ConfigError, match=r"^train\.report_to: reporting to wandb needs its package; run `pip install"):
        require_boards(["tensorboard", "wandb"])


def test_a_board_that_fails_on_the_way_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, dict[str, float]]] = []

    def failing(step: int, numbers: Any) -> None:
        if step == 2:
            raise ValueError("no\nnetwork")
        written.append((step, numbers))

    monkeypatch.setitem(report_to._OPEN, "wandb", lambda _run: (failing, lambda: None))  # type: ignore[arg-type]
    said: list[str] = []
    with reporting(["wandb"], run(tmp_path), said.append) as report:
        for number in (1, 2, 3):
            report(step(number))
    assert said == ["nothing more is reported to wandb (ValueError: no)"]
    [(number, numbers)] = written
    assert number == 1
    assert numbers["loss"] == 2.0
    assert numbers["kl"] == 0.25
    assert "mfu" not in numbers


def test_a_board_that_cannot_be_opened_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_run: Run) -> Any:
        raise RuntimeError("not logged in")

    monkeypatch.setitem(report_to._OPEN, "wandb", broken)  # type: ignore[arg-type]
    with (
        pytest.raises(ConfigError, match=r"cannot report to wandb \(RuntimeError: not logged in\)"),
        reporting(["wandb"], run(tmp_path), print),
    ):
        pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tensorboard_shows_each_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for done, steps in ((0, (1, 2, 3)), (2, (3, 4))):  # interrupted after the third, whose checkpoint was the second
        with reporting(["tensorboard"], run(tmp_path, done), print) as report:
            for number in steps:
                report(step(number))
    events = EventAccumulator(str(tmp_path / "tensorboard" / "abc"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
