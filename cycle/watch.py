"""A cycle whenever the branch moves, as long as the process lives, and each verdict told once.

A cycle runs in a process of its own: its memory goes with it, and no error of its ends the watch. Between cycles
nothing is held, neither the lock nor a model. What was told stands in `watch.json`, so that a watch that is started
again neither repeats a verdict nor owes one.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, NoReturn

from pydantic import AwareDatetime

from ..core.atomic import read_json, write_json
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


class _Ending(Record):
    """How a cycle had ended when it was told."""

    finished_at: AwareDatetime
    unanswered: bool = False
    """The judge had not answered all, and is asked again: only what he says then is news."""


class _Told(Record):
    """The cycles that were told, or had ended before somebody watched (`watch.json`)."""

    told: Mapping[int, _Ending]


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
        if not (self._told_path.exists() and "told" in read_json(self._told_path)):  # tilth 0.1 noted the last alone
            ended = journal.finished(self.workspace)
            self._write_told({number: _ending(done) for number, done in ended if not done.ref})

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
        number, came = int(ended.result["cycle"]), f"{ended.result['outcome']}, no news"
        for each, done in self._untold(number):
            about = journal.find_cycle(self.workspace, each).commit
            self.tell(News(done.outcome, verdict_on_cycle(self.workspace, each), about, each, done.release))
            self._write_told({**self._read_told(), each: _ending(done)})
            came = f"{done.outcome}, told"
        self.progress.say(f"commit {commit[:8]}: {came}")
        if (done := journal.done(self.workspace, number)) and done.unanswered:
            raise TilthError(f"cycle {number}: {done.unanswered} requests to the judge got no answer")
        return True

    def _untold(self, number: int) -> list[tuple[int, journal.Done]]:
        """What ended and was not told, in that order; of branches only what HEAD's own cycle, this one, came to."""
        told = self._read_told()
        ended = [(each, done) for each, done in journal.finished(self.workspace) if each == number or not done.ref]
        return [(each, done) for each, done in ended if each not in told or _is_news(done, told[each])]

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

    def _read_told(self) -> Mapping[int, _Ending]:
        return (self._told or journal.read_record(self._told_path, _Told)).told

    def _write_told(self, told: Mapping[int, _Ending]) -> None:
        self._told = _Told(told=told)
        write_json(self._told_path, self._told.model_dump(mode="json"))


def _ending(done: journal.Done) -> _Ending:
    return _Ending(finished_at=done.finished_at, unanswered=done.unanswered > 0)


def _is_news(done: journal.Done, told: _Ending) -> bool:
    return done.finished_at != told.finished_at and not (done.unanswered and told.unanswered)


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
