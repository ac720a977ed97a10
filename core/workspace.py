"""A workspace: a taxonomy repository with `tilth.yaml`, and `.tilth/` beside it for everything that tilth writes."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from .config import Config, load_config
from .errors import TilthError

CONFIG_NAME = "tilth.yaml"
STATE_NAME = ".tilth"


@dataclass(frozen=True)
class Workspace:
    """The paths of one workspace. `root` is the taxonomy's git repository."""

    root: Path
    config: Config

    @classmethod
    def open(cls, start: Path, overrides: tuple[str, ...] = ()) -> Workspace:
        """The workspace at `start` or in the nearest folder above it. Raises ConfigError when there is none."""
        start = start.resolve()
        for folder in (start, *start.parents):
            if (folder / CONFIG_NAME).is_file():
                return cls(folder, _anchored(load_config(folder / CONFIG_NAME, overrides), folder))
        return cls(start, load_config(start / CONFIG_NAME, overrides))

    @property
    def state(self) -> Path:
        """`.tilth/`: git-ignored, everything in it can be traced to its manifest."""
        return self.root / STATE_NAME

    @property
    def ledger(self) -> Path:
        """The SQLite file of every request to a model and its answer."""
        return self.state / "ledger.db"

    @property
    def store(self) -> Path:
        """Generated samples: one folder per leaf fingerprint, recipe fingerprint and teacher."""
        return self.state / "store"

    @property
    def cycles(self) -> Path:
        """`cycles/NNNN/`: one folder per turn of the loop."""
        return self.state / "cycles"

    @property
    def replay(self) -> Path:
        """`replay/NNNN.jsonl`: what release NNNN has been trained on, sample by sample."""
        return self.state / "replay"

    @property
    def releases(self) -> Path:
        """`releases/NNNN/`: students that passed the gate."""
        return self.state / "releases"

    @contextlib.contextmanager
    def lock(self) -> Generator[None]:
        """Hold the workspace for one writing command; the kernel frees it when the process ends, however it ends.

        Raises TilthError, naming the holder's pid, when another command has it.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                what = f"another tilth command (pid {holder}) is writing here"
                raise TilthError(what, where=str(self.root), fix="wait for it to end") from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


def _anchored(config: Config, root: Path) -> Config:
    """The config with its paths made absolute: they are relative to `tilth.yaml`, wherever the command is run."""
    recipes = {name: _path(value, root) for name, value in config.generate.model_dump().items()}
    student = root / config.student.model
    return config.model_copy(
        update={
            "generate": config.generate.model_copy(update=recipes),
            "train": config.train.model_copy(update={"plan": _path(config.train.plan, root)}),
            "student": config.student.model_copy(update={"model": str(student)})
            if student.is_dir()
            else config.student,
        }
    )


def _path(name: str, root: Path) -> str:
    """A recipe or plan is named by a path if it ends as one."""
    return str(root / name) if name.endswith((".yaml", ".yml")) else name


def model_cache() -> Path:
    """Where embedded models live: `$TILTH_CACHE/models`, by default `~/.cache/tilth/models`."""
    return Path(os.environ.get("TILTH_CACHE") or Path.home() / ".cache" / "tilth") / "models"
