"""How a watch takes what a cycle's process does, with small programs in place of a cycle."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from tilth.core.atomic import read_json, write_json
from tilth.core.errors import TilthError
from tilth.core.progress import SilentProgress
from tilth.cycle.journal import Done, Outcome, finish
from tilth.cycle.watch import News, Watch, _Ended

from ..loop import Loop

NOTHING = "import json; print(json.dumps({'cycle': 0, 'outcome': 'nothing to do', 'rest': 'x' * 1_000_000}))"
WRONG = "raise SystemExit('tilth: a.yaml:1:1: wrong; mend it')"


class Lines(SilentProgress):
    """Keeps what is said, and stops the watch when enough is."""

    def __init__(self, most: int, said: Callable[[], object] = lambda: None) -> None:
        self.lines, self._most, self._said = list[str](), most, said

    def say(self, text: str) -> None:
        self.lines.append(text)
        self._said()
        if len(self.lines) >= self._most:
            raise KeyboardInterrupt


def watched(loop: Loop, script: str, progress: Lines, *, pulls: bool = False) -> list[News]:
    """What is told while `script` stands in for a cycle, until the progress has its lines."""
    news = list[News]()
    watch = Watch(loop.workspace, [sys.executable, "-S", "-c", script], news.append, progress, 0.01, pulls)
    with contextlib.suppress(KeyboardInterrupt):
        watch.run()
    return news


@pytest.fixture
def loop(untouched: Loop, tmp_path: Path) -> Loop:
    return untouched.copy(tmp_path / "taxonomy")


def test_an_error_is_tried_again_after_longer_and_longer_and_told_once(loop: Loop) -> None:
    news = watched(loop, WRONG, progress := Lines(4))
    pauses = ("0.01", "0.02", "0.04", "0.08")
    assert progress.lines == [
        f"a.yaml:1:1: wrong; mend it; again in {pause} s, or when the branch moves" for pause in pauses
    ]
    assert [(each.outcome, each.cycle, each.release) for each in news] == [("failed", 0, 0)]
    assert news[0].markdown.endswith("\n\n`a.yaml:1:1`: wrong; mend it\n")


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("import os; os.kill(os.getpid(), 9)", "the cycle was ended by signal 9; again in 0.01 s"),
        ("raise SystemExit(3)", "the cycle ended with exit code 3; again in 0.01 s"),
        ("print('[INFO] hello')", "the cycle ended with exit code 0; again in 0.01 s"),
        ("print('{', end=''); raise SystemExit(130)", "the cycle ended with exit code 130; again in 0.01 s"),
    ],
)
def test_an_end_without_a_word(loop: Loop, script: str, line: str) -> None:
    news = watched(loop, script, progress := Lines(1))
    assert progress.lines[0].startswith(line)
    assert news[0].outcome == "failed"


def test_the_lines_of_a_cycle_are_shown_and_its_long_result_read(loop: Loop) -> None:
    news = watched(loop, f"import sys; print('at work', file=sys.stderr, flush=True); {NOTHING}", progress := Lines(2))
    assert progress.lines[0] == "at work"
    assert progress.lines[1].endswith(": nothing to do, no news")
    assert (news, read_json(loop.state / "watch.json")) == ([], {"told": {}})


@pytest.mark.parametrize("noise", ["[INFO] hello", "{hello}", "{}", "\\udcff"])
def test_what_else_was_printed_hides_no_result(loop: Loop, noise: str) -> None:
    printed = f"import sys; sys.stdout.reconfigure(errors='surrogateescape'); print('{noise}'); "
    assert watched(loop, f"{printed}{NOTHING}; print('{noise}')", progress := Lines(1)) == []
    assert progress.lines[0].endswith(": nothing to do, no news")


def test_another_command_is_waited_for_and_named_once(loop: Loop) -> None:
    with contextlib.ExitStack() as other:
        other.enter_context(loop.workspace.lock())
        progress = Lines(2, said=lambda: threading.Timer(0.1, other.close).start())
        assert watched(loop, NOTHING, progress) == []
    assert "is writing here" in progress.lines[0]
    assert progress.lines[1].endswith(": nothing to do, no news")


def test_a_remote_that_does_not_answer_is_named_once_and_stops_nothing(loop: Loop) -> None:
    for name, value in {"remote.origin.url": "gone", "branch.main.remote": "origin", "branch.main.merge": "x"}.items():
        subprocess.run(["git", "config", name, value], cwd=loop.root, check=True)
    watched(loop, WRONG, progress := Lines(4), pulls=True)
    assert "git: fatal: " in progress.lines[0]
    assert progress.lines[0].endswith("; trying on")
    assert [line.partition(":")[0] for line in progress.lines[1:]] == ["a.yaml"] * 3


def test_who_is_told_may_fail(loop: Loop) -> None:
    progress = Lines(2)

    def tell(news: News) -> None:
        raise TilthError(f"{news.outcome}: nobody is there")

    command = [sys.executable, "-S", "-c", "raise SystemExit('tilth: wrong')"]
    with pytest.raises(KeyboardInterrupt):
        Watch(loop.workspace, command, tell, progress, 0.01).run()
    assert progress.lines == ["failed: nobody is there", "wrong; again in 0.01 s, or when the branch moves"]


def test_a_process_that_does_not_end_is_killed_by_the_second_stop(loop: Loop) -> None:
    script = "import os, signal, sys, time; signal.signal(15, signal.SIG_IGN); os.kill(os.getppid(), 2)\n"
    script += "time.sleep(0.3); os.kill(os.getppid(), 2); time.sleep(60)"
    progress = Lines(1)
    with pytest.raises(KeyboardInterrupt):
        Watch(loop.workspace, [sys.executable, "-S", "-c", script], list[News]().append, progress, 0.01).run()
    assert progress.lines == []


@pytest.fixture
def seen(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """A watch over cycles that end as a test has it, on a branch that stands where it says."""
    seen = Seen(loop)
    monkeypatch.setattr("tilth.cycle.watch._run", lambda *_: _Ended(seen.result, ""))
    monkeypatch.setattr("tilth.cycle.watch.journal.find_cycle", lambda *_: SimpleNamespace(commit="c0ffee"))
    monkeypatch.setattr("tilth.cycle.watch.verdict_on_cycle", lambda *_: "")
    return seen


class Seen:
    def __init__(self, loop: Loop) -> None:
        self.loop, self.news, self.result = loop, list[tuple[int, str]](), {"cycle": 0, "outcome": "nothing to do"}
        self.is_there = True
        self.watch = Watch(loop.workspace, [], self._tell, SilentProgress(), 0.01)
        self.watch._begin()

    def _tell(self, news: News) -> None:
        if not self.is_there:
            raise TilthError("nobody is there")
        self.news.append((news.cycle, news.outcome))

    def end(self, number: int, outcome: Outcome, hour: int, ref: str = "", unanswered: int = 0) -> None:
        """A cycle ends."""
        at, release = datetime(2026, 3, 1, hour, tzinfo=UTC), number if outcome == "released" else 0
        done = Done(outcome=outcome, release=release, finished_at=at, ref=ref, unanswered=unanswered)
        finish(self.loop.workspace, number, done)

    def turn(self, number: int, outcome: Outcome, hour: int, unanswered: int = 0) -> None:
        """A cycle ends, and the watch's turn ends with it."""
        self.end(number, outcome, hour, unanswered=unanswered)
        self.result = {"cycle": number, "outcome": outcome}
        self.watch._turn("c0ffee")


def test_who_could_not_be_told_is_told_in_the_order_of_the_cycles(seen: Seen) -> None:
    seen.is_there = False
    for number in (1, 2):  # the branch moves on
        with pytest.raises(TilthError, match="nobody is there"):
            seen.turn(number, "refused", hour=number)
    seen.is_there = True
    seen.turn(3, "released", hour=3)
    assert seen.news == [(1, "refused"), (2, "refused"), (3, "released")]
    seen.turn(2, "released", hour=1)  # by hand, with --force, by a clock that was set back
    assert seen.news[3:] == [(2, "released")]


def test_what_a_branch_came_to_is_news_when_it_is_merged(seen: Seen) -> None:
    seen.end(1, "refused", hour=1, ref="branch")
    seen.turn(2, "released", hour=2)
    assert seen.news == [(2, "released")]
    seen.result = {"cycle": 1, "outcome": "refused"}  # as before
    for _ in range(2):
        seen.watch._turn("c0ffee")
    assert seen.news == [(2, "released"), (1, "refused")]


def test_cycles_before_somebody_watched_are_no_news(loop: Loop) -> None:
    seen = Seen(loop)
    seen.end(1, "refused", hour=1)
    write_json(loop.state / "watch.json", {"cycle": 0, "finished_at": None})  # as it was written before
    seen.watch._begin()
    assert seen.watch._untold(1) == []


def test_a_judge_who_is_away_is_asked_again_and_told_of_once(seen: Seen) -> None:
    for hour in (1, 2):
        with pytest.raises(TilthError, match="cycle 1: 7 requests to the judge got no answer"):
            seen.turn(1, "refused", hour=hour, unanswered=7)
    seen.turn(1, "released", hour=3)
    assert seen.news == [(1, "refused"), (1, "released")]


def test_a_verdict_is_told_once_though_the_disk_takes_no_note_of_it(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("tilth.cycle.watch.write_json", full)
        with pytest.raises(OSError, match="No space"):
            seen.turn(1, "released", hour=1)
    assert seen.watch._turn("c0ffee")
    assert seen.news == [(1, "released")]
