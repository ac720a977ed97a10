"""Opening endpoints from async code: fetching and loading a model run in a thread that can be stopped."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Generator

from ..core.config import ModelServer
from ..core.progress import Progress, Task
from .endpoint import Endpoint, open_endpoints


@contextlib.asynccontextmanager
async def opened(server: ModelServer, progress: Progress) -> AsyncGenerator[list[Endpoint]]:
    """`open_endpoints` for async code. Cancelled while it opens, it stops within a fraction of a second."""
    stop = threading.Event()
    manager = open_endpoints(server, _StoppableProgress(progress, stop))
    opening = asyncio.create_task(asyncio.to_thread(manager.__enter__))
    try:
        endpoints = await asyncio.shield(opening)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([opening])
        if opening.exception() is None:  # it was done just before
            manager.__exit__(None, None, None)
        raise
    try:
        yield endpoints
    finally:
        manager.__exit__(None, None, None)


class _Stopped(BaseException):
    """Raised inside the work by its next report; not an Exception, so that no fallback takes it for a failure."""


class _StoppableProgress:
    """Passes everything on; once `stop` is set, the work ends at its next report. Long work reports all the time."""

    def __init__(self, progress: Progress, stop: threading.Event) -> None:
        self._progress, self._stop = progress, stop

    @contextlib.contextmanager
    def task(self, name: str, *, total: float | None, unit: str) -> Generator[Task]:
        with self._progress.task(name, total=total, unit=unit) as task:
            yield _StoppableTask(task, self._stop)

    def say(self, text: str) -> None:
        self._progress.say(text)


class _StoppableTask:
    def __init__(self, task: Task, stop: threading.Event) -> None:
        self._task, self._stop = task, stop

    def advance(self, amount: float = 1) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._task.advance(amount)

    def grow(self, amount: float) -> None:
        self._task.grow(amount)

    def note(self, text: str) -> None:
        self._task.note(text)
