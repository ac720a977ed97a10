"""A model folder of this machine, asked as a `Gateway` is: ledger first, answers of many rows in one batch.

For models that have no server: the student and its releases. They answer greedily, in plain text.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ..core.fingerprint import canonical_json, text_sha256
from ..core.progress import Progress
from ..core.records import Message
from . import local
from .ask import Answer
from .ledger import Entry, Ledger, now
from .quiet import quiet_transformers

_MOST_AT_ONCE = 16


@dataclass(frozen=True)
class LocalModel:
    """A Hugging Face folder. `name` stands for its weights in ledger keys, so it holds their hash."""

    name: str
    folder: Callable[[], Path]
    """Called when the ledger has not all answers: the model may have to be fetched first."""
    system_prompt: str = ""
    """Put before every conversation, as in training and evaluation."""


@dataclass(frozen=True)
class _Order:
    """`request` is the canonical JSON that `key` is the hash of."""

    key: str
    request: str
    conversation: Sequence[Message]
    max_tokens: int
    leaf: str
    step: str


class LocalGateway:
    """A model in this process behind the ledger. It is loaded when the ledger cannot answer a request."""

    def __init__(self, model: LocalModel, ledger: Ledger, progress: Progress) -> None:
        self.name = model.name
        self._model, self._ledger, self._progress = model, ledger, progress
        self._waiting: dict[str, tuple[_Order, asyncio.Future[Entry]]] = {}
        self._working: asyncio.Task[None] | None = None
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

        `index`, `depth` and `prefix` make no difference here. Raises ModelError.
        """
        if schema is not None or temperature:
            what = f"{self.name} answers greedily and in plain text"
            raise ModelError(what, where=f"{leaf}: {step}", fix="remove `schema` and `temperature` from the prompt")
        order = self._order(messages, max_tokens, leaf, step)
        if entry := self._ledger.get(order.key):
            return Answer((order.key,), entry.completion.text, None, cached=True)
        if order.key not in self._waiting:
            self._waiting[order.key] = order, asyncio.get_running_loop().create_future()
        answered = self._waiting[order.key][1]
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        # A waiter that is cancelled takes nobody else's answer with it.
        entry = await asyncio.shield(answered)
        return Answer((order.key,), entry.completion.text, None, cached=True)

    async def close(self) -> None:
        """Drop what waits; the batch that is being answered ends first, for a thread cannot be stopped."""
        for _, answered in self._waiting.values():
            answered.cancel()
        self._waiting.clear()
        if self._working:
            await asyncio.gather(self._working, return_exceptions=True)

    def _order(self, messages: Sequence[Message], max_tokens: int, leaf: str, step: str) -> _Order:
        system = self._model.system_prompt
        conversation = [*([Message(role="system", content=system)] if system else []), *messages]
        request = canonical_json(
            {
                "model": self.name,
                "messages": [message.model_dump() for message in conversation],
                "max_tokens": max_tokens,
                "temperature": 0.0,
            }
        )
        return _Order(text_sha256(request), request, conversation, max_tokens, leaf, step)

    async def _work(self) -> None:
        """Answer all that waits, batch by batch; what comes meanwhile is in the next one."""
        await asyncio.sleep(0)  # siblings that ask in the same breath come along
        while batch := self._next_batch():
            try:
                for (_, answered), entry in zip(batch, await self._answer([order for order, _ in batch]), strict=True):
                    if not answered.done():
                        answered.set_result(entry)
            except Exception as error:  # noqa: BLE001  who waits raises it
                for _, answered in batch:
                    if not answered.done():
                        answered.set_exception(error)
                        answered.exception()  # seen, even if every waiter was cancelled meanwhile
            finally:
                for order, _ in batch:
                    self._waiting.pop(order.key, None)  # `close` may have dropped it

    def _next_batch(self) -> list[tuple[_Order, asyncio.Future[Entry]]]:
        """The longest waiting, and others whose answers may be as long."""
        waiting = list(self._waiting.values())
        return [each for each in waiting if each[0].max_tokens == waiting[0][0].max_tokens][:_MOST_AT_ONCE]

    async def _answer(self, orders: Sequence[_Order]) -> list[Entry]:
        began = time.monotonic()
        texts = await asyncio.to_thread(self._generate, orders)
        seconds = (time.monotonic() - began) / len(orders)
        entries = [self._entry(order, text, seconds) for order, text in zip(orders, texts, strict=True)]
        return list(await asyncio.gather(*map(self._ledger.put_soon, entries)))

    def _generate(self, orders: Sequence[_Order]) -> list[str]:
        if missing := next((name for name in ("torch", "transformers") if find_spec(name) is None), ""):
            fix = "run `pip install 'tilth[train]'`"
            raise ModelError(f"asking the student needs the package {missing}", where=self.name, fix=fix)
        conversations = [order.conversation for order in orders]
        with quiet_transformers():
            if self._loaded is None:
                self._progress.say(f"loading {self.name}")
                folder = self._model.folder()
                self._loaded = folder, local.load(folder)
            return local.answer(*self._loaded, conversations, orders[0].max_tokens)

    def _entry(self, order: _Order, text: str, seconds: float) -> Entry:
        """Written like the body of a server's answer; its tokens are not counted, for nobody is paid for them."""
        choice = {"finish_reason": "stop", "index": 0, "message": {"content": text, "role": "assistant"}}
        response = json.dumps({"choices": [choice]}, ensure_ascii=False)
        return Entry(order.key, order.leaf, order.step, self.name, order.request, response, 0, 0, now(), seconds)
