"""One machine, two models on its processor: the embedded server and the student in this process take turns.

Two of them at once share the cores so badly (each waits at its barriers for threads that the other keeps from running)
that both together are several times slower than one after the other (docs/log.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager


class Turns:
    """Requests to the server run beside each other; a conversation in this process runs alone."""

    def __init__(self) -> None:
        self._there, self._here, self._alone = _Side(), _Side(), asyncio.Lock()

    def request(self) -> AbstractAsyncContextManager[None]:
        """To the server."""
        return _beside(self._there, self._here)

    @contextlib.asynccontextmanager
    async def conversation(self) -> AsyncGenerator[None]:
        """In this process: all that there is to answer when no request can go on, one after the other."""
        async with _beside(self._here, self._there), self._alone:
            yield


class _Side:
    def __init__(self) -> None:
        self.running = 0
        self.is_empty = asyncio.Event()
        self.is_empty.set()


@contextlib.asynccontextmanager
async def _beside(mine: _Side, other: _Side) -> AsyncGenerator[None]:
    while other.running:
        await other.is_empty.wait()
    mine.running += 1
    mine.is_empty.clear()
    try:
        yield
    finally:
        mine.running -= 1
        if not mine.running:
            mine.is_empty.set()
