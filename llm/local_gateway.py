"""A model folder of this machine, asked as a `Gateway` is: ledger first, one conversation at a time.

For models that have no server: the student and its releases. They answer greedily, in plain text.

Alone, a conversation's answer follows from it and the machine, whatever else is asked and when. In a batch it does not:
padding and the number of rows decide which of two equally likely words comes (docs/decisions/0009 has the cost).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ..core.fingerprint import canonical_json, text_sha256
from ..core.progress import Progress
from ..core.records import Message
from . import local
from .ask import Answer, RequestFailed
from .ledger import Entry, Ledger, now
from .quiet import quiet_transformers
from .turns import Turns
from .wire import Order


@dataclass(frozen=True)
class LocalModel:
    """A Hugging Face folder. `name` stands for its weights in ledger keys, so it holds their hash."""

    name: str
    folder: Callable[[], Path]
    """Called when the ledger has not all answers: the model may have to be fetched first."""
    system_prompt: str = ""
    """Put before every conversation, as in training and evaluation."""


class LocalGateway:
    """A model in this process behind the ledger. It is loaded when the ledger cannot answer a request."""

    def __init__(
        self, model: LocalModel, ledger: Ledger, progress: Progress, turns: Turns, *, from_ledger_only: bool = False
    ) -> None:
        self.name, self._from_ledger_only = model.name, from_ledger_only
        self._model, self._ledger, self._progress, self._turns = model, ledger, progress, turns
        self._loaded: tuple[Path, tuple[Any, Any]] | None = None

    async def ask(  # noqa: PLR0913  the call shape of every gateway
        self,
        messages: Sequence[Message],
        *,
        leaf: str,
        step: str,
        schema: dict[str, Any] | None = None,
        max_tokens: int = 512,
        temperature: float = 0.0,
        index: int = 0,
        depth: int = 0,
        prefix: str = "",
    ) -> Answer:
        """The model's answer, or what it answered to the same request before; it may be empty, and it costs nothing.

        `index`, `depth` and `prefix` make no difference here. Raises ModelError; RequestFailed where only the ledger is
        to answer, and cannot.
        """
        if schema is not None or temperature:
            what = f"{self.name} answers greedily and in plain text"
            raise ModelError(what, where=f"{leaf}: {step}", fix="remove `schema` and `temperature` from the prompt")
        system = self._model.system_prompt
        conversation = [*([Message(role="system", content=system)] if system else []), *messages]
        request: dict[str, Any] = {
            "model": self.name,
            "messages": [message.model_dump() for message in conversation],
            "max_tokens": max_tokens,
            "temperature": 0.0,
        }
        order = Order(request, canonical_json(request), leaf, step, depth)
        key = text_sha256(order.text)
        entry = self._ledger.get(key)
        if entry is None and self._from_ledger_only:
            raise RequestFailed((key,), "the ledger has no answer", where=f"{leaf}: {step}")
        if entry is None:
            async with self._turns.conversation():
                entry = self._ledger.get(key)  # others may have asked the same meanwhile
                if entry is None:
                    entry = await _to_the_end(self._answered(key, order, conversation))
        return Answer((key,), entry.completion.text, None, cached=True)

    async def _answered(self, key: str, order: Order, conversation: Sequence[Message]) -> Entry:
        """Written like the body of a server's answer; its tokens are not counted, for nobody is paid for them."""
        began = time.monotonic()
        text = await asyncio.to_thread(self._generate, conversation, order.request["max_tokens"])
        seconds = time.monotonic() - began
        choice = {"finish_reason": "stop", "index": 0, "message": {"content": text, "role": "assistant"}}
        body = json.dumps({"choices": [choice]}, ensure_ascii=False)
        entry = Entry(key, order.leaf, order.step, self.name, order.text, body, 0, 0, now(), seconds)
        return await self._ledger.put_soon(entry)

    def _generate(self, conversation: Sequence[Message], max_tokens: int) -> str:
        if missing := next((name for name in ("torch", "transformers") if find_spec(name) is None), ""):
            fix = "run `pip install 'tilth[train]'`"
            raise ModelError(f"asking the student needs the package {missing}", where=self.name, fix=fix)
        with quiet_transformers():
            if self._loaded is None:
                self._progress.say(f"loading {self.name}")
                folder = self._model.folder()
                self._loaded = folder, local.load(folder)
            return local.answer(*self._loaded, conversation, max_tokens)


async def _to_the_end(answering: Coroutine[Any, Any, Entry]) -> Entry:
    """A thread cannot be stopped: who is cancelled waits for it, so that no other begins beside it."""
    task = asyncio.create_task(answering)
    try:
        return await asyncio.shield(task)
    finally:
        await asyncio.gather(task, return_exceptions=True)
