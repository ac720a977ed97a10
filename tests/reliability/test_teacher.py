"""A teacher that goes away, comes back, or answers what is no answer: what is waited for, and what is told at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import ModelServer
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress
from tilth.core.records import Message
from tilth.llm.ask import Answer, Gateway, RequestFailed
from tilth.llm.ledger import Ledger
from tilth.llm.ledger_report import count
from tilth.llm.wire import Retries

from ..loop import Loop, Spawner

Fate = Callable[[int], str]
"""What the request of a number gets: `ok`, `cut` (half the answer, then the connection ends), or an HTTP status."""

OK = json.dumps({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": {}}).encode()
TOO_LONG = "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens"


@contextlib.contextmanager
def moody(fate: Fate) -> Generator[tuple[str, list[str]]]:
    """A server on 127.0.0.1 with such moods: its address, and what each request got."""
    met: list[str] = []
    one_by_one = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with one_by_one:
                met.append(fate(len(met)))
                mine = met[-1]
            body = OK
            if mine.isdigit():
                body = json.dumps({"error": {"message": TOO_LONG if mine == "400" else "on purpose"}}).encode()
            self.send_response(int(mine) if mine.isdigit() else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if mine == "cut" else body)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", met
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Heard(SilentProgress):
    """Keeps what the user is told, and does something when a word is said."""

    def __init__(self, when: str = "", do: Callable[[], object] = lambda: None) -> None:
        self.lines: list[str] = []
        self._when, self._do = when, do

    def say(self, text: str) -> None:
        self.lines.append(text)
        if self._when and self._when in text:
            self._do()


@pytest.fixture
def ledger(tmp_path: Path) -> Generator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        yield ledger


def ask(url: str, ledger: Ledger, progress: Heard, number: int, after_each: Callable[[], None] = lambda: None) -> Any:
    """Ask so many things, four at a time, and wait as little as tests do; returns answers and errors."""

    async def one(gateway: Gateway, index: int) -> Answer:
        answer = await gateway.ask([Message(role="user", content=f"About {index}.")], leaf="l", step="s")
        after_each()
        return answer

    async def run() -> Any:
        server = ModelServer(model="m", base_url=url, concurrency=4, patience_s=30)
        async with Gateway(server, ledger, progress, retries=Retries(tries=3, first_wait_s=0.01)) as gateway:
            return await asyncio.gather(*(one(gateway, index) for index in range(number)), return_exceptions=True)

    return asyncio.run(run())


@contextlib.contextmanager
def scripted(port: int) -> Generator[subprocess.Popen[str]]:
    """The scripted model as a process of its own, up when the block begins."""
    command = [sys.executable, "-m", "tilth.llm.scripted", "--port", str(port), "--latency-s", "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.slow
def test_a_teacher_that_is_killed_is_waited_for_and_gone_on_with(ledger: Ledger) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with contextlib.ExitStack() as servers:
        first, answered = servers.enter_context(scripted(port)), list[int]()
        progress = Heard("waiting until it answers", lambda: servers.enter_context(scripted(port)))

        def kill_at_the_fifth() -> None:
            answered.append(1)
            if len(answered) == 5:
                first.kill()

        answers = ask(f"http://127.0.0.1:{port}/v1", ledger, progress, 20, kill_at_the_fifth)
    assert [type(answer) for answer in answers] == [Answer] * 20
    told = [line for line in progress.lines if "trying again" not in line]
    assert len(told) == 2
    assert told[0].startswith("teacher: ")
    assert told[0].endswith("; waiting until it answers, 30 s at most")
    assert told[1].startswith("teacher: answers again after ")


@pytest.mark.parametrize("fault", ["503", "500", "cut"])
@pytest.mark.slow
def test_a_teacher_that_answers_nobody_for_a_while_loses_no_request(ledger: Ledger, fault: str) -> None:
    ill = [False, False]  # begun, over
    progress = Heard("waiting until it answers", lambda: ill.__setitem__(1, True))

    def fate(number: int) -> str:
        ill[0] |= number == 5
        return fault if ill == [True, False] else "ok"

    with moody(fate) as (url, met):
        answers = ask(url, ledger, progress, 20)
    assert [type(answer) for answer in answers] == [Answer] * 20
    assert met.count("ok") in {20, 21}  # each once, and perhaps a knock
    assert count(ledger) == 20
    assert [line for line in progress.lines if "answers again after" in line]


@pytest.mark.slow
def test_a_limit_of_minutes_is_waited_off_where_it_says_nothing_of_how_long(ledger: Ledger) -> None:
    with moody(lambda number: "429" if 5 <= number < 60 else "ok") as (url, met):
        answers = ask(url, ledger, Heard(), 20)
    assert [type(answer) for answer in answers] == [Answer] * 20
    assert met.count("429") == 55  # far more than three tries of four requests


def test_a_connection_that_is_cut_in_an_answer_is_tried_again(ledger: Ledger) -> None:
    with moody(lambda number: "cut" if number == 0 else "ok") as (url, met):
        (answer,) = ask(url, ledger, (progress := Heard()), 1)
    assert (answer.text, met) == ("yes", ["cut", "ok"])
    assert "teacher: the connection was lost" in progress.lines[0]


def test_a_context_that_is_too_small_fails_the_row_and_is_not_tried_again(ledger: Ledger) -> None:
    with moody(lambda number: "400" if number == 1 else "ok") as (url, met):
        answers = ask(url, ledger, Heard(), 3)
    assert len(met) == 3
    [failed] = [answer for answer in answers if not isinstance(answer, Answer)]
    assert isinstance(failed, RequestFailed)
    assert TOO_LONG in str(failed)


def test_a_teacher_that_never_answered_is_not_waited_for(ledger: Ledger) -> None:
    with moody(lambda _: "503") as (url, met):
        answers = ask(url, ledger, Heard(), 4)
    assert {type(answer) for answer in answers} == {ModelError}
    assert "the teacher answers nothing, not even 'Say yes.' (HTTP 503: on purpose)" in str(answers[0])
    assert 3 < len(met) <= 4 * 3 + 1  # a knock, and no more tries once it was in vain


@pytest.mark.parametrize(
    ("status", "told"),
    [("401", "check the key in OPENAI_API_KEY"), ("404", "check teacher.base_url and teacher.model")],
)
def test_a_key_or_model_that_is_refused_is_one_line_at_once(
    spawner: Spawner, untouched: Loop, tmp_path: Path, status: str, told: str
) -> None:
    loop = untouched.copy(tmp_path / "taxonomy")
    with moody(lambda _: status) as (url, met):
        loop.configure(teacher={"model": "m", "base_url": url, "concurrency": 4})
        ran = spawner.run(loop.root, "generate")
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == f"tilth: teacher at {url}: HTTP {status}: on purpose; {told}"
    assert "trying again" not in ran.err
    assert len(met) < 20  # what was begun when the first was refused
    assert not list(loop.state.glob("store/*"))
