import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from tilth.core.config import ModelServer
from tilth.core.errors import ModelError
from tilth.core.records import Message
from tilth.llm import opening
from tilth.llm.ask import Gateway
from tilth.llm.ledger import Ledger
from tilth.llm.ledger_report import count
from tilth.llm.scripted import serve_scripted

pytestmark = pytest.mark.slow  # many processes and servers

NUM_PROMPTS, CONCURRENCY = 40, 4

RUN = f"""
import asyncio, sys
from pathlib import Path
from tilth.core.config import ModelServer
from tilth.core.progress import SilentProgress
from tilth.core.records import Message
from tilth.llm.ask import Gateway
from tilth.llm.ledger import Ledger

async def main(url, path):
    server = ModelServer(model="scripted", base_url=url, concurrency={CONCURRENCY})
    with Ledger(Path(path)) as ledger:
        async with Gateway(server, ledger, SilentProgress()) as gateway:
            prompts = [[Message(role="user", content=f"Say something about {{n}}")] for n in range({NUM_PROMPTS})]
            answers = await asyncio.gather(*(gateway.ask(p, leaf="l", step="s") for p in prompts))
            print(len(set(answer.key for answer in answers)))

asyncio.run(main(*sys.argv[1:]))
"""


def start(url, path):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, url, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_asks_again_only_for_what_was_in_flight(tmp_path, how):
    path = tmp_path / "ledger.db"
    with serve_scripted(latency_s=0.03) as url:
        child = start(url, path)
        wait_until(lambda: url.stats().answers >= NUM_PROMPTS // 2)
        child.send_signal(how)
        child.communicate()
        assert child.returncode != 0
        with Ledger(path) as ledger:
            kept = count(ledger)
        before = url.stats().requests
        assert kept >= before - CONCURRENCY > 0
        out, err = start(url, path).communicate()
        assert (out.strip(), err) == (str(NUM_PROMPTS), "")
        assert url.stats().requests - before == NUM_PROMPTS - kept
        assert url.stats().requests <= NUM_PROMPTS + CONCURRENCY


async def on_the_wire(url, requests):
    await asyncio.to_thread(wait_until, lambda: url.stats().requests >= requests)


async def ask_eight(url, ledger, progress, then):
    """Ask for eight answers, three at a time, and do `then` when the first three requests are on the wire."""
    server = ModelServer(model="scripted", base_url=url, concurrency=3)
    async with Gateway(server, ledger, progress) as gateway:
        prompts = [[Message(role="user", content=str(number))] for number in range(8)]
        asked = [asyncio.create_task(gateway.ask(messages, leaf="l", step="s")) for messages in prompts]
        await on_the_wire(url, 3)
        await then()
        await asyncio.gather(*asked)


async def fail():
    raise ValueError("elsewhere")


async def wait():
    await asyncio.sleep(60)


@pytest.mark.parametrize(("script", "kept"), [((), 3), (("ok", "500", "400"), 1)])
def test_after_an_error_what_is_on_the_wire_is_kept_and_nothing_more_is_asked(ledger, progress, script, kept):
    with serve_scripted(latency_s=0.3, script=script) as url:
        with pytest.raises(ValueError, match="elsewhere"):
            asyncio.run(ask_eight(url, ledger, progress, fail))
        assert (url.stats().requests, count(ledger)) == (3, kept)
    assert progress.lines == ["teacher: waiting for answers that are on their way (3)"]


def test_a_refused_request_does_not_take_paid_answers_with_it(ledger, progress):
    async def run(url):
        server = ModelServer(model="scripted", base_url=url, concurrency=3)
        async with Gateway(server, ledger, progress) as gateway, asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(gateway.ask([Message(role="user", content=str(number))], leaf="l", step="s"))
                # One after the other, so that the first is refused before the others end.
                await on_the_wire(url, min(number + 1, 3))

    with serve_scripted(latency_s=0.4, script=("400",)) as url:
        with pytest.raises(ExceptionGroup) as caught:
            asyncio.run(run(url))
        assert "HTTP 400" in str(caught.value.exceptions[0])
        assert count(ledger) == url.stats().answers >= 2


def test_a_stop_waits_for_nothing(ledger, progress):
    async def run(url):
        asking = asyncio.create_task(ask_eight(url, ledger, progress, wait))
        await on_the_wire(url, 3)
        asking.cancel()
        await asking

    with serve_scripted(latency_s=0.5) as url:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(run(url))
        assert (url.stats().requests, count(ledger), progress.lines) == (3, 0, [])


def test_a_stop_ends_the_waiting_after_an_error(ledger, progress):
    async def run(url):
        asking = asyncio.create_task(ask_eight(url, ledger, progress, fail))
        await asyncio.to_thread(wait_until, lambda: progress.lines)
        asking.cancel()
        await asking

    with serve_scripted(latency_s=0.5) as url:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(run(url))
        assert count(ledger) == 0


def open_slowly(stopped):
    @contextlib.contextmanager
    def open_endpoints(server, progress):
        try:
            with progress.task("fetching", total=None, unit="B") as task:
                while True:
                    task.advance(1)
                    time.sleep(0.01)
        finally:
            stopped.set()
        yield

    return open_endpoints


def test_cancelling_stops_a_fetch(ledger, progress, monkeypatch):
    stopped = threading.Event()
    monkeypatch.setattr(opening, "open_endpoints", open_slowly(stopped))

    async def run():
        async with Gateway(ModelServer(), ledger, progress) as gateway:
            await gateway.ask([Message(role="user", content="Hi")], leaf="l", step="s")

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(run(), 0.2))
    assert stopped.is_set()


def test_an_endpoint_that_cannot_be_opened_is_tried_once_for_all_who_wait(ledger, progress, monkeypatch):
    opened = []

    @contextlib.contextmanager
    def open_endpoints(server, progress):
        opened.append(server)
        raise ModelError("no such luck")
        yield

    monkeypatch.setattr(opening, "open_endpoints", open_endpoints)

    async def run():
        async with Gateway(ModelServer(), ledger, progress) as gateway:
            prompts = [[Message(role="user", content=str(number))] for number in range(5)]
            asked = (gateway.ask(messages, leaf="l", step="s") for messages in prompts)
            return await asyncio.gather(*asked, return_exceptions=True)

    assert [str(error) for error in asyncio.run(run())] == ["no such luck"] * 5
    assert len(opened) == 1
