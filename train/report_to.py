"""The numbers of each step in the user's own dashboards: `train.report_to` in `tilth.yaml`; nothing by default.

The packages are the user's to install; each is fed by the process that runs the plan, and one that fails on the way
costs no training.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ..core.errors import ConfigError
from .metrics import Step

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
"""Takes the number of a step, and its numbers by name."""


def require_boards(boards: Sequence[Board]) -> None:
    """Raises ConfigError when a board's package is missing."""
    for board in boards:
        if find_spec(board) is None:
            what = f"reporting to {board} needs its package"
            raise ConfigError(what, where="train.report_to", fix=f"run `pip install {board}`")


@contextlib.contextmanager
def reporting(boards: Sequence[Board], run: Run, say: Callable[[str], None]) -> Generator[Callable[[Step], None]]:
    """Inside the block: what takes each step to all boards. Raises ConfigError when one cannot be opened."""
    with contextlib.ExitStack() as stack:
        opened = {board: _opened(board, run, stack, say) for board in boards}

        def report(step: Step) -> None:
            numbers = step.model_dump(exclude={"step", "more"}, exclude_none=True) | dict(step.more)
            for board, write in list(opened.items()):
                try:
                    write(step.step, numbers)
                except Exception as error:  # noqa: BLE001 (whatever the package raises; the steps are in metrics.jsonl)
                    del opened[board]
                    say(f"nothing more is reported to {board} ({_first_line(error)})")

        yield report


def _opened(board: Board, run: Run, stack: contextlib.ExitStack, say: Callable[[str], None]) -> Write:
    try:
        with _quiet():
            write, close = _OPEN[board](run)
    except Exception as error:
        fix = "see to it (who is logged in, which server), or take it out of the list"
        raise ConfigError(
            f"cannot report to {board} ({_first_line(error)})", where="train.report_to", fix=fix
        ) from error

    def end() -> None:
        try:
            with _quiet():
                close()
        except Exception as error:  # noqa: BLE001 (as above)
            say(f"{board} was not closed well ({_first_line(error)})")

    stack.callback(end)
    return write


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Some greet the user on the terminal, which is not ours to let them."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        yield
    logger.setLevel(level)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]


def _tensorboard(run: Run) -> tuple[Write, Callable[[], None]]:
    """Event files under the phase's folder: `tensorboard --logdir .tilth/cycles` finds them all."""
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(run.folder / "tensorboard" / run.id), purge_step=run.done + 1)

    def write(step: int, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            writer.add_scalar(f"train/{name}", number, step)

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
    return lambda step, numbers: opened.log(
        {f"train/{name}": n for name, n in numbers.items()}, step=step
    ), opened.finish


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
            client.log_metric(known.info.run_id, f"train/{name}", number, step=step)

    return write, lambda: client.set_terminated(known.info.run_id)


def _trackio(run: Run) -> tuple[Write, Callable[[], None]]:
    package: Any = import_module("trackio")
    package.init(project=_PROJECT, name=f"{run.name}-{run.id}", resume="allow", config=dict(run.settings))
    return lambda step, numbers: package.log(
        {f"train/{name}": n for name, n in numbers.items()}, step=step
    ), package.finish


_OPEN: Mapping[Board, Callable[[Run], tuple[Write, Callable[[], None]]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
