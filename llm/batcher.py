"""The thread that has a model: it answers side by side what waits when it is free."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .streaming import Answering, StreamingModel

_MOST_TOGETHER = 8
"""Conversations side by side: each takes memory for its keys and values."""
_GATHER_S = 0.02
"""How long the first waits for others: what is sent at once does not arrive at once."""


class _Job(NamedTuple):
    answering: Answering
    ended: Callable[[str], None]


class Batcher:
    """Takes answers to be made from any thread."""

    def __init__(self, model: StreamingModel) -> None:
        self._model = model
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="model")

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Return when the last answer has ended; those on their way must be cancelled before."""
        self._waiting.put(None)
        self._thread.join()

    def submit(self, answering: Answering, ended: Callable[[str], None]) -> None:
        """Answer it soon; then `ended` is called in the model's thread, with why it failed, or empty."""
        self._waiting.put(_Job(answering, ended))

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            time.sleep(_GATHER_S)
            jobs = [first, *self._others()]
            problem = self._answer(jobs)
            for job in jobs:
                if problem and len(jobs) > 1 and not job.answering.tokens:  # one of them, or their number, was too much
                    job.ended(self._answer([job]))
                else:
                    job.ended("" if job.answering.finish else problem)

    def _answer(self, jobs: Sequence[_Job]) -> str:
        """Why they could not be answered, or empty."""
        open_ = [job.answering for job in jobs if not job.answering.finish]
        try:
            if open_:
                self._model.answer(open_)
        except Exception as error:  # noqa: BLE001  whatever it is, out of memory above all, others are to be answered
            return f"{type(error).__name__}: {error}"
        return ""

    def _others(self) -> list[_Job]:
        jobs: list[_Job] = []
        with contextlib.suppress(queue.Empty):
            while len(jobs) + 1 < _MOST_TOGETHER:
                job = self._waiting.get_nowait()
                if job is None:
                    self._waiting.put(None)  # the end, for the next look
                    break
                jobs.append(job)
        return jobs
