"""cli/terminal: a redrawn line on a terminal, plain lines elsewhere, aligned tables."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios

import pytest
from tilth.cli.terminal import TerminalProgress, table

CLEAR = "\r\x1b[K"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What was ever written to a line, in order."""
        return [line.removesuffix("\n") for line in self.getvalue().split(CLEAR)[1:]]


@pytest.fixture(autouse=True)
def _a_capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_terminal_gets_one_line_redrawn_in_place(clock: Clock) -> None:
    screen = Screen()
    with TerminalProgress(screen, clock=clock).task("birds", total=40, unit="samples") as task:
        clock.now += 5
        task.advance(10)
        clock.now += 1
        task.note("2 rejects")
    assert screen.lines() == [
        "birds  [                        ]  0%  0/40 samples",
        "birds  [######                  ]  25%  10/40 samples  2/s  0:15 left",
        "birds  [#####                ]  25%  10/40 samples  1.7/s  0:18 left  2 rejects",
        "birds: 10/40 samples in 0:06 (1.7/s), 2 rejects",
    ]
    assert screen.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("unit", "one"), [("answers", "1 answer"), ("passages", "1 passage"), ("leaves", "1 leaf"), ("s", "1 s")]
)
def test_one_of_a_thing_is_told_as_one(unit: str, one: str, clock: Clock) -> None:
    log = io.StringIO()
    with TerminalProgress(log, clock=clock).task("birds", total=1, unit=unit) as task:
        task.advance()
    assert log.getvalue().splitlines() == [f"birds: {one}", f"birds: {one} in 0:00"]


def test_a_terminal_is_redrawn_ten_times_a_second_at_most(clock: Clock) -> None:
    screen = Screen()
    with TerminalProgress(screen, clock=clock).task("birds", total=1024, unit="samples") as task:
        for _ in range(1024):
            clock.now += 1 / 512
            task.advance()
    assert 18 <= len(screen.lines()) <= 22
    assert screen.lines()[-1] == "birds: 1,024 samples in 0:02 (512/s)"


def test_elsewhere_a_plain_line_comes_every_ten_seconds(clock: Clock) -> None:
    log = io.StringIO()
    with TerminalProgress(log, clock=clock).task("birds", total=60, unit="samples") as task:
        for _ in range(24):
            clock.now += 1
            task.advance(2.5)
    assert log.getvalue().splitlines() == [
        "birds: 60 samples",
        "birds: 42%, 25/60 samples, 2.5/s, 0:14 left",
        "birds: 83%, 50/60 samples, 2.5/s, 0:04 left",
        "birds: 60 samples in 0:24 (2.5/s)",
    ]


def test_a_dumb_terminal_gets_plain_lines(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = Screen()
    with TerminalProgress(screen, clock=clock).task("birds", total=None, unit="samples"):
        pass
    assert screen.getvalue() == "birds: started\nbirds: done in 0:00\n"


def test_bytes_are_megabytes_and_gigabytes(clock: Clock) -> None:
    log = io.StringIO()
    with TerminalProgress(log, clock=clock).task("teacher.gguf", total=1_117_320_768, unit="bytes") as task:
        clock.now += 100
        task.advance(98_362_432)
        clock.now += 3600
        task.advance(1_117_320_768 - 98_362_432)
    assert log.getvalue().splitlines() == [
        "teacher.gguf: 1.12 GB",
        "teacher.gguf: 9%, 98.4 MB/1.12 GB, 1.0 MB/s, 17:16 left",
        "teacher.gguf: 100%, 1.12 GB, 0.3 MB/s, 0:00 left",
        "teacher.gguf: 1.12 GB in 1:01:40 (0.3 MB/s)",
    ]


def test_more_than_was_foreseen_is_no_share_of_it(clock: Clock) -> None:
    screen = Screen()
    with TerminalProgress(screen, clock=clock).task("birds", total=4, unit="samples") as task:
        clock.now += 8
        task.advance(6)
    assert screen.lines()[1:] == ["birds  6 samples  0.75/s  0:08", "birds: 6 samples in 0:08 (0.75/s)"]


def test_without_a_total_the_time_taken_is_shown(clock: Clock) -> None:
    screen = Screen()
    with TerminalProgress(screen, clock=clock).task("birds", total=None, unit="samples") as task:
        clock.now += 8
        task.advance(4)
    assert screen.lines()[1:] == ["birds  4 samples  0.5/s  0:08", "birds: 4 samples in 0:08 (0.5/s)"]


def test_the_rate_is_that_of_late(clock: Clock) -> None:
    log = io.StringIO()
    with TerminalProgress(log, clock=clock).task("birds", total=1000, unit="samples") as task:
        task.advance(500)  # what the ledger had
        for _ in range(100):
            clock.now += 1
            task.advance(1)
    assert "birds: 60%, 600/1,000 samples, 1/s, 6:40 left" in log.getvalue()


def interrupt(progress: TerminalProgress) -> None:
    with progress.task("birds", total=9, unit="steps") as task:
        task.advance(3)
        raise KeyboardInterrupt


def test_an_interrupted_task_says_how_far_it_came(clock: Clock) -> None:
    log = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        interrupt(TerminalProgress(log, clock=clock))
    assert log.getvalue().splitlines()[-1] == "birds: stopped at 3/9 steps after 0:00"


def test_a_said_line_stands_above_the_open_task(clock: Clock) -> None:
    screen = Screen()
    progress = TerminalProgress(screen, clock=clock)
    with progress.task("birds", total=None, unit="samples"):
        progress.say("2 leaves reused")
    still_open = "birds  0 samples  0:00"
    assert screen.lines() == [still_open, "2 leaves reused", still_open, "birds: done in 0:00"]
    assert screen.getvalue().count("\n") == 2


def test_of_two_open_tasks_the_younger_has_the_line(clock: Clock) -> None:
    screen = Screen()
    progress = TerminalProgress(screen, clock=clock)
    with progress.task("cycle", total=2, unit="stages") as outer:
        with progress.task("birds", total=None, unit="samples"):
            clock.now += 1
            outer.advance()
        clock.now += 1
        outer.advance()
    assert [line.split("  ")[0] for line in screen.lines()] == [
        "cycle",
        "birds",
        "birds",
        "birds: done in 0:01",
        "cycle",
        "cycle",
        "cycle: 2 stages in 0:02 (1/s)",
    ]


def test_control_characters_do_not_reach_the_terminal() -> None:
    screen = Screen()
    progress = TerminalProgress(screen)
    with progress.task("a\x1b[2Jb", total=None, unit="samples") as task:
        task.note("c\nd\x07")
    progress.say("e\rf")
    assert "\x1b" not in screen.getvalue().replace(CLEAR, "")
    assert "\x07" not in screen.getvalue()
    assert screen.lines()[-1] == "e f"


@pytest.mark.parametrize("columns", [10, 30, 60, 200])
def test_a_line_fits_the_terminal(columns: int, clock: Clock) -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with (
        os.fdopen(leader, "rb", buffering=0) as screen,
        os.fdopen(follower, "w", encoding="utf-8") as stream,
        TerminalProgress(stream, clock=clock).task("knowledge/鳥", total=4000, unit="samples") as task,
    ):
        clock.now += 3
        task.note("a long remark that goes on and on" * 9 + "\x07")
        shown = b""
        while shown.count(CLEAR.encode()) < 2 or "…".encode() not in shown:
            shown += screen.read(4096)
    _, first, second = shown.decode().split(CLEAR)
    widths = [len(line) + line.count("鳥") for line in (first, second)]  # that character takes two columns
    assert widths[0] <= widths[1] == columns - 1
    assert ("[" in second) == (columns > 30)


def test_a_table_is_aligned() -> None:
    rows = [("knowledge/鳥", 1200, "1 of 12"), ("skills/rhyme", 3, "")]
    assert table(rows, ["leaf", "samples", "base"]).splitlines() == [
        "leaf          samples  base",
        "------------  -------  -------",
        "knowledge/鳥    1,200  1 of 12",
        "skills/rhyme        3",
    ]
    assert table([], ["leaf"]) == "leaf\n----"
