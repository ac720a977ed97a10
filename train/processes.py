"""The processes of one phase on one machine: started, listened to, asked to stop, ended with one another."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.config import Train
from ..core.environment import for_children
from ..core.errors import ModelError, TilthError
from ..llm.precision import device
from . import determinism
from .metrics import Step
from .selection import Evaluation
from .trainer import Watch
from .worker import Work

_COMMAND = (sys.executable, "-P", "-m", "tilth.train.worker")
"""-P: what lies in the working folder (a contributed taxonomy) is never imported."""
_POLL_S = 0.2
_LAST_WORDS_S = 1.0
"""After a first death: those of the others tell whether it was the cause."""
_KINDS = {kind.__name__: kind for kind in (TilthError, *TilthError.__subclasses__())}


@dataclass(frozen=True)
class Place:
    """Which machine this is, and where all processes of a phase meet."""

    settings: Train
    node: int
    """From 0."""
    host: str
    port: int

    def environment(self, local: int) -> dict[str, str]:
        """What torchrun would tell process `local` of this machine."""
        own = {name: value for name, value in for_children().items() if not name.startswith("ACCELERATE_")}
        threads = max(1, len(os.sched_getaffinity(0)) // self.settings.processes)
        own.setdefault("OMP_NUM_THREADS", str(threads))
        if self.settings.nodes == 1:
            own.setdefault("GLOO_SOCKET_IFNAME", "lo")
        determinism.prepare(own, device())
        if device() == "cpu":
            own["DS_ACCELERATOR"] = "cpu"
        return own | {
            "RANK": str(self.rank(local)),
            "LOCAL_RANK": str(local),
            "WORLD_SIZE": str(self.settings.total_processes),
            "LOCAL_WORLD_SIZE": str(self.settings.processes),
            "MASTER_ADDR": self.host,
            "MASTER_PORT": str(self.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is there already
        }

    def rank(self, local: int) -> int:
        """The number of a process among those of all machines."""
        return self.node * self.settings.processes + local


@dataclass(frozen=True)
class _Failure:
    """Why a process ended. Of several the first of the lowest weight is the cause of the others."""

    weight: int
    error: TilthError


class Processes:
    """The processes of one phase on this machine."""

    def __init__(self, place: Place, file: Path, work: Work) -> None:
        self._place, self._file = place, file
        self._name = work.job.phase.name
        self._heard: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._children: list[subprocess.Popen[bytes]] = []
        self._listeners: list[threading.Thread] = []
        self._ends: dict[int, dict[str, str]] = {}

    def run(self, watch: Watch, elsewhere: Callable[[], str]) -> None:
        """Return when all are done. Steps go to the watch; `elsewhere` says what failed on another machine.

        Raises KeyboardInterrupt when they stopped, the error of the one that failed first.
        """
        try:
            for local in range(self._place.settings.processes):
                self._children.append(self._start(local))
                self._listeners.append(threading.Thread(target=self._listen, args=(local,), daemon=True))
                self._listeners[-1].start()
            failures = self._follow(watch, elsewhere)
        finally:
            self._end()
        if watch.stop_asked and len(self._ends) < len(self._children):
            raise KeyboardInterrupt  # some died of the signal before they could mind it
        if failures:
            raise min(failures, key=lambda failure: failure.weight).error
        for local in range(len(self._children)):
            self._log(local).unlink()
        if any(end["how"] == "stopped" for end in self._ends.values()):
            raise KeyboardInterrupt

    def _start(self, local: int) -> subprocess.Popen[bytes]:
        with self._log(local).open("wb") as log:
            return subprocess.Popen(
                [*_COMMAND, str(self._file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._place.environment(local),
                start_new_session=True,  # Ctrl-C on the terminal is ours to pass on
            )

    def _listen(self, local: int) -> None:
        lines = self._children[local].stdout
        assert lines is not None
        try:
            with lines:
                for line in lines:
                    with contextlib.suppress(ValueError):  # it was killed in the midst of the line
                        self._heard.put((local, json.loads(line)))
        finally:
            self._heard.put((local, None))

    def _follow(self, watch: Watch, elsewhere: Callable[[], str]) -> list[_Failure]:
        """Hear them all out; after a first failure only a moment longer."""
        running, told_to_stop, until = len(self._children), False, float("inf")
        failures: list[_Failure] = []
        while running and time.monotonic() < until:
            if watch.stop_asked and not told_to_stop:
                told_to_stop = True
                for child in self._children:
                    child.terminate()
            if not failures and (what := elsewhere()):
                failures.append(_Failure(3, ModelError(what, where=f"phase {self._name!r}")))
            local, message = self._hear()
            if message and "step" in message:
                watch.on_step(Step.model_validate(message["step"]))
            elif message and "evaluation" in message:
                watch.on_evaluation(Evaluation.model_validate(message["evaluation"]))
            elif message and "say" in message:
                watch.say(message["say"])
            elif message:
                self._ends[local] = message["ended"]
            elif local >= 0:
                running -= 1
                failures += self._failure(local)
            if failures:
                until = min(until, time.monotonic() + _LAST_WORDS_S)
        return failures

    def _hear(self) -> tuple[int, dict[str, Any] | None]:
        try:
            return self._heard.get(timeout=_POLL_S)
        except queue.Empty:
            return -1, None

    def _failure(self, local: int) -> list[_Failure]:
        status, rank, where = self._children[local].wait(), self._place.rank(local), f"phase {self._name!r}"
        end = self._ends.get(local, {"how": "error", "what": self._last_line(local)})
        if end["how"] in {"done", "stopped"}:
            return []
        if end["how"] in _KINDS:
            return [_Failure(1, _KINDS[end["how"]](end["what"], where=end["where"], fix=end["fix"]))]
        log = f"its messages are in {self._log(local)}"
        if status < 0:
            what = f"training process {rank} was killed ({signal.Signals(-status).name})"
            return [_Failure(0, ModelError(what, where=where, fix=f"is the memory full? {log}"))]
        return [_Failure(2, ModelError(f"training process {rank} failed ({end['what']})", where=where, fix=log))]

    def _last_line(self, local: int) -> str:
        lines = self._log(local).read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it left no message")[:400]

    def _log(self, local: int) -> Path:
        return self._file.with_name(f"process-{self._place.rank(local)}.log")

    def _end(self) -> None:
        for child in self._children:
            child.kill()
        for child in self._children:
            child.wait()
            if child.stdin:
                child.stdin.close()
        for listener in self._listeners:
            listener.join()
