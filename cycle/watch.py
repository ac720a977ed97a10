"""A cycle whenever the branch moves, as long as the process lives, and each verdict told once.

A cycle runs in a process of its own: its memory goes with it, and no error of its ends the watch. Between cycles
nothing is held, neither the lock nor a model. What was told last stands in `watch.json`, so that a watch that is
started again neither repeats a verdict nor owes one.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, NoReturn

from pydantic import AwareDatetime

from ..core.atomic import write_json
from ..core.errors import TaxonomyError, TilthError
from ..core.progress import Progress
from ..core.records import Record
from ..core.workspace import Workspace
from ..taxonomy.pull import pull
from ..taxonomy.repository import resolve_commit
from . import journal
from .verdicts import no_verdict, verdict_on_cycle

_TOLD = "watch.json"
_LONGEST_PAUSE_S = 3600.0
_ERROR = "tilth: "
"""How the line begins in which a command tells what went wrong."""
_LAST_LINES_S = 1.0


class News(NamedTuple):
    """What is told of a cycle."""

    outcome: Literal["released", "refused", "judged", "failed"]
    markdown: str
    commit: str
    cycle: int = 0
    """0 where it failed: it goes on."""
    release: int = 0


class _Told(Record):
    """The finished cycle that was told last (`watch.json`)."""

    cycle: int
    finished_at: AwareDatetime | None
    """None: there was none before somebody watched."""
    unanswered: bool = False
    """The judge had not answered all, and is asked again: only what he says then is news."""


@dataclass
class Watch:
    """A workspace's branch, who is told what its cycles come to, and how often to look."""

    workspace: Workspace
    command: Sequence[str]
    """Turns one cycle and prints its result as JSON."""
    tell: Callable[[News], None]
    """Raises TilthError where it cannot; it is tried again then."""
    progress: Progress
    every_s: float
    pulls: bool = False
    """Whether the branch moves on to its upstream before each look."""
    _said: set[str] = field(default_factory=set[str], init=False)
    _failure: tuple[str, str] = field(default=("", ""), init=False)
    """The commit and the error that were told last."""
    _told: _Told | None = field(default=None, init=False)
    """As `watch.json` should say; a full disk may not have taken it."""

    def run(self) -> NoReturn:
        """Turn a cycle now and at each movement of HEAD, until KeyboardInterrupt, which stops a running cycle as well.

        What fails is tried again after a pause that grows up to an hour. Raises TaxonomyError when there is no HEAD.
        """
        self._begin()
        commit, pause_s, again_at_s = "", 0.0, 0.0
        while True:
            head = self._look()
            if head != commit:
                commit, pause_s, again_at_s = head, self.every_s, 0.0
            if time.monotonic() >= again_at_s:
                try:
                    again_at_s = math.inf if not self._busy() and self._turn(commit) else 0.0
                except (TilthError, OSError) as error:
                    again_at_s = time.monotonic() + pause_s
                    self.progress.say(f"{error}; again in {pause_s:g} s, or when the branch moves")
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            time.sleep(self.every_s)

    def _begin(self) -> None:
        """Cycles that ended before somebody watched are no news."""
        if not self._told_path.exists():
            self._write_told(*(journal.finished(self.workspace) or [(0, None)])[-1])

    def _look(self) -> str:
        if self.pulls:
            try:
                pull(self.workspace.root)
                self._said.discard("pull")
            except TaxonomyError as error:
                self._say_once("pull", f"{error}; trying on")
        return resolve_commit(self.workspace.root, "HEAD")

    def _busy(self) -> bool:
        """Whether another command is writing here."""
        try:
            with self.workspace.lock():
                self._said.discard("lock")
                return False
        except TilthError as error:
            self._say_once("lock", str(error))
            return True

    def _turn(self, commit: str) -> bool:
        """Turn a cycle and tell what nobody was told yet; False where another command came first. Raises TilthError."""
        ended = _run(self.command, self.workspace.root, self.progress)
        if ended.result is None:
            if self._busy():
                return False
            self._tell_failure(commit, ended.error)
            raise TilthError(ended.error)
        came = f"{ended.result['outcome']}, no news"
        for number, done in self._untold():
            about = journal.find_cycle(self.workspace, number).commit
            self.tell(News(done.outcome, verdict_on_cycle(self.workspace, number), about, number, done.release))
            self._write_told(number, done)
            came = f"{done.outcome}, told"
        self.progress.say(f"commit {commit[:8]}: {came}")
        number = int(ended.result["cycle"])
        if (done := journal.done(self.workspace, number)) and done.unanswered:
            raise TilthError(f"cycle {number}: {done.unanswered} requests to the judge got no answer")
        return True

    def _untold(self) -> list[tuple[int, journal.Done]]:
        """The cycles that ended since one was told, in that order; those of branches are told to who asked for them."""
        told = self._told or journal.read_record(self._told_path, _Told)
        return [
            (number, done)
            for number, done in journal.finished(self.workspace)
            if done.outcome != "judged"
            and (done.finished_at > told.finished_at if told.finished_at else number > told.cycle)
            and not (done.unanswered and told.unanswered and number == told.cycle)
        ]

    def _tell_failure(self, commit: str, error: str) -> None:
        if self._failure == (commit, error):
            return
        try:
            self.tell(News("failed", no_verdict(self.workspace, commit, error), commit))
            self._failure = (commit, error)
        except TilthError as untold:
            self.progress.say(str(untold))

    def _say_once(self, about: str, text: str) -> None:
        if about not in self._said:
            self.progress.say(text)
            self._said.add(about)

    @property
    def _told_path(self) -> Path:
        return self.workspace.state / _TOLD

    def _write_told(self, number: int, done: journal.Done | None) -> None:
        finished_at, unanswered = (done.finished_at, done.unanswered > 0) if done else (None, False)
        self._told = _Told(cycle=number, finished_at=finished_at, unanswered=unanswered)
        write_json(self._told_path, self._told.model_dump(mode="json"))


class _Ended(NamedTuple):
    result: dict[str, Any] | None
    """None: an error, told in a line."""
    error: str


def _run(command: Sequence[str], root: Path, progress: Progress) -> _Ended:
    """Run a cycle to its end, its lines shown as they come. KeyboardInterrupt stops it, a second one kills it."""
    errors: list[str] = []
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            command,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=out,  # a file: nobody reads it before the end, and a pipe holds little
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is for the watch, which hands it on once
        )
        assert process.stderr
        relay = threading.Thread(target=_relay, args=(process.stderr, progress, errors), daemon=True)
        relay.start()
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        finally:
            process.kill()
            process.wait()
            relay.join(_LAST_LINES_S)  # not for ever: something that it left behind may hold the pipe
        out.seek(0)
        text = out.read().decode(errors="replace")
    if code in {0, 1} and (result := _result(text)):
        return _Ended(result, "")
    return _Ended(None, errors[-1] if errors else _how(code))


def _result(text: str) -> dict[str, Any] | None:
    """What the cycle printed, among what libraries may have printed beside it."""
    for start in re.finditer(r"^\{", text, re.MULTILINE):
        with contextlib.suppress(ValueError):
            value = json.JSONDecoder().raw_decode(text, start.start())[0]
            if value.keys() >= {"cycle", "outcome"}:
                return value
    return None


def _relay(lines: IO[bytes], progress: Progress, errors: list[str]) -> None:
    """Show what a command says, but for the line that tells its error."""
    with lines:
        for line in lines:
            text = line.decode(errors="replace").rstrip("\n")
            if text.startswith(_ERROR):
                errors.append(text.removeprefix(_ERROR))
            else:
                progress.say(text)


def _how(code: int) -> str:
    """What is known of a cycle that ended without a word."""
    return f"the cycle was ended by signal {-code}" if code < 0 else f"the cycle ended with exit code {code}"
