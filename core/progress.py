"""How long work tells how far it is. Libraries report; only the command line prints."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Protocol


class Task(Protocol):
    """One piece of work with a known or unknown end."""

    def advance(self, amount: float = 1) -> None:
        """`amount` more units are done."""
        ...

    def grow(self, amount: float) -> None:
        """The whole is `amount` units more than was thought, or less where it is negative."""
        ...

    def note(self, text: str) -> None:
        """A short remark to show beside the bar: the loss, what was accepted."""
        ...


class Progress(Protocol):
    """Where tasks are shown."""

    def task(self, name: str, *, total: float | None, unit: str) -> contextlib.AbstractContextManager[Task]:
        """Open a task of `total` units (None: unknown). Leaving the block ends it."""
        ...

    def say(self, text: str) -> None:
        """One line of its own: a stage begins, something was reused."""
        ...


class SilentTask:
    """A task that nobody watches."""

    def advance(self, amount: float = 1) -> None:
        """Nothing to show."""

    def grow(self, amount: float) -> None:
        """Nothing to show."""

    def note(self, text: str) -> None:
        """Nothing to show."""


class SilentProgress:
    """Progress that nobody watches: the default for library use and tests."""

    @contextlib.contextmanager
    def task(self, name: str, *, total: float | None, unit: str) -> Generator[Task]:
        """A task that shows nothing."""
        yield SilentTask()

    def say(self, text: str) -> None:
        """Nothing to show."""
