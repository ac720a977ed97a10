from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config, Train
from tilth.core.errors import ConfigError
from tilth.core.progress import SilentProgress
from tilth.train import report_to
from tilth.train.data import Files, TrainingInputs
from tilth.train.evaluations import read_evaluations
from tilth.train.metrics import Step
from tilth.train.plan import Phase, Plan
from tilth.train.report_to import Run, reporting, require_boards
from tilth.train.run import run_plan
from tilth.train.selection import Evaluation


@pytest.fixture(autouse=True)
def _nothing_opened_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_to, "_opened_before", set())


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Puts something in the place of the board's opening."""
    return lambda opening: monkeypatch.setitem(report_to._OPEN, "wandb", opening)  # type: ignore[arg-type]


def step(number: int) -> Step:
    return Step(
        step=number, epoch=0.5, loss=2.0, learning_rate=1e-3, grad_norm=1.0, tokens=10, trained_tokens=5, seconds=0.1,
        more={"kl": 0.25},
    )  # fmt: skip


def evaluation(number: int, **more: Any) -> Evaluation:
    validation = {"loss": 1.5, "accuracy": 0.75}
    return Evaluation(epoch=1, step=number, training={"loss": 1.0}, validation=validation, more={"kl_new": 0.1}, **more)


def run(folder: Path, done: int = 0) -> Run:
    return Run("0001/01-p", "abc", folder, {"learning_rate": 1e-3}, done)


def test_a_missing_package_is_said_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_to, "find_spec", lambda name: None if name == "wandb" else name)
    require_boards(["tensorboard"])
    with pytest.raises(ConfigError, match=r"^train\.report_to: reporting to wandb needs its package; run `pip install"):
        require_boards(["tensorboard", "wandb"])


def test_a_board_that_fails_on_the_way_costs_no_training(tmp_path: Path, wandb: Callable[[Any], None]) -> None:
    written: list[tuple[int, dict[str, float]]] = []
    closed: list[int] = []

    def failing(step: int, numbers: Any) -> None:
        if step == 2:
            raise ValueError("no\nnetwork")
        written.append((step, numbers))

    wandb(lambda _run: (failing, lambda: closed.append(1)))
    said: list[str] = []
    with reporting(["wandb"], run(tmp_path), said.append) as report:
        for number in (1, 2, 3):
            report(step(number))
    assert said == ["nothing more is reported to wandb (ValueError: no)"]
    [(number, numbers)] = written
    assert number == 1
    assert numbers["train/loss"] == 2.0
    assert numbers["train/kl"] == 0.25
    assert "train/mfu" not in numbers
    assert closed == [1]


def test_a_slow_board_holds_nothing_up_and_has_all_in_the_end(tmp_path: Path, wandb: Callable[[Any], None]) -> None:
    goes_on, written = threading.Event(), list[int]()

    def slow(step: int, _numbers: Any) -> None:
        goes_on.wait(60)
        written.append(step)

    wandb(lambda _run: (slow, lambda: None))
    with reporting(["wandb"], run(tmp_path), print) as report:
        for number in (1, 2, 3):
            report(step(number))
        assert written == []
        goes_on.set()
    assert written == [1, 2, 3]


def test_a_board_that_greets_and_sets_its_own_level_of_logging_is_not_heard(
    tmp_path: Path, wandb: Callable[[Any], None], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    greeter = logging.getLogger("tilth.tests.greeter")

    def greeting(_run: Run) -> Any:
        greeter.setLevel(logging.INFO)
        greeter.info("a database is made")
        greeter.warning("it is nearly full")
        sys.stdout.write("welcome")
        return lambda _step, _numbers: None, lambda: None

    wandb(greeting)
    with reporting(["wandb"], run(tmp_path), print):
        pass
    assert caplog.messages == ["it is nearly full"]
    assert capsys.readouterr().out == ""
    greeter.info("afterwards")
    assert caplog.messages[1:] == ["afterwards"]


def test_a_board_that_cannot_be_opened_is_an_error_unless_it_was_before(
    tmp_path: Path, wandb: Callable[[Any], None]
) -> None:
    def broken(_run: Run) -> Any:
        raise RuntimeError("not logged in")

    wandb(broken)
    with (
        pytest.raises(ConfigError, match=r"cannot report to wandb \(RuntimeError: not logged in\)"),
        reporting(["wandb"], run(tmp_path), print),
    ):
        pass
    wandb(lambda _run: (lambda _step, _numbers: None, lambda: None))
    with reporting(["wandb"], run(tmp_path), print):
        pass
    wandb(broken)
    said: list[str] = []
    with reporting(["wandb"], run(tmp_path), said.append) as report:
        report(step(1))
    assert said == ["nothing of this phase is reported to wandb (RuntimeError: not logged in)"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_a_run_reports_its_steps_and_its_epochs(student: Path, make: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    given: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 4, "select": {"validation": 0.25}}
    run_plan(
        Plan(phases=(Phase(name="p", kinds=("knowledge_short",), **given),)),
        TrainingInputs(student, Files([make.file(tmp_path / "new.jsonl", make.samples(16))])),
        out=tmp_path / "out",
        config=Config(train=Train(report_to=("tensorboard",))),
        progress=SilentProgress(),
    )
    [folder] = (tmp_path / "out" / "01-p" / "tensorboard").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    measured = read_evaluations(tmp_path / "out" / "01-p" / "evaluations.jsonl")
    told = [(event.step, event.value) for event in events.Scalars("evaluation/validation_loss")]
    assert told == [(each.step, pytest.approx(each.validation["loss"])) for each in measured]
    assert len(events.Scalars("evaluation/validation_accuracy")) == len(events.Scalars("evaluation/kl_new")) == 2


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_shows_each_step_and_each_epoch_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for done, steps in ((0, (1, 2, 3)), (2, (3, 4))):  # interrupted after the third, whose checkpoint was the second
        with reporting(["tensorboard"], run(tmp_path, done), print) as report:
            for number in steps:
                report(step(number))
            report(evaluation(steps[-1], held_out=7))
    events = EventAccumulator(str(tmp_path / "tensorboard" / "abc"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
    told = {name: events.Scalars(name)[-1] for name in events.Tags()["scalars"] if name.startswith("evaluation/")}
    assert {name.partition("/")[2]: event.value for name, event in told.items()} == pytest.approx(
        {"training_loss": 1.0, "validation_loss": 1.5, "validation_accuracy": 0.75, "kl_new": 0.1, "held_out": 7}
    )
    assert [event.step for event in events.Scalars("evaluation/held_out")] == [4]


class FakeWandb:
    """With the signatures of wandb 0.31, and what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, float]] = []
        self.opened: list[dict[str, Any]] = []
        self.finished = 0

    Settings = SimpleNamespace

    def init(
        self,
        *,
        project: str,
        dir: str,  # noqa: A002
        id: str,  # noqa: A002
        name: str,
        config: dict[str, Any],
        resume: str,
        settings: Any,
    ) -> FakeWandb:
        assert (Path(dir).is_dir(), resume, settings.silent) == (True, "allow", True)
        self.opened.append({"project": project, "id": id, "name": name, "config": config})
        return self

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        assert step is not None
        assert commit is None
        self.told += [(name, step, number) for name, number in data.items()]

    def finish(self, exit_code: int | None = None) -> None:
        self.finished += 1


class FakeTrackio:
    """With the signatures of trackio 0.43."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, float]] = []
        self.opened: list[dict[str, Any]] = []
        self.finished = 0

    def init(self, project: str, name: str | None = None, *, config: dict[str, Any], resume: str = "never") -> None:
        assert resume == "allow"
        self.opened.append({"project": project, "id": "abc", "name": name, "config": config})

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        assert step is not None
        self.told += [(name, step, number) for name, number in metrics.items()]

    def finish(self) -> None:
        self.finished += 1


class FakeMlflow:
    """With the signatures of mlflow 3.17; it is its own client."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, float]] = []
        self.opened: list[dict[str, Any]] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.uri, self.finished = "", 0

    def MlflowClient(self) -> FakeMlflow:  # noqa: N802
        return self

    def set_tracking_uri(self, uri: str | Path) -> None:
        self.uri = str(uri)

    def set_experiment(self, experiment_name: str | None = None, experiment_id: str | None = None) -> Any:
        assert experiment_id is None
        return SimpleNamespace(experiment_id=experiment_name)

    def search_runs(
        self, experiment_ids: list[str], filter_string: str = "", run_view_type: int = 1, max_results: int = 1000
    ) -> list[Any]:
        [project] = experiment_ids
        found = [name for name, each in self.runs.items() if filter_string == f"tags.tilth = '{each['id']}'"]
        for name in found:
            self.opened.append(self.runs[name] | {"project": project})
        return [SimpleNamespace(info=SimpleNamespace(run_id=name)) for name in found][:max_results]

    def create_run(
        self, experiment_id: str, start_time: int | None = None, tags: Any = None, run_name: str | None = None
    ) -> Any:
        self.runs["r1"] = {"project": experiment_id, "id": tags["tilth"], "name": run_name, "config": {}}
        self.opened.append(self.runs["r1"])
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    def log_param(self, run_id: str, key: str, value: Any, synchronous: bool | None = None) -> None:
        assert key not in self.runs[run_id]["config"]
        self.runs[run_id]["config"][key] = value

    def log_metric(
        self, run_id: str, key: str, value: float, timestamp: int | None = None, step: int | None = None
    ) -> None:
        assert run_id in self.runs
        assert step is not None
        self.told.append((key, step, value))

    def set_terminated(self, run_id: str, status: str | None = None, end_time: int | None = None) -> None:
        assert run_id in self.runs
        self.finished += 1


@pytest.mark.parametrize(("board", "fake"), [("wandb", FakeWandb), ("trackio", FakeTrackio), ("mlflow", FakeMlflow)])
def test_a_board_is_told_each_step_and_each_epoch_once(
    board: Any, fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    package = fake()
    monkeypatch.setitem(sys.modules, board, package)
    said: list[str] = []
    for done, steps in ((0, (1, 2, 3)), (2, (3, 4))):  # interrupted after the third, whose checkpoint was the second
        with reporting([board], run(tmp_path, done), said.append) as report:
            for number in steps:
                report(step(number))
                if number >= 3:
                    report(evaluation(number, held_out=7))
    assert said == []
    assert [(at, number) for name, at, number in package.told if name == "train/loss"] == [
        (1, 2.0), (2, 2.0), (3, 2.0), (4, 2.0),
    ]  # fmt: skip
    assert [(at, number) for name, at, number in package.told if name == "evaluation/held_out"] == [(3, 7), (4, 7)]
    assert len({(name, at) for name, at, _ in package.told}) == len(package.told)
    first, second = package.opened
    assert first == second
    name = "0001/01-p-abc" if board == "trackio" else "0001/01-p"
    assert first == {"project": "tilth", "id": "abc", "name": name, "config": {"learning_rate": 1e-3}}
    assert package.finished == 2


def test_mlflow_keeps_a_database_beside_the_phases_unless_it_is_told_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", package)
    for address, used in (("", f"sqlite:///{tmp_path}/mlflow.db"), ("http://127.0.0.1:5000", "")):
        package.uri = ""
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        (tmp_path / "01-p").mkdir(exist_ok=True)
        with reporting(["mlflow"], run(tmp_path / "01-p"), print):
            pass
        assert package.uri == used
