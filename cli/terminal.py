"""What a person sees while long work runs, and how tables look.

`TerminalProgress` shows `core.progress` on standard error, so that standard output holds results only: one line redrawn
in place on a terminal, a plain line now and then anywhere else (a log, CI).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import TextIO

from ..core.progress import Task
from .streams import CLEAR_LINE

_REDRAW_S = 0.1
_PLAIN_LINE_S = 10.0
_SHORT_BAR, _LONG_BAR = 10, 24


class TerminalProgress:
    """Progress for people. Where several tasks are open at once, the youngest has the line."""

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._tasks: list[_ShownTask] = []
        self._shown_s = 0.0

    @contextlib.contextmanager
    def task(self, name: str, *, total: float | None, unit: str) -> Generator[Task]:
        """Show a task until its block ends, then leave one line with its time; `bytes` are shown as MB or GB."""
        task = _ShownTask(printable(name), total, unit, self._clock, self._changed)
        self._tasks.append(task)
        self._show(task, task.first_line())
        ended_well = False
        try:
            yield task
            ended_well = True
        finally:
            self._tasks.remove(task)
            self.say(task.last_line(ended_well=ended_well))

    def say(self, text: str) -> None:
        """Print one line; an open task goes on below it."""
        self._stream.write(f"{CLEAR_LINE if self._live else ''}{printable(text)}\n")
        if self._live and self._tasks:
            self._show(self._tasks[-1])
        self._stream.flush()

    def _changed(self, task: _ShownTask) -> None:
        if self._clock() - self._shown_s >= (_REDRAW_S if self._live else _PLAIN_LINE_S):
            self._show(self._tasks[-1] if self._live else task)

    def _show(self, task: _ShownTask, plain: str = "") -> None:
        self._shown_s = self._clock()
        if self._live:
            self._stream.write(CLEAR_LINE + task.line(columns(self._stream) - 1))
        else:
            self._stream.write((plain or task.plain_line()) + "\n")
        self._stream.flush()


class _ShownTask:
    """One task's numbers, and the lines that tell them."""

    def __init__(
        self,
        name: str,
        total: float | None,
        unit: str,
        clock: Callable[[], float],
        changed: Callable[[_ShownTask], None],
    ) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._bytes = unit in {"B", "bytes"}
        self._clock, self._changed = clock, changed
        self._done = 0.0
        self._remark = ""
        self._started_s = clock()
        self._marks = deque([(self._started_s, 0.0)], maxlen=30)
        """When how much was done, a second or more apart: the rate of late, for a resumed task starts with a jump."""

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        now = self._clock()
        if now - self._marks[-1][0] >= 1:
            self._marks.append((now, self._done))
        self._changed(self)

    def grow(self, amount: float) -> None:
        self._total = (self._total or 0) + amount
        self._changed(self)

    def note(self, text: str) -> None:
        self._remark = printable(text)
        self._changed(self)

    def first_line(self) -> str:
        return f"{self._name}: {self._amount(self._total)}" if self._total else f"{self._name}: started"

    def plain_line(self) -> str:
        return f"{self._name}: " + ", ".join(part for part in (*self._facts(), self._remark) if part)

    def last_line(self, *, ended_well: bool) -> str:
        took_s = self._clock() - self._started_s
        if not ended_well:
            return f"{self._name}: stopped at {self._count()} after {_duration(took_s)}"
        rate = f" ({self._rate(self._done / took_s)})" if self._done and took_s >= 1 else ""
        count = f"{self._count()} in " if self._done or self._total else "done in "
        remark = f", {self._remark}" if self._remark else ""
        return f"{self._name}: {count}{_duration(took_s)}{rate}{remark}"

    def line(self, cells: int) -> str:
        """The line to be redrawn: a bar where there is room for one, longer where the note leaves some."""
        facts = self._facts()
        room = cells - cells_of("  ".join([self._name, *facts])) - 2
        bar = []
        if self._total and self._done <= self._total and room >= _SHORT_BAR + 2:
            width = max(_SHORT_BAR, min(_LONG_BAR, room - 4 - cells_of(self._remark)))
            filled = int(width * self._done / self._total)
            bar = [f"[{'#' * filled}{' ' * (width - filled)}]"]
        return cut("  ".join([self._name, *bar, *facts, self._remark]).rstrip(), cells)

    def _facts(self) -> list[str]:
        now = self._clock()
        since_s, before = self._marks[0]
        rate = (self._done - before) / (now - since_s) if now > since_s else 0.0
        shown_rate = [self._rate(rate)] if rate else []
        if not self._total or self._done > self._total:  # more than was foreseen: nobody knows how much is left
            return [self._count(), *shown_rate, _duration(now - self._started_s)]
        left = [f"{_duration(max(self._total - self._done, 0) / rate)} left"] if rate else []
        return [f"{self._done / self._total:4.0%}".strip(), self._count(), *shown_rate, *left]

    def _count(self) -> str:
        if self._total is None or self._done >= self._total:
            return self._amount(self._done)
        done = self._amount(self._done) if self._bytes else _number(self._done)
        return f"{done}/{self._amount(self._total)}"

    def _amount(self, number: float) -> str:
        if self._bytes:
            return _megabytes(number)
        return f"{_number(number)} {_singular(self._unit) if number == 1 else self._unit}"

    def _rate(self, per_s: float) -> str:
        if self._bytes:
            return f"{_megabytes(per_s)}/s"
        return f"{per_s:,.0f}/s" if per_s >= 10 else f"{per_s:.2g}/s"


def table(rows: Sequence[Sequence[object]], headers: Sequence[str], *, cells: int | None = None) -> str:
    """Rows under headers in aligned columns, numbers to the right and in thousands; no newline at the end.

    With `cells` the first column is cut so that lines are no longer than that, but to 12 cells at most.
    """
    texts = [[_cell_text(cell) for cell in row] for row in (headers, *rows)]
    if cells is not None:
        others = sum(max(cells_of(text) for text in column) + 2 for column in list(zip(*texts, strict=True))[1:])
        texts = [[cut(row[0], max(12, cells - others)), *row[1:]] for row in texts]
    widths = [max(cells_of(text) for text in column) for column in zip(*texts, strict=True)]
    numeric = [bool(rows) and all(isinstance(row[index], int | float) for row in rows) for index in range(len(headers))]
    lines: list[str] = []
    for row in texts:
        gaps = [" " * (width - cells_of(text)) for text, width in zip(row, widths, strict=True)]
        parts = [gap + text if right else text + gap for text, gap, right in zip(row, gaps, numeric, strict=True)]
        lines.append("  ".join(parts).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _cell_text(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else printable(str(cell))


def room() -> int | None:
    """The cells of a line on the terminal that is printed to; None where it is none: a pipe gets all."""
    return columns(sys.stdout) if sys.stdout.isatty() else None


def columns(stream: TextIO) -> int:
    """The cells of a line; 80 where nobody knows."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):  # no descriptor behind it
        return 80


def printable(text: str) -> str:
    """One line without control characters: names and notes may quote a contribution, and escapes steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def cells_of(text: str) -> int:
    """The columns that a text takes on a terminal: wide East Asian characters take two, combining marks none."""
    return sum(_cell(character) for character in text)


def _cell(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def cut(text: str, cells: int) -> str:
    """The text, its end replaced by an ellipsis if it takes more cells."""
    if cells_of(text) <= cells:
        return text
    kept = ""
    for character in text:
        if cells_of(kept) + _cell(character) > cells - 1:
            break
        kept += character
    return kept + "…"


def _singular(unit: str) -> str:
    """`leaf` of `leaves`, `answer` of `answers`, `s` of `s`."""
    return f"{unit[:-3]}f" if unit.endswith("ves") else unit[0] + unit[1:].removesuffix("s")


def _number(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"


def _megabytes(number: float) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    """`m:ss`, or `h:mm:ss` from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
