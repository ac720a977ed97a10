"""How many requests an endpoint works on at once, and who is sent next.

The user says how many at most. Below that each endpoint's answers decide. A limit doubles every round (as many answers
as it allows at once) until the endpoint refuses requests (429), or answers no more of them in the same time but only
makes them wait. Refused, it is cut to three quarters and grows by one a round (AIMD; Chiu and Jain 1989) up to what was
borne before, and rarely beyond.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

_FIRST_SHARE, _FIRST_LEAST = 4, 8
"""An endpoint is given a quarter of its most at first, and 8 at least: two doublings then reach it."""
_CUT = 0.75
_GAIN = 1.15
"""Twice as many at once is worth it if it answers so many times more; a server that only queues answers 1.0 times."""
_ENOUGH_SAMPLES = 12
"""Answers of one step in both rounds from which rounds are compared."""
_FIRST_HOLD, _LONGEST_HOLD = 8, 256
"""Rounds until more than was borne is tried again; each time it still is too much, twice as many."""

_LONGEST_PAUSE_S = 60.0
"""An endpoint that is not there is tried again after so long at most."""


@dataclass(frozen=True)
class Ticket:
    """One request on the wire: its endpoint's lane, the step it belongs to, and when and in which round it was sent."""

    lane: Lane
    step: str
    sent: float
    round: _Round


class Lane:
    """One endpoint's limit on requests in flight. Seconds are of the monotonic clock."""

    def __init__(self, most: int, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self.limit = min(most, max(_FIRST_LEAST, most // _FIRST_SHARE))
        self.in_flight = 0
        self.paused_until = 0.0
        self.pause_s = 0.0
        """The last pause for being gone."""
        self._most = self._ceiling = most
        self._refused = False
        self._answered_since_cut = False
        self._held_rounds, self._next_hold = 0, _FIRST_HOLD
        self._round, self._reference = _Round(self.limit), _Round(0)

    def wait_s(self, now: float) -> float:
        """How long until this endpoint may be sent the next request, from all but its limit."""
        return max(self.paused_until - now, self.pace.wait_s(now))

    def enter(self, step: str, now: float) -> Ticket:
        """A request goes on the wire."""
        self.in_flight += 1
        self.pace.spend(requests=1)
        # With room to spare nothing is learnt about the limit: what fills it up meets a server that is not yet full.
        full = self.in_flight >= self.limit
        return Ticket(self, step, now, self._round if full else _Round(0))

    def answered(self, ticket: Ticket, tokens: int) -> None:
        """The request was answered for so many tokens; the limit may grow. It is still counted in flight."""
        self.pace.spend(tokens=tokens)
        self._answered_since_cut = True
        self.pause_s = 0.0
        ticket.round.add(ticket.step, time.monotonic() - ticket.sent)
        if ticket.round is self._round and self._round.answers >= self.limit:
            self._end_round()

    def refused(self, ticket: Ticket, retry_after_s: float) -> None:
        """The request met a server with too much to do. The first of a burst cuts the limit."""
        borne = max(1, self.in_flight - 1)
        if ticket.round is self._round or not ticket.round.limit:
            if not self._answered_since_cut:  # it refuses all: a quota, no matter of how many at once
                self.paused_until = max(self.paused_until, ticket.sent + retry_after_s)
            probed = self._refused and borne >= self._ceiling
            self._ceiling = borne
            self._hold(borne if probed else max(1, int(_CUT * borne)))
            self._refused, self._answered_since_cut = True, False
        elif self._refused and self.limit < borne < self._ceiling:  # of the same burst: less was borne than it seemed
            self._ceiling = borne
            self._hold(max(1, int(_CUT * borne)), again=True)

    def _hold(self, limit: int, *, again: bool = False) -> None:
        self.limit = limit
        self._round, self._reference = _Round(limit), _Round(0)
        if not again:
            self._held_rounds, self._next_hold = self._next_hold, min(2 * self._next_hold, _LONGEST_HOLD)

    def _end_round(self) -> None:
        """Compare with the last round of a lower limit, now that as many answers are there as this one allows."""
        ended, before = self._round, self._reference
        self._round = _Round(self.limit)
        if before.limit and ended.limit >= 1.5 * before.limit:
            gain = ended.gain_over(before)
            if gain is not None and gain < _GAIN:
                self._hold(-(-5 * before.limit // 4))  # a little to wait there keeps it busy
                return
            self._next_hold = _FIRST_HOLD
        if ended.answers >= before.answers:
            self._reference = ended
        self._grow()
        self._round = _Round(self.limit)

    def _grow(self) -> None:
        if self.limit < self._ceiling and self._refused:
            self.limit += 1
        elif self._held_rounds:
            self._held_rounds -= 1
        elif self.limit < self._ceiling:
            self.limit = min(2 * self.limit, self._ceiling)
        elif self._ceiling < self._most:
            self._ceiling = self.limit = self.limit + 1


class _Round:
    """The answers to what was sent under one limit, by step: only answers of one step can be compared."""

    def __init__(self, limit: int) -> None:
        self.limit, self.answers = limit, 0
        self._log_seconds: dict[str, list[float]] = defaultdict(list)

    def add(self, step: str, seconds: float) -> None:
        self.answers += 1
        self._log_seconds[step].append(math.log(max(seconds, 1e-6)))

    def gain_over(self, other: _Round) -> float | None:
        """How many times as many answers per second, by Little's law; None when too few can be compared.

        Of the seconds the geometric mean counts: a few very long answers say nothing.
        """
        slower = 0.0
        num_samples = 0
        for step, mine in self._log_seconds.items():
            theirs = other._log_seconds.get(step)
            if theirs:
                weight = min(len(mine), len(theirs))
                slower += weight * (sum(mine) / len(mine) - sum(theirs) / len(theirs))
                num_samples += weight
        if num_samples < _ENOUGH_SAMPLES:
            return None
        return self.limit / other.limit / math.exp(slower / num_samples)


class Pace:
    """Requests and tokens a minute, refilled all the time; 0: as many as one likes."""

    _BURST_S = 5.0
    """What may be sent at once after a rest: so many seconds' worth."""

    def __init__(self, requests_per_minute: int = 0, tokens_per_minute: int = 0) -> None:
        self._per_s = (requests_per_minute / 60, tokens_per_minute / 60)
        self._most = tuple(max(1.0, rate * self._BURST_S) for rate in self._per_s)
        self._left = list(self._most)
        self._seen = time.monotonic()

    def wait_s(self, now: float) -> float:
        """How long until the next request may go: until there is a whole one left, and no debt of tokens."""
        if not any(self._per_s):
            return 0.0
        passed, self._seen = now - self._seen, now
        filled = zip(self._left, self._per_s, self._most, strict=True)
        self._left = [min(most, left + rate * passed) for left, rate, most in filled]
        needed = zip((1.0, 0.0), self._left, self._per_s, strict=True)
        return max(0.0, *((need - left) / rate for need, left, rate in needed if rate))

    def spend(self, *, requests: int = 0, tokens: int = 0) -> None:
        """Count what was sent. Tokens are known when the answer is there; what is too much is waited off then."""
        self._left[0] -= requests
        self._left[1] -= tokens


class Line:
    """The requests to one model that wait for a place on the wire to one of its endpoints. For one event loop."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.lanes = lanes
        self._waiting: list[tuple[int, int, str, asyncio.Future[Ticket]]] = []
        self._order = count()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether more is to be sent than may be."""
        return bool(self._waiting)

    @property
    def in_flight(self) -> int:
        """Requests on the wire, to all endpoints."""
        return sum(lane.in_flight for lane in self.lanes)

    async def enter(self, step: str, depth: int) -> Ticket:
        """Wait for a place on the wire, to the endpoint with most room. The deepest go first: what began is ended."""
        waiting: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-depth, next(self._order), step, waiting))
        self._grant()
        try:
            return await waiting
        except asyncio.CancelledError:
            if not waiting.cancelled():
                self.leave(waiting.result())
            raise

    def leave(self, ticket: Ticket) -> None:
        """Make room."""
        ticket.lane.in_flight -= 1
        self._grant()

    def leaves_out(self, lane: Lane, first_s: float) -> bool:
        """Leave out an endpoint that is not there, twice as long each time; false if none is left without it.

        Of requests that miss it at once the first counts.
        """
        now = time.monotonic()
        if lane.paused_until <= now:
            lane.pause_s = min(2 * lane.pause_s or first_s, _LONGEST_PAUSE_S)
            lane.paused_until = now + lane.pause_s
        return any(other.paused_until <= now for other in self.lanes)

    def _grant(self) -> None:
        """Give places to those in front, as long as there are any; come back when one opens by itself."""
        while self._waiting:
            step, waiting = self._waiting[0][2:]
            if waiting.cancelled():
                heapq.heappop(self._waiting)
                continue
            now = time.monotonic()
            open_lanes = [lane for lane in self.lanes if lane.in_flight < lane.limit]
            if not open_lanes:
                return
            lane = min(open_lanes, key=lambda lane: (lane.wait_s(now), lane.in_flight / lane.limit))
            if (wait_s := lane.wait_s(now)) > 0:
                self._wake_in(wait_s)
                return
            heapq.heappop(self._waiting)
            waiting.set_result(lane.enter(step, now))

    def _wake_in(self, seconds: float) -> None:
        if self._alarm:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(seconds, self._grant)
