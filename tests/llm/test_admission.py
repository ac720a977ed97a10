"""Limits and the line, driven by a clock of our own: what an endpoint answers decides how much it gets."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable

import pytest
from tilth.llm import admission
from tilth.llm.admission import Lane, Line, Pace, Ticket


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(admission, "time", clock)
    return clock


Endpoint = Callable[[int], float]
"""Seconds that a request takes that is sent when so many are in flight with it; 0: it is refused."""


def drive(lane: Lane, clock: Clock, endpoint: Endpoint, num_answers: int) -> tuple[int, int, float]:
    """Send as many as the lane allows until there are enough answers; returns answers, refusals and seconds."""
    wire: list[tuple[float, int, Ticket, bool]] = []
    answers = refusals = number = 0
    began = clock.now
    while answers < num_answers:
        while lane.in_flight < lane.limit:
            ticket = lane.enter("step", clock.now)
            seconds = endpoint(lane.in_flight)
            number += 1
            heapq.heappush(wire, (clock.now + (seconds or 0.001), number, ticket, bool(seconds)))
        clock.now, _, ticket, answered = heapq.heappop(wire)
        if answered:
            answers += 1
            lane.answered(ticket, tokens=1)
        else:
            refusals += 1
            lane.refused(ticket, 0.0)
        lane.in_flight -= 1
    for _, _, _, _ in wire:
        lane.in_flight -= 1
    return answers, refusals, clock.now - began


def test_an_endpoint_that_bears_it_gets_all_it_may(clock: Clock) -> None:
    lane = Lane(64)
    assert lane.limit == 16
    drive(lane, clock, lambda _: 1.0, 300)
    assert lane.limit == 64


def test_an_endpoint_whose_answers_take_very_different_times_gets_all_it_may(clock: Clock) -> None:
    draw = random.Random(1)
    lane = Lane(64)
    drive(lane, clock, lambda _: draw.lognormvariate(0, 0.5), 600)
    assert lane.limit == 64


def test_an_endpoint_that_refuses_is_kept_busy_and_refuses_few(clock: Clock) -> None:
    lane = Lane(64)
    answers, refusals, seconds = drive(lane, clock, lambda in_flight: float(in_flight <= 20), 2000)
    assert answers / (20 * seconds) > 0.85
    assert refusals < 0.05 * answers
    assert 15 <= lane.limit <= 21


def test_an_endpoint_that_recovers_gets_more_again(clock: Clock) -> None:
    lane = Lane(64)
    drive(lane, clock, lambda in_flight: float(in_flight <= 10), 500)
    assert lane.limit <= 11
    drive(lane, clock, lambda _: 1.0, 20_000)
    assert lane.limit == 64


def test_an_endpoint_that_only_queues_is_not_given_more_than_it_works_on(clock: Clock) -> None:
    free = [0.0] * 16  # when each of its sixteen workers is free
    lane = Lane(128)

    def queue(_: int) -> float:
        start = max(clock.now, heapq.heappop(free))
        heapq.heappush(free, start + 1.0)
        return start + 1.0 - clock.now

    _, _, seconds = drive(lane, clock, queue, 600)
    assert 600 / (16 * seconds) > 0.9
    assert lane.limit <= 40  # 32 is where it starts


def test_an_endpoint_that_refuses_everything_is_left_alone_as_long_as_it_asks(clock: Clock) -> None:
    lane = Lane(8)
    lane.refused(lane.enter("step", clock.now), 7.0)
    assert lane.wait_s(clock.now) == pytest.approx(7.0)
    assert lane.wait_s(clock.now + 7.0) <= 0


def test_a_pace_lets_a_burst_through_and_then_so_many_a_minute(clock: Clock) -> None:
    pace = Pace(requests_per_minute=60)
    sent = 0
    while clock.now < 160.5:
        if (wait_s := pace.wait_s(clock.now)) == 0:
            pace.spend(requests=1)
            sent += 1
        clock.now += wait_s
    assert sent == 60 + 5


def test_tokens_that_were_too_many_are_waited_off(clock: Clock) -> None:
    pace = Pace(tokens_per_minute=600)
    assert pace.wait_s(clock.now) == 0
    pace.spend(requests=1, tokens=150)
    assert pace.wait_s(clock.now) == pytest.approx(10.0)


def test_the_deepest_go_first_and_then_the_oldest() -> None:
    async def run() -> list[str]:
        line = Line([Lane(1)])
        first = await line.enter("first", 0)
        order: list[str] = []

        async def wait(name: str, depth: int) -> None:
            ticket = await line.enter(name, depth)
            order.append(name)
            line.leave(ticket)

        waiting = [asyncio.create_task(wait(*each)) for each in [("a", 0), ("b", 2), ("c", 1), ("d", 2)]]
        await asyncio.sleep(0)
        assert line.is_busy
        line.leave(first)
        await asyncio.gather(*waiting)
        assert not line.is_busy
        assert line.in_flight == 0
        return order

    assert asyncio.run(run()) == ["b", "d", "c", "a"]


def test_who_stops_waiting_leaves_his_place_to_others() -> None:
    async def run() -> None:
        line = Line([Lane(1)])
        first = await line.enter("first", 0)
        gone, there = (asyncio.create_task(line.enter(name, 0)) for name in ("gone", "there"))
        await asyncio.sleep(0)
        line.leave(first)
        gone.cancel()  # at the moment when it has the place
        ticket = await there
        assert ticket.step == "there"
        line.leave(ticket)
        assert line.in_flight == 0

    asyncio.run(run())


def test_the_endpoint_with_most_room_gets_the_next() -> None:
    async def run() -> list[int]:
        lanes = [Lane(2), Lane(8)]
        line = Line(lanes)
        for _ in range(5):
            await line.enter("step", 0)
        return [lane.in_flight for lane in lanes]

    assert asyncio.run(run()) == [1, 4]


def test_an_endpoint_that_is_gone_is_left_out_longer_each_time_and_a_burst_counts_once(clock: Clock) -> None:
    gone, there = Lane(8), Lane(8)
    line = Line([gone, there])
    pauses: list[float] = []
    for _ in range(1100):
        for _ in range(8):
            assert line.leaves_out(gone, 1.0)
        pauses.append(gone.paused_until - clock.now)
        clock.now = gone.paused_until
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pauses[-1] == 60
