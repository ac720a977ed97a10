"""The wire: a request goes to one of a model's endpoints, and is tried again as the kind of its failure asks.

What is to be sent waits in one line for all endpoints (`admission`). A request leaves the wire, and makes room, when
its answer is on disk, or when it failed: nobody holds a place while waiting to try again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..core.config import ModelServer
from ..core.errors import DataError, ModelError, TilthError, nearest
from ..core.progress import Progress
from .admission import Lane, Line, Pace, Ticket
from .budget import Budget
from .client import Client, Failure, Reply
from .endpoint import Endpoint
from .opening import opened
from .turns import Turns

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Retries:
    """How a request that fails is tried again: after 1, 2, 4, 8 and 16 seconds; then its endpoint is looked at."""

    tries: int = 6
    timeouts: int = 2
    """Tries of a request that gets no answer in time: each may have been paid for."""
    first_wait_s: float = 1.0


@dataclass(frozen=True)
class Order:
    """A request for one answer, as a value and as the canonical JSON of it. `depth`: how many answers it hangs on."""

    request: Mapping[str, Any]
    text: str
    leaf: str
    step: str
    depth: int


class Refused(Exception):
    """The endpoint will never answer this request; it may answer others."""


class TriedInVain(Exception):
    """The request got no answer in all its tries. It may get one later, and others may now."""


_OF_THE_REQUEST = {400, 413, 414, 422}
"""Statuses that speak against one request, not against the key or the model."""
_OVERLOADED = {"busy", "timeout"}
_MAY_PASS = {"broken", "timeout"}
"""What a prompt can cause that the model chokes on, as well as a server that is ill."""
_KNOCK = {"role": "user", "content": "Say yes."}
_LONGEST_WAIT_S = 60.0
"""Between two tries or knocks."""
_AGAIN = "run the same command again: what was answered is kept"
_QUIET_S = 30.0
"""Between two lines about requests that are tried again."""


@dataclass(frozen=True)
class _Open:
    """The endpoints, opened."""

    line: Line
    clients: Mapping[Lane, Client]


@dataclass
class _Trying:
    """One request's failures, since it was first sent or since its endpoint came back: then they begin anew."""

    answers: int
    """That others had by then."""
    outages: int
    """There had been by then."""
    tries: int = 0
    since: float = field(default_factory=time.monotonic)

    def begin(self, answers: int, outages: int) -> None:
        self.answers, self.outages, self.tries, self.since = answers, outages, 0, time.monotonic()


class Wire:
    """The endpoints of one model. They are opened when the first request is sent."""

    def __init__(
        self, server: ModelServer, progress: Progress, *, role: str, retries: Retries, budget: Budget, turns: Turns
    ) -> None:
        self.budget = budget
        self.failed = 0
        """Requests that an endpoint refused, or did not answer in all their tries."""
        self._outages = 0
        """How often the endpoints were waited for that had gone and came back."""
        self._gone: TilthError | None = None
        """Why nothing more is to be sent."""
        self._server, self._progress, self._role, self._retries = server, progress, role, retries
        self._turns = Turns() if server.base_url else turns  # a server of the user's has its own processor
        self._stack = contextlib.AsyncExitStack()
        self._opening: asyncio.Task[_Open] | None = None
        self._measuring: asyncio.Task[int] | None = None
        self._knocking = asyncio.Lock()
        self._sent: set[str] = set()
        self._answers = 0
        self._ending = False
        self._told_at = -_QUIET_S

    @property
    def most(self) -> int:
        """Requests that may be on the wire at once, to all endpoints."""
        return self._server.concurrency * max(1, len(self._server.base_url))

    @property
    def is_busy(self) -> bool:
        """Whether more is to be sent than may be."""
        line = self._line
        return line is not None and line.is_busy

    @property
    def in_flight(self) -> int:
        """Requests on the wire."""
        line = self._line
        return line.in_flight if line else 0

    @property
    def _line(self) -> Line | None:
        opening = self._opening
        return opening.result().line if opening and opening.done() and not _failed(opening) else None

    def is_sent(self, key: str) -> bool:
        """Whether a request is on the wire, and so paid for."""
        return key in self._sent

    def end(self, *, waiting: bool) -> Set[str]:
        """Nothing is tried again from now on. Returns the keys on the wire that are worth waiting for, if `waiting`."""
        self._ending = True
        kept = frozenset(self._sent) if waiting else frozenset[str]()
        if kept:
            self._say(f"waiting for answers that are on their way ({len(kept)})")
        if self._opening and not kept:
            self._opening.cancel()
        return kept

    async def close(self) -> None:
        """Close the endpoints."""
        if self._opening:
            await asyncio.gather(self._opening, return_exceptions=True)
        await self._stack.aclose()

    async def send(self, key: str, order: Order, keep: Callable[[Reply, float], Awaitable[Kept]]) -> Kept:
        """Get the answer to a request, and `keep` it with the seconds that it took while its place is held.

        Raises Refused, TriedInVain, ModelError when the endpoint answers no request at all, and BudgetSpent.
        """
        there = await self._open()
        await self._check_length(order, there)
        async with self._turns.request():
            return await self._send(key, order, keep, there)

    async def _send(
        self, key: str, order: Order, keep: Callable[[Reply, float], Awaitable[Kept]], there: _Open
    ) -> Kept:
        trying = _Trying(self._answers, self._outages)
        while True:
            ticket = await there.line.enter(order.step, order.depth)
            client = there.clients[ticket.lane]
            try:
                if self._gone:
                    raise self._gone
                self.budget.take()
                self._sent.add(key)
                reply = await client.complete(order.request, order.text)
                self._count(ticket, reply)
                return await keep(reply, time.monotonic() - ticket.sent)
            except Failure as error:
                failure = error
                if failure.kind in _OVERLOADED:
                    ticket.lane.refused(ticket, failure.retry_after_s)
            except DataError as error:  # no other answer is asked for that could not be kept
                self._gone = error
                raise
            finally:
                self._sent.discard(key)
                there.line.leave(ticket)
            if failure.kind == "unreachable" and there.line.leaves_out(ticket.lane, self._retries.first_wait_s):
                continue  # the other endpoints do its work
            await self._wait(failure, trying, key, client, there)

    async def _wait(self, failure: Failure, trying: _Trying, key: str, client: Client, there: _Open) -> None:
        """Wait until the request may be tried again. Raises Refused, TriedInVain or ModelError when it may not."""
        if failure.kind == "busy" and self._answers > trying.answers:  # the server rations, it does not fail
            trying.begin(self._answers, self._outages)
        trying.tries += 1
        wait_s = failure.retry_after_s or self._pause_s(trying.tries - 1)
        if failure.retry_after_s > self._server.patience_s:
            raise self._error(client.endpoint, failure, trying.tries) from failure
        if not self._is_spent(failure, trying, client.endpoint):
            self._tell(failure, wait_s)
            await asyncio.sleep(wait_s * (1 + int(key[:4], 16) / 0x10000 / 4))  # not all come back at once
        elif self._may_be_ill(failure, client.endpoint) and await self._outlast(failure, trying.outages, there):
            trying.begin(self._answers, self._outages)
        else:
            raise await self._given_up(failure, trying.tries, client) from failure

    def _pause_s(self, before: int) -> float:
        """Twice as long each time."""
        return min(self._retries.first_wait_s * 2 ** min(before, 16), _LONGEST_WAIT_S)

    def _is_spent(self, failure: Failure, trying: _Trying, endpoint: Endpoint) -> bool:
        never_there = failure.kind == "unreachable" and not self._answers
        if failure.kind == "rejected" or never_there or endpoint.ended() or self._ending:
            return True
        if failure.kind == "busy" and self._answers:
            return time.monotonic() - trying.since >= self._server.patience_s
        return trying.tries >= (self._retries.timeouts if failure.kind == "timeout" else self._retries.tries)

    def _may_be_ill(self, failure: Failure, endpoint: Endpoint) -> bool:
        """Whether a failure may speak of all requests. An endpoint that was never there is not waited for."""
        gone = failure.kind == "unreachable" and self._answers > 0
        return (gone or failure.kind in _MAY_PASS) and not endpoint.ended() and not self._ending

    async def _outlast(self, failure: Failure, outages: int, there: _Open) -> bool:
        """After a request in vain: ask something that no model chokes on, until it is answered. One waits for all.

        Returns whether the request may be tried again: the endpoint was ill. Nobody needs the answer: it is in no
        ledger. Raises ModelError when patience is at its end, at once where nothing was ever answered.
        """
        async with self._knocking:
            if self._gone:
                raise self._gone
            if self._outages > outages:
                return True
            began, answers, waits = time.monotonic(), self._answers, 0
            while self._answers == answers and not await self._knock(there):
                left_s = self._server.patience_s - (time.monotonic() - began) if self._answers else 0.0
                if left_s <= 0:
                    self._gone = self._nobody_there(failure, time.monotonic() - began)
                    raise self._gone
                if not waits:
                    self._say(f"{failure.what}; waiting until it answers, {_time(left_s)} at most")
                await asyncio.sleep(min(self._pause_s(waits), left_s))
                waits += 1
            if waits:
                self._outages += 1
                self._say(f"answers again after {_time(time.monotonic() - began)}")
                for lane in there.clients:
                    lane.paused_until = lane.pause_s = 0.0
            return waits > 0 or failure.kind == "unreachable"  # else it came back just now

    async def _knock(self, there: _Open) -> bool:
        """Whether one of the endpoints answers."""
        for client in there.clients.values():
            request = {"model": client.endpoint.model, "messages": [_KNOCK], "max_tokens": 16, "temperature": 0.0}
            self.budget.take()
            try:
                reply = await client.complete(request, json.dumps(request))
            except Failure as failure:
                if failure.kind == "rejected":
                    return True  # it is there, and says no: to the requests too, which tell of it better
                continue
            self.budget.spend(reply.completion, self._server.prices)
            return True
        return False

    def _nobody_there(self, failure: Failure, waited_s: float) -> ModelError:
        what = f"the {self._role} answers nothing any more" if self._answers else f"the {self._role} answers nothing"
        where, fix = ", ".join(self._server.base_url), f"look there, then {_AGAIN}"
        waited = f" for {_time(waited_s)}" if self._answers else ""
        return ModelError(f"{what}{waited}, not even {_KNOCK['content']!r} ({failure.what})", where=where, fix=fix)

    def _count(self, ticket: Ticket, reply: Reply) -> None:
        completion = reply.completion
        ticket.lane.answered(ticket, completion.prompt_tokens + completion.completion_tokens)
        self.budget.spend(completion, self._server.prices)
        self._answers += 1

    async def _given_up(self, failure: Failure, tries: int, client: Client) -> Exception:
        """What to raise for a request that is not tried again."""
        if failure.status in _OF_THE_REQUEST:
            self.failed += 1
            return Refused(failure.what)
        if failure.kind in _MAY_PASS and not client.endpoint.ended():
            self.failed += 1
            return TriedInVain(f"{failure.what}, {tries} {'try' if tries == 1 else 'tries'}")
        unknown = await self._unknown_model(client) if failure.status == 404 else ""
        return self._error(client.endpoint, failure, tries, unknown)

    async def _open(self) -> _Open:
        """Open the endpoints once; all who wait share the outcome, an error too."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._opened())
        return await asyncio.shield(self._opening)

    async def _opened(self) -> _Open:
        endpoints = await self._stack.enter_async_context(opened(self._server, self._progress))
        clients = [await self._stack.enter_async_context(Client(endpoint)) for endpoint in endpoints]
        pace = Pace(self._server.requests_per_minute, self._server.tokens_per_minute)
        lanes = [Lane(endpoint.concurrency, pace) for endpoint in endpoints]
        return _Open(Line(lanes), dict(zip(lanes, clients, strict=True)))

    async def _check_length(self, order: Order, there: _Open) -> None:
        """Raise Refused for what cannot fit. What other prompts took has no say: their order is a matter of timing."""
        prompt = max(len(order.text.split()), len(order.text) // _MOST_LETTERS_PER_TOKEN)
        wanted = prompt + order.request["max_tokens"]
        if wanted <= _LEAST_CONTEXT_TOKENS:
            return
        if self._measuring is None:
            self._measuring = asyncio.create_task(_context_tokens(there.clients.values()))
        context = await asyncio.shield(self._measuring)
        if context and wanted > context:
            what = f"the prompt ({prompt:,} tokens at least) and its answer ({order.request['max_tokens']:,} at most)"
            raise Refused(f"{what} do not fit the model's context of {context:,}; smaller chunks would")

    def _tell(self, failure: Failure, wait_s: float) -> None:
        """One line now and then, not one per request."""
        if (now := time.monotonic()) - self._told_at >= _QUIET_S:
            self._told_at = now
            self._say(f"{failure.what}; trying again in {_time(wait_s)}")

    def _say(self, what: str) -> None:
        self._progress.say(f"{self._role}: {what}")

    async def _unknown_model(self, client: Client) -> str:
        """What to do about a 404, where the endpoint lists other models."""
        served = await client.served()
        if not served or client.endpoint.model in served:
            return f"check {self._role}.base_url and {self._role}.model"
        return f"it does not serve {client.endpoint.model!r}: {nearest(client.endpoint.model, served)}"

    def _error(self, endpoint: Endpoint, failure: Failure, tries: int, not_found: str = "") -> ModelError:
        if reason := endpoint.ended():
            return ModelError(f"the {self._role}'s server ended ({reason})", where=endpoint.model, fix=_AGAIN)
        if failure.kind == "unreachable":
            fix = f"start it or set {self._role}.base_url"
            return ModelError(f"cannot reach the {self._role} at {endpoint.base_url}", fix=fix)
        fixes = {
            401: f"check the key in {self._server.api_key_env}",
            403: f"check the key in {self._server.api_key_env}",
            404: not_found,
        }
        fix = fixes.get(failure.status, "" if failure.kind == "rejected" else _AGAIN)
        count = f" ({tries} tries)" if tries > 1 else ""
        return ModelError(failure.what + count, where=f"{self._role} at {endpoint.base_url}", fix=fix)


async def _context_tokens(clients: Collection[Client]) -> int:
    """The smallest context of the endpoints, as far as they tell; 0: they do not."""
    told = [
        client.endpoint.context_tokens or (await client.served()).get(client.endpoint.model, 0) for client in clients
    ]
    return min(filter(None, told), default=0)


_LEAST_CONTEXT_TOKENS = 1024
"""What every model takes: no endpoint is asked for its context before a prompt needs more."""
_MOST_LETTERS_PER_TOKEN = 8
"""More than any language takes, and a word takes a token at least: nothing is refused that might fit."""


def _time(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds / 60:.0f} minutes"


def _failed(task: asyncio.Task[_Open]) -> bool:
    return task.cancelled() or task.exception() is not None
