from __future__ import annotations

import asyncio

from tilth.llm.turns import Turns


def test_requests_run_together_and_a_conversation_alone():
    ran: list[str] = []
    beside: list[int] = []

    async def work():
        turns, running = Turns(), 0

        async def one(name, turn, *, after=0):
            nonlocal running
            for _ in range(after):
                await asyncio.sleep(0)
            async with turn():
                running += 1
                beside.append(running)
                await asyncio.sleep(0.01)
                running -= 1
                ran.append(name)

        await asyncio.gather(
            one("a", turns.request),
            one("b", turns.request),
            one("conversation", turns.conversation, after=1),
            one("late", turns.request, after=2),  # in time: the conversation waits until nothing else can go on
            one("another", turns.conversation, after=2),
        )
        async with asyncio.timeout(1):
            async with turns.request(), turns.request():
                pass
            async with turns.conversation():
                pass

    asyncio.run(work())
    assert ran == ["a", "b", "late", "conversation", "another"]
    assert beside == [1, 2, 3, 1, 1]


def test_a_conversation_holds_up_new_requests_until_it_ends():
    ran: list[str] = []

    async def work():
        turns = Turns()

        async def request():
            async with turns.request():
                ran.append("request")

        async with turns.conversation():
            waiting = asyncio.create_task(request())
            await asyncio.sleep(0.01)
            ran.append("conversation")
        await waiting

    asyncio.run(work())
    assert ran == ["conversation", "request"]
