"""`ask`: the one way to a chat model. Ledger first; what is paid for is paid once, and on disk before it is used.

    async with Gateway(config.teacher, ledger, progress) as gateway:
        answer = await gateway.ask(messages, leaf=leaf.id, step="questions", schema=schema)

The endpoint is opened at the first request that the ledger cannot answer: a run over a warm ledger starts no server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ..core.config import ModelServer
from ..core.errors import ModelError
from ..core.fingerprint import canonical_json, fingerprint
from ..core.progress import Progress
from ..core.records import Message
from .client import Client, Failure
from .completion import read_completion
from .endpoint import Endpoint, identity
from .ledger import Entry, Ledger, now
from .opening import opened
from .schema import mismatch


@dataclass(frozen=True)
class Answer:
    """A model's answer. `data` is the parsed JSON when a schema was given; `cached`: it cost nothing this time."""

    key: str
    text: str
    data: Any
    cached: bool


class BadAnswer(ModelError):
    """The model answered, but not as the schema asks. The raw answer is in the ledger under `key`."""

    def __init__(self, key: str, problem: str, *, where: str) -> None:
        super().__init__(problem, where=where)
        self.key = key


@dataclass
class Stats:
    """What went through a gateway. Tokens are those paid for; `cached` counts ledger hits and shared requests."""

    asked: int = 0
    cached: int = 0
    paid: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Retries:
    """How long a request that fails is tried again: after 1, 2, 4, 8 and 16 seconds, then given up."""

    tries: int = 6
    timeouts: int = 2
    """Tries of a request that gets no answer in time: each may have been paid for."""
    first_wait_s: float = 1.0
    longest_wait_s: float = 120.0
    """The longest Retry-After that is obeyed."""


@dataclass(frozen=True)
class _Connection:
    endpoint: Endpoint
    client: Client
    slots: asyncio.Semaphore


class Gateway:
    """A chat model behind the ledger; an async context manager. `role` names it in messages and in `tilth.yaml`."""

    def __init__(
        self,
        server: ModelServer,
        ledger: Ledger,
        progress: Progress,
        *,
        seed: int = 42,
        role: str = "teacher",
        retries: Retries = Retries(),
    ) -> None:
        self.stats = Stats()
        self._server, self._ledger, self._progress = server, ledger, progress
        self._seed, self._role, self._retries = seed, role, retries
        self._identity = identity(server)
        self._stack = contextlib.AsyncExitStack()
        self._opening: asyncio.Task[_Connection] | None = None
        self._in_flight: dict[str, asyncio.Task[Entry]] = {}
        self._on_the_wire: set[str] = set()
        self._ending = False
        self._in_trouble = False

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the endpoint. After an error what is on the wire, and paid for, is waited for; a stop stops at once."""
        self._ending = True
        kept = self._on_the_wire if isinstance(error, Exception) else frozenset[str]()
        if kept:
            self._progress.say(f"{self._role}: waiting for answers that are on their way ({len(kept)})")
        tasks: dict[str, asyncio.Task[Any]] = {**self._in_flight}
        if self._opening:
            tasks["opening"] = self._opening
        for key, task in tasks.items():
            if key not in kept:
                task.cancel()
        try:
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        finally:
            await self._stack.aclose()

    async def ask(  # noqa: PLR0913  one call shape for every flow
        self,
        messages: Sequence[Message],
        *,
        leaf: str,
        step: str,
        schema: dict[str, Any] | None = None,
        max_tokens: int = 512,
        temperature: float = 0.0,
        index: int = 0,
    ) -> Answer:
        """Ask the model, or read what it answered to the same request before.

        `index` tells repeated samples of one prompt apart. Raises BadAnswer when the answer is empty or does not fit
        the schema (again on every repetition, at no cost), ModelError when there is none.
        """
        request: dict[str, Any] = {
            "model": self._identity,
            "messages": [message.model_dump() for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": int(fingerprint([self._seed, index], length=8), 16)
            >> 1,  # 31 bits: servers differ in what they take
        }
        if schema is not None:
            wrapped = {"name": "answer", "schema": schema, "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": wrapped}
        key = fingerprint(request, length=64)
        self.stats.asked += 1
        entry = self._ledger.get(key)
        cached = entry is not None or key in self._in_flight
        if entry is None:
            entry = await self._shared(key, request, leaf, step)
        self.stats.cached += cached
        return _read(entry, schema, cached=cached, where=f"{leaf}: {step}")

    async def _shared(self, key: str, request: Mapping[str, Any], leaf: str, step: str) -> Entry:
        """Wait for the one call of this request. A waiter that is cancelled does not take the call with it."""
        task = self._in_flight.get(key)
        if task is None:
            task = self._in_flight[key] = asyncio.create_task(self._pay(key, request, leaf, step))
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    def _landed(self, key: str, task: asyncio.Task[Entry]) -> None:
        del self._in_flight[key]
        if not task.cancelled():
            task.exception()  # seen, even if every waiter was cancelled meanwhile

    async def _pay(self, key: str, request: Mapping[str, Any], leaf: str, step: str) -> Entry:
        connection = await self._connect()
        async with connection.slots:
            body, seconds = await self._send(connection, {**request, "model": connection.endpoint.model}, key)
            # No await from here to the commit: nothing can cancel between an answer and its place on disk.
            tokens = read_completion(body)
            entry = self._ledger.put(
                Entry(
                    key=key,
                    leaf=leaf,
                    step=step,
                    model=self._identity,
                    request=canonical_json(request),
                    response=body,
                    prompt_tokens=tokens.prompt_tokens,
                    completion_tokens=tokens.completion_tokens,
                    created_at=now(),
                    seconds=seconds,
                )
            )
        self._in_trouble = False
        self.stats.paid += 1
        self.stats.prompt_tokens += entry.prompt_tokens
        self.stats.completion_tokens += entry.completion_tokens
        return entry

    async def _connect(self) -> _Connection:
        """Open the endpoint once; all who wait share the outcome, an error too."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> _Connection:
        endpoint = await self._stack.enter_async_context(opened(self._server, self._progress))
        client = await self._stack.enter_async_context(Client(endpoint))
        return _Connection(endpoint, client, asyncio.Semaphore(endpoint.concurrency))

    async def _send(self, connection: _Connection, body: Mapping[str, Any], key: str) -> tuple[str, float]:
        """The answer's body and the seconds it took. Tries again as `Retries` says; raises ModelError."""
        tries, paid = 0, self.stats.paid
        while True:
            started = time.monotonic()
            self._on_the_wire.add(key)
            try:
                return await connection.client.complete(body), time.monotonic() - started
            except Failure as failure:
                if failure.kind == "busy" and self.stats.paid > paid:
                    tries, paid = 0, self.stats.paid  # others get answers: the server rations, it does not fail
                tries += 1
                wait_s = self._wait_s(failure, tries, key)
                if tries >= self._most_tries(connection.endpoint, failure) or wait_s > self._retries.longest_wait_s:
                    raise self._error(connection.endpoint, failure, tries) from failure
                self._tell(failure, wait_s)
            finally:
                self._on_the_wire.discard(key)
            await asyncio.sleep(wait_s)

    def _most_tries(self, endpoint: Endpoint, failure: Failure) -> int:
        never_there = failure.kind == "unreachable" and not self.stats.paid
        if failure.kind == "rejected" or never_there or endpoint.ended() or self._ending:
            return 1
        return self._retries.timeouts if failure.kind == "timeout" else self._retries.tries

    def _wait_s(self, failure: Failure, tries: int, key: str) -> float:
        spread = 1 + int(key[:4], 16) / 0x10000 / 4  # up to a quarter more, so that not all come back at once
        return (failure.retry_after_s or self._retries.first_wait_s * 2 ** (tries - 1)) * spread

    def _tell(self, failure: Failure, wait_s: float) -> None:
        """One line per burst of trouble, not one per request."""
        if not self._in_trouble:
            self._in_trouble = True
            self._progress.say(f"{self._role}: {failure.what}; trying again in {wait_s:.0f} s")

    def _error(self, endpoint: Endpoint, failure: Failure, tries: int) -> ModelError:
        again = "run the same command again: what was answered is kept"
        if reason := endpoint.ended():
            return ModelError(f"the {self._role}'s server ended ({reason})", where=endpoint.model, fix=again)
        if failure.kind == "unreachable":
            fix = f"start it or set {self._role}.base_url"
            return ModelError(f"cannot reach the {self._role} at {endpoint.base_url}", fix=fix)
        fixes = {
            401: f"check the key in {self._server.api_key_env}",
            403: f"check the key in {self._server.api_key_env}",
        }
        fixes[404] = f"check {self._role}.base_url and {self._role}.model"
        fix = fixes.get(failure.status, "" if failure.kind == "rejected" else again)
        count = f" ({tries} tries)" if tries > 1 else ""
        return ModelError(failure.what + count, where=f"{self._role} at {endpoint.base_url}", fix=fix)


def _read(entry: Entry, schema: Mapping[str, Any] | None, *, cached: bool, where: str) -> Answer:
    completion = entry.completion
    if not completion.text.strip():
        raise BadAnswer(entry.key, "the model answered nothing", where=where)
    if schema is None:
        return Answer(entry.key, completion.text, None, cached)
    if completion.finish_reason == "length":
        raise BadAnswer(entry.key, f"the answer was cut at {completion.completion_tokens} tokens", where=where)
    try:
        data = json.loads(completion.text, parse_constant=_refuse_constant)
        canonical_json(data).encode()  # half of a surrogate pair is legal JSON, but no text that a file can hold
    except (ValueError, RecursionError) as error:
        raise BadAnswer(entry.key, f"the answer is not JSON ({error})", where=where) from error
    if problem := mismatch(data, schema):
        raise BadAnswer(entry.key, problem, where=where)
    return Answer(entry.key, completion.text, data, cached)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
