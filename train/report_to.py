"""The numbers of each step and each epoch in the user's own dashboards: `train.report_to`; nothing by default.

The packages are the user's to install. They are fed by the process that runs the plan, in a thread of its own, so that
a slow one holds nothing up; one that fails on the way costs no training.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from ..core.errors import ConfigError
from .metrics import Step
from .selection import Evaluation

Board = Literal["tensorboard", "wandb", "mlflow", "trackio"]
_PROJECT = "tilth"


@dataclass(frozen=True)
class Run:
    """What a board is told of a phase before its first step."""

    name: str
    id: str
    """The same when the phase goes on after an interruption."""
    folder: Path
    settings: Mapping[str, Any]
    done: int
    """Steps that an earlier run of the phase has behind it."""


Write = Callable[[int, Mapping[str, float]], None]
"""Takes the number of a step, and numbers by name."""
Report = Callable[[Step | Evaluation], None]
"""Takes each step when it is over, and each epoch's evaluation after its last step."""

_opened_before = set[Board]()
"""By this process: that one of them fails to open in a later phase ends no run."""


def require_boards(boards: Sequence[Board]) -> None:
    """Raises ConfigError when a board's package is missing."""
    for board in boards:
        if find_spec(board) is None:
            what = f"reporting to {board} needs its package"
            raise ConfigError(what, where="train.report_to", fix=f"run `pip install {board}`")


@contextlib.contextmanager
def reporting(boards: Sequence[Board], run: Run, say: Callable[[str], None]) -> Generator[Report]:
    """Inside the block: what takes steps and evaluations to all boards; all of them are there when it ends.

    Raises ConfigError when one cannot be opened that this process has not opened before.
    """
    opened, said = dict[Board, _Opened](), SimpleQueue[str]()

    def say_all() -> None:
        while not said.empty():
            say(said.get())

    with ThreadPoolExecutor(1) as thread:

        def report(what: Step | Evaluation) -> None:
            thread.submit(_write, opened, what.step, _numbers(what), said.put)
            say_all()

        try:
            thread.submit(_open, opened, boards, run, said.put).result()
            say_all()
            yield report
        finally:
            thread.submit(_close, opened, said.put).result()
            say_all()


@dataclass(frozen=True)
class _Opened:
    """A board of this phase."""

    write: Write
    close: Callable[[], None]


def _open(opened: dict[Board, _Opened], boards: Sequence[Board], run: Run, say: Callable[[str], None]) -> None:
    for board in boards:
        try:
            with _quiet():
                write, close = _OPEN[board](run)
                opened[board] = _Opened(write if board == "tensorboard" else _once(write, run, board), close)
        except Exception as error:
            if board not in _opened_before:
                what = f"cannot report to {board} ({_first_line(error)})"
                fix = "see to it (who is logged in, which server), or take it out of the list"
                raise ConfigError(what, where="train.report_to", fix=fix) from error
            say(f"nothing of this phase is reported to {board} ({_first_line(error)})")
        else:
            _opened_before.add(board)


def _once(write: Write, run: Run, board: Board) -> Write:
    """For boards that cannot take back what was told: after a kill, steps are done again since the last checkpoint."""
    file = run.folder / f"told-{board}-{run.id}.txt"
    told = set(file.read_text(encoding="utf-8").splitlines()) if file.exists() else set[str]()

    def write_new(step: int, numbers: Mapping[str, float]) -> None:
        line = f"{min(numbers).partition('/')[0]} {step}"
        if line not in told:
            with file.open("a", encoding="utf-8") as lines:
                lines.write(f"{line}\n")
            write(step, numbers)

    return write_new


def _write(opened: dict[Board, _Opened], step: int, numbers: Mapping[str, float], say: Callable[[str], None]) -> None:
    for board, each in list(opened.items()):
        try:
            each.write(step, numbers)
        except Exception as error:  # noqa: BLE001 (whatever the package raises; the numbers are in the phase's files)
            opened[board] = replace(each, write=_to_nobody)
            say(f"nothing more is reported to {board} ({_first_line(error)})")


def _to_nobody(_step: int, _numbers: Mapping[str, float]) -> None:
    """In place of a board that failed."""


def _close(opened: dict[Board, _Opened], say: Callable[[str], None]) -> None:
    for board, each in opened.items():
        try:
            with _quiet():
                each.close()
        except Exception as error:  # noqa: BLE001 (as above)
            say(f"{board} was not closed well ({_first_line(error)})")


def _numbers(what: Step | Evaluation) -> dict[str, float]:
    """By the names under which boards group them: `train/loss`, `evaluation/validation_loss`."""
    if isinstance(what, Step):
        numbers = what.model_dump(exclude={"step", "more"}, exclude_none=True) | dict(what.more)
        return {f"train/{name}": number for name, number in numbers.items()}
    numbers = {
        f"{on}_{name}": number for on in ("training", "validation") for name, number in getattr(what, on).items()
    }
    numbers |= dict(what.more) | ({} if what.held_out is None else {"held_out": what.held_out})
    return {f"evaluation/{name}": number for name, number in numbers.items()}


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Some greet the user on the terminal, which is not ours to let them.

    Not by the level of its logger: mlflow sets one when it is imported.
    """
    was = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(was)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]


def _tensorboard(run: Run) -> tuple[Write, Callable[[], None]]:
    """Event files under the phase's folder: `tensorboard --logdir .tilth/cycles` finds them all."""
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(run.folder / "tensorboard" / run.id), purge_step=run.done + 1)

    def write(step: int, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            writer.add_scalar(name, number, step)

    return write, writer.close


def _wandb(run: Run) -> tuple[Write, Callable[[], None]]:
    package: Any = import_module("wandb")
    opened = package.init(
        project=_PROJECT,
        name=run.name,
        id=run.id,
        resume="allow",
        config=dict(run.settings),
        dir=str(run.folder),
        settings=package.Settings(silent=True),
    )
    return lambda step, numbers: opened.log(dict(numbers), step=step), opened.finish


def _mlflow(run: Run) -> tuple[Write, Callable[[], None]]:
    """At MLFLOW_TRACKING_URI; without that, a database beside the run's phases."""
    package: Any = import_module("mlflow")
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        package.set_tracking_uri(f"sqlite:///{run.folder.parent.resolve() / 'mlflow.db'}")
    experiment = package.set_experiment(_PROJECT).experiment_id
    client = package.MlflowClient()
    found = client.search_runs([experiment], f"tags.tilth = '{run.id}'", max_results=1)
    known = found[0] if found else client.create_run(experiment, tags={"tilth": run.id}, run_name=run.name)
    if not found:
        for name, value in run.settings.items():
            client.log_param(known.info.run_id, name, value)

    def write(step: int, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            client.log_metric(known.info.run_id, name, number, step=step)

    return write, lambda: client.set_terminated(known.info.run_id)


def _trackio(run: Run) -> tuple[Write, Callable[[], None]]:
    package: Any = import_module("trackio")
    package.init(project=_PROJECT, name=f"{run.name}-{run.id}", resume="allow", config=dict(run.settings))
    return lambda step, numbers: package.log(dict(numbers), step=step), package.finish


_OPEN: Mapping[Board, Callable[[Run], tuple[Write, Callable[[], None]]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
