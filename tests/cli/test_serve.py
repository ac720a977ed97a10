"""`tilth serve` as a process: what it prints, who may ask, how it ends."""

from __future__ import annotations

import functools
import re
import signal
import socket
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from ..loop import Loop, Ran, Running, Spawner


class Serving:
    """`tilth serve` in a process of its own."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.ran: Ran | None = None

    @functools.cached_property
    def url(self) -> str:
        """Waits until it answers."""
        deadline = time.monotonic() + 300
        printed = self._running.folder / "out"
        while not printed.exists() or "answers at" not in printed.read_text():
            assert time.monotonic() < deadline, (self._running.folder / "err").read_text()
            time.sleep(0.05)
        return re.findall(r"http://[\d.:]+/v1", printed.read_text())[0]

    def end(self, number: int) -> Ran:
        """Send it a signal and wait."""
        self._running.send(number)
        self.ran = self._running.wait()
        return self.ran


@pytest.fixture
def serve(spawner: Spawner, turned_once: Loop) -> Generator[Callable[..., Serving]]:
    """Starts a server in the workspace with a release; what a test leaves running is killed."""
    started: list[Serving] = []

    def serving(*arguments: str, **environment: str) -> Serving:
        started.append(Serving(spawner.start(turned_once.root, "serve", *arguments, "--port", "0", **environment)))
        return started[-1]

    yield serving
    for each in started:
        if each.ran is None:
            each.end(signal.SIGKILL)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_release_is_served_until_a_signal(serve: Callable[..., Serving], end: signal.Signals) -> None:
    import openai

    serving = serve("--token-env", "TOKEN", TOKEN="secret")
    transport = openai.DefaultHttpx2Client(trust_env=False)
    with openai.OpenAI(base_url=serving.url, api_key="secret", max_retries=0, http_client=transport) as client:
        asked: Any = [{"role": "user", "content": "What is the wheel of Orla Mill made of?"}]
        answer = client.chat.completions.create(model="release-1", messages=asked, max_tokens=6)
        assert answer.choices[0].message.content == "larch"
        ran = serving.end(end)
    assert (ran.code, ran.err) == (0, "loading release 1\n")
    assert ran.out == f"release 1 answers at {serving.url} as 'release-1'; Ctrl-C ends it\n"


def test_a_signal_ends_answers_on_their_way(serve: Callable[..., Serving]) -> None:
    import openai

    serving = serve("base", "--token-env", "TOKEN", TOKEN="secret")
    transport = openai.DefaultHttpx2Client(trust_env=False)
    with openai.OpenAI(base_url=serving.url, api_key="secret", max_retries=0, http_client=transport) as client:
        asked: Any = [{"role": "user", "content": "x"}]
        stream = client.chat.completions.create(
            model="base", messages=asked, max_tokens=2000, temperature=2, stream=True
        )
        next(iter(stream))
        ran = serving.end(signal.SIGTERM)
        stream.close()
    assert (ran.code, ran.err) == (0, "loading base\n")


def test_a_new_token_is_printed_once(serve: Callable[..., Serving]) -> None:
    serving = serve("base")
    assert serving.url
    ran = serving.end(signal.SIGINT)
    assert re.fullmatch(r"base answers at .*\nbearer token: [\w-]{43}\n", ran.out)


def test_what_cannot_be_served_is_one_line(spawner: Spawner, turned_once: Loop, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = spawner.run(turned_once.root, "serve", "--port", port)
    fix = "choose another with --port; 0 takes a free one"
    assert ran.err == f"tilth: 127.0.0.1:{port}: cannot listen there (address already in use); {fix}\n"
    assert (ran.code, ran.out) == (2, "")
    ran = spawner.run(turned_once.root, "serve", "--token-env", "NO_SUCH_TOKEN")
    assert "the environment variable 'NO_SUCH_TOKEN' with the token is not set" in ran.err
    ran = spawner.run(turned_once.root, "serve", "teacher", "--port", "0")
    assert "an endpoint is served already" in ran.err
    assert ran.code == 2
