"""`ask`: the one way to a chat model. Ledger first; what is paid for is paid once, and on disk before it is used.

    async with Gateway(config.teacher, ledger, progress) as gateway:
        answer = await gateway.ask(messages, leaf=leaf.id, step="questions", schema=schema)

The endpoints are opened at the first request that the ledger cannot answer: a run over a warm ledger starts no server.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any

from ..core.config import ModelServer
from ..core.errors import ModelError
from ..core.fingerprint import canonical_json, fingerprint, text_sha256
from ..core.progress import Progress
from ..core.records import Message
from .budget import Budget
from .client import Reply
from .completion import Completion
from .endpoint import identity
from .ledger import Entry, Ledger, now
from .schema import mismatch
from .turns import Turns
from .wire import Order, Refused, Retries, TriedInVain, Wire


@dataclass(frozen=True)
class Answer:
    """A model's answer. `data` is the parsed JSON when a schema was given; `cached`: it cost nothing this time."""

    keys: tuple[str, ...]
    """The ledger keys that it rests on: two where the first answer was sent back to be repaired."""
    text: str
    data: Any
    cached: bool
    is_cut: bool = False
    """It ends at `max_tokens`, in plain text; JSON that does is a BadAnswer."""

    @property
    def key(self) -> str:
        """The ledger key of the answer itself."""
        return self.keys[-1]


class RequestFailed(ModelError):
    """One request has no answer that can be used; others may have. `keys` are as in `Answer`."""

    def __init__(self, keys: tuple[str, ...], problem: str, *, where: str) -> None:
        super().__init__(problem, where=where)
        self.keys = keys


class BadAnswer(RequestFailed):
    """The model answered, but not as the schema asks. The raw answer is in the ledger under the last key."""


class Unanswered(ModelError):
    """One request was tried in vain, while others may be answered. Asked again later, it may be too."""

    def __init__(self, key: str, problem: str, *, where: str) -> None:
        super().__init__(problem, where=where, fix="run the same command again: what was answered is kept")
        self.key = key


@dataclass
class Stats:
    """What went through a gateway. Tokens are those paid for; `cached` counts ledger hits and shared requests."""

    asked: int = 0
    cached: int = 0
    paid: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    kept: int = 0
    """Of `cached`, those that were answered before this run."""
    oldest: str = ""
    """When the first of these was, as the ledger writes it."""

    def keep(self, created_at: str) -> None:
        """Count one of them."""
        self.kept += 1
        self.oldest = min(self.oldest or created_at, created_at)


_HOPELESS = 10
"""Requests failed, besides as many as are on the wire, and none answered: it is no matter of single requests."""


class Gateway:
    """A chat model behind the ledger; an async context manager. `role` names it in messages and in `tilth.yaml`.

    `from_ledger_only`: nothing is sent; a request that the ledger cannot answer fails. `known_as` names the model in
    ledger keys; by default its own name does, wherever it is served.
    """

    def __init__(  # noqa: PLR0913  one model with all that its requests share
        self,
        server: ModelServer,
        ledger: Ledger,
        progress: Progress,
        *,
        seed: int = 42,
        role: str = "teacher",
        retries: Retries = Retries(),  # noqa: B008
        budget: Budget | None = None,
        from_ledger_only: bool = False,
        turns: Turns | None = None,
        known_as: str = "",
    ) -> None:
        self.stats, self._began = Stats(), now()
        self.wire = Wire(
            server, progress, role=role, retries=retries, budget=budget or Budget(), turns=turns or Turns()
        )
        self._ledger, self._seed, self._role = ledger, seed, role
        self._identity, self._from_ledger_only = known_as or identity(server), from_ledger_only
        self._in_flight: dict[str, asyncio.Task[Entry]] = {}
        self._waiters: Counter[str] = Counter()
        self._asking: Counter[str] = Counter()
        self._landing = asyncio.Event()
        self._first_of: dict[str, asyncio.Task[Entry]] = {}
        self._has_answered = False
        self._noted: set[str] = set()
        """What this run itself tried in vain."""

    @property
    def name(self) -> str:
        """What names the model in ledger keys."""
        return self._identity

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the endpoints. What is on the wire, and so paid for, is waited for; a stop stops at once."""
        kept = self.wire.end(waiting=error is None or isinstance(error, Exception))
        for key, task in self._in_flight.items():
            if key not in kept:
                task.cancel()
        try:
            await asyncio.gather(*self._in_flight.values(), return_exceptions=True)
        finally:
            await self.wire.close()

    @property
    def unanswered(self) -> int:
        """Requests that this run tried in vain, and that may be answered when they are asked again."""
        return len(self._noted)

    @property
    def most(self) -> int:
        """Requests that may be on the wire at once, to all endpoints."""
        return self.wire.most

    def is_asking(self, leaf: str) -> bool:
        """Whether an answer is waited for, for a leaf, that the ledger did not have."""
        return self._asking[leaf] > 0

    async def room(self) -> None:
        """Wait until less is asked for than would fill the wire twice."""
        while len(self._in_flight) >= 2 * self.most:
            self._landing.clear()
            await self._landing.wait()

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
        depth: int = 0,
        prefix: str = "",
    ) -> Answer:
        """Ask the model, or read what it answered to the same request before.

        `index` tells repeated samples of one prompt apart. `depth`: what hangs on more answers goes first. Requests of
        one `prefix` begin alike: the first goes alone, if there is other work, so that the server has read it for all.
        An answer that does not fit the schema is sent back once to be repaired.

        Raises BadAnswer when the answer is empty or does not fit the schema even so (again on every repetition, at no
        cost), RequestFailed when the endpoint refuses this one request or a second run tries it in vain, Unanswered
        when the first does, ModelError when the endpoint cannot be used at all, and BudgetSpent.
        """
        request: dict[str, Any] = {
            "model": self._identity,
            "messages": [message.model_dump() for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": _seed(self._seed, index),
        }
        if schema is not None:
            wrapped = {"name": "answer", "schema": schema, "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": wrapped}
        entry, cached = await self._answered(request, leaf, step, depth, prefix)
        try:
            return _answer((entry.key,), entry.completion, schema, cached=cached)
        except _Unfit as unfit:
            if not unfit.repairable:
                raise BadAnswer((entry.key,), unfit.problem, where=f"{leaf}: {step}") from unfit
            request = _repair(request, entry.completion.text, unfit.problem)
        first = entry.key
        try:
            entry, again = await self._answered(request, leaf, step, depth + 1, "")
            return _answer((first, entry.key), entry.completion, schema, cached=cached and again)
        except _Unfit as unfit:
            raise BadAnswer((first, entry.key), unfit.problem, where=f"{leaf}: {step}") from unfit
        except RequestFailed as failed:
            raise RequestFailed((first, *failed.keys), failed.what, where=failed.where) from failed

    async def _answered(
        self, request: Mapping[str, Any], leaf: str, step: str, depth: int, prefix: str
    ) -> tuple[Entry, bool]:
        """The ledger's entry of a request, and whether it was there, or on its way, already."""
        order = Order(request, canonical_json(request), leaf, step, depth)
        key = text_sha256(order.text)
        self.stats.asked += 1
        entry = self._ledger.get(key)
        if entry is None and self._from_ledger_only:
            raise RequestFailed((key,), "the ledger has no answer", where=f"{leaf}: {step}")
        if entry is None and prefix and key not in self._in_flight and await self._after_first(prefix):
            entry = self._ledger.get(key)  # others may have asked the same meanwhile
        if entry:
            self._has_answered = True
            self.stats.cached += 1
            if entry.created_at < self._began:
                self.stats.keep(entry.created_at)
            return entry, True
        on_its_way = key in self._in_flight
        self.stats.cached += on_its_way
        if not on_its_way:
            task = self._in_flight[key] = asyncio.create_task(self._pay(key, order))
            task.add_done_callback(lambda done: self._landed(key, done))
            if prefix and prefix not in self._first_of:
                self._first_of[prefix] = task
                task.add_done_callback(lambda _: self._first_of.pop(prefix, None))
        return await self._waited(key, leaf), on_its_way

    async def _waited(self, key: str, leaf: str) -> Entry:
        """The answer that is on its way. If nobody waits for it any more, it is not sent, unless it was already."""
        task = self._in_flight[key]
        self._waiters[key] += 1
        self._asking[leaf] += 1
        try:
            return await asyncio.shield(task)
        finally:
            self._asking[leaf] -= 1
            self._waiters[key] -= 1
            if not self._waiters[key]:
                del self._waiters[key]
                if not task.done() and not self.wire.is_sent(key):
                    task.cancel()
                    del self._in_flight[key]  # who asks for it now begins anew

    async def _after_first(self, prefix: str) -> bool:
        """Wait for the first request of a prefix, if there is other work; whether it was waited."""
        first = self._first_of.get(prefix)
        if first is None or not self.wire.is_busy:
            return False
        await asyncio.wait([first])
        return True

    def _landed(self, key: str, task: asyncio.Task[Entry]) -> None:
        if self._in_flight.get(key) is task:
            del self._in_flight[key]
        self._landing.set()
        if not task.cancelled():
            task.exception()  # seen, even if every waiter was cancelled meanwhile

    async def _pay(self, key: str, order: Order) -> Entry:
        async def keep(reply: Reply, seconds: float) -> Entry:
            entry = Entry(
                key=key,
                leaf=order.leaf,
                step=order.step,
                model=self._identity,
                request=order.text,
                response=reply.body,
                prompt_tokens=reply.completion.prompt_tokens,
                completion_tokens=reply.completion.completion_tokens,
                created_at=now(),
                seconds=seconds,
            )
            return await self._ledger.put_soon(entry)

        where, before = f"{order.leaf}: {order.step}", self._ledger.was_in_vain(key)
        try:
            entry = await self.wire.send(key, order, keep)
        except Refused as refused:
            raise self._hopeless(where, refused) or RequestFailed((key,), str(refused), where=where) from refused
        except TriedInVain as failed:
            raise self._hopeless(where, failed) or self._in_vain(key, str(failed), where, before=before) from failed
        self._has_answered = True
        self.stats.paid += 1
        self.stats.prompt_tokens += entry.prompt_tokens
        self.stats.completion_tokens += entry.completion_tokens
        return entry

    def _in_vain(self, key: str, problem: str, where: str, *, before: bool) -> ModelError:
        """What one request fails with: when a second run tries it in vain too, it is given up."""
        if before and key not in self._noted:
            return RequestFailed((key,), f"{problem}, in this run and in an earlier one", where=where)
        self._noted.add(key)
        self._ledger.note_in_vain(key)
        return Unanswered(key, problem, where=where)

    def _hopeless(self, where: str, why: Exception) -> ModelError | None:
        """What stops the run, where it is no matter of single requests."""
        failed = self.wire.failed
        if self._has_answered or failed < _HOPELESS + self.wire.in_flight:
            return None
        what = f"{failed} requests to the {self._role} failed and none was answered ({why})"
        return ModelError(what, where=where, fix=f"check {self._role}.model and the prompts")


def _answer(keys: tuple[str, ...], completion: Completion, schema: Mapping[str, Any] | None, *, cached: bool) -> Answer:
    data = _data(completion, schema)
    return Answer(keys, completion.text, data, cached, is_cut=completion.finish_reason == "length")


@lru_cache
def _seed(seed: int, index: int) -> int:
    """31 bits: servers differ in what they take."""
    return int(fingerprint([seed, index], length=8), 16) >> 1


class _Unfit(Exception):
    """An answer that is not as asked."""

    def __init__(self, problem: str, *, repairable: bool = True) -> None:
        super().__init__(problem)
        self.problem, self.repairable = problem, repairable


_FENCED = re.compile(r"\s*```\w*\n(.*)\n```\s*", re.DOTALL)
"""How models that no grammar holds like to write JSON."""


def _data(completion: Completion, schema: Mapping[str, Any] | None) -> Any:
    """The JSON value in an answer, None where plain text was asked for. Raises _Unfit."""
    if not completion.text.strip():
        raise _Unfit("the model answered nothing", repairable=False)
    if schema is None:
        return None
    if completion.finish_reason == "length":
        raise _Unfit(f"the answer was cut at {completion.completion_tokens} tokens", repairable=False)
    fenced = _FENCED.fullmatch(completion.text)
    try:
        data = json.loads(fenced[1] if fenced else completion.text, parse_constant=_refuse_constant)
        canonical_json(data).encode()  # half of a surrogate pair is legal JSON, but no text that a file can hold
    except (ValueError, RecursionError) as error:
        raise _Unfit(f"the answer is not JSON ({error})") from error
    if problem := mismatch(data, schema):
        raise _Unfit(problem)
    return data


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _repair(request: Mapping[str, Any], text: str, problem: str) -> dict[str, Any]:
    """The request with the turns that send its answer back."""
    again = f"This is not as asked: {problem}. Answer again, with the JSON value that was asked for and nothing else."
    turns = [{"role": "assistant", "content": text}, {"role": "user", "content": again}]
    return {**request, "messages": [*request["messages"], *turns]}
