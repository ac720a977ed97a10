"""A workspace: a taxonomy repository with `tilth.yaml`, and `.tilth/` beside it for everything that tilth writes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from .config import Config, load_config
from .errors import ConfigError, TilthError
from .records import Record

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
        if not _is_text(str(start)):  # no record could name it
            what = f"the path {str(start)!a} is not UTF-8 text"
            raise ConfigError(what, fix="rename the folder, or set PYTHONUTF8=1 if it is text to others")
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

        Commands that read need no lock. Raises TilthError, naming the holder, its pid and since when, when another
        command has it.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "lock").open("a+", encoding="utf-8", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                what = f"another tilth command{_described(file.read())} is writing here"
                raise TilthError(what, where=str(self.root), fix="wait for it to end") from error
            file.truncate(0)
            holder = _Holder(pid=os.getpid(), since=datetime.now(UTC), command=_command()).model_dump_json()
            with contextlib.suppress(OSError):  # a full disk: `tilth releases prune` comes through here
                os.write(file.fileno(), holder.encode(errors="replace"))
            yield


def numbered(folder: Path, file: str = "") -> list[int]:
    """The numbers of the folders there of four digits or more, ascending; of those that have `file`."""
    found = folder.glob("[0-9][0-9][0-9][0-9]*")
    return sorted(int(path.name) for path in found if path.name.isdecimal() and (path / file).exists())


class _Holder(Record):
    """Who took the lock last: what its file says. Whether he still has it the kernel alone knows."""

    pid: int
    since: AwareDatetime
    command: str


def _command() -> str:
    """`tilth cycle`, or the name of the program that uses tilth as a library. No other argument: others may read it."""
    program, *arguments = sys.argv
    name = Path(program).name
    return f"{name} {arguments[0]}" if name == "tilth" and arguments else name.removeprefix("-c") or "python"


def _described(lock: str) -> str:
    """The holder in brackets; older versions wrote the pid alone, and what nobody can read says nothing."""
    if lock.strip().isdecimal():
        return f" (pid {lock.strip()})"
    try:
        holder = _Holder.model_validate_json(lock)
    except ValidationError:
        return ""
    age_s = max(0.0, (datetime.now(UTC) - holder.since).total_seconds())  # less where the clock was set back
    return f" (`{holder.command}`, pid {holder.pid}, for {_age(age_s)})"


def _age(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _is_text(path: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in path)


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
