"""The scripted model: a fake model behind a real HTTP server that speaks the chat-completions protocol on 127.0.0.1.

For tests, dry runs and load measurements: with latency, a rate limit and faults on request. In a test:

    with serve_scripted(script=("500", "ok")) as url:
        server = ModelServer(model="scripted", base_url=url)
        ...
        assert url.stats().requests == 2

By hand: `python -m tilth.llm.scripted --port 8000 --rate 500=0.1`. `GET /stats` tells the counters.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from . import scripted_answers

FAULTS = ("500", "503", "429", "400", "401", "drop", "hang", "malformed", "garbage", "empty", "cut")
"""HTTP errors by status; `drop`: the connection is closed without an answer; `hang`: it stays open without one;
`malformed`: a body that is no JSON; `garbage`: an answer that fits no schema; `empty`: an answer of no text; `cut`:
finish_reason `length`."""


@dataclass(frozen=True)
class Faults:
    """How the server misbehaves."""

    latency_s: float = 0.0
    most_in_flight: int = 1_000_000
    """Requests beyond this are refused with 429 and a Retry-After."""
    retry_after_s: float = 1.0
    """What a 429 asks for; 0: it asks for nothing."""
    script: tuple[str, ...] = ()
    """What the first requests get, in order: a fault, or `ok`."""
    rates: Mapping[str, float] = field(default_factory=dict[str, float])
    """Fault -> share of the requests after the script that get it. Which ones follows from their order, seeded."""
    always: Mapping[str, str] = field(default_factory=dict[str, str])
    """Text -> what every request gets whose prompt has it: a model may choke on one prompt and on no other."""
    second_choice_share: float = 0.1
    """How often an enum or boolean gets its second value: judges say no sometimes."""

    def __post_init__(self) -> None:
        for name in {*self.script, *self.rates, *self.always.values()} - {*FAULTS, "ok"}:
            raise ValueError(f"there is no fault {name!r}; use one of {FAULTS}")


@dataclass(frozen=True)
class ServerStats:
    """What a server has seen. `faults` counts what went wrong on purpose, `answers` what was answered."""

    requests: int
    answers: int
    most_in_flight: int
    faults: dict[str, int]


class ScriptedUrl(str):
    """The base URL of a running scripted model (`http://127.0.0.1:PORT/v1`), with its counters."""

    stats: Callable[[], ServerStats]
    """The counters now."""


@contextlib.contextmanager
def serve_scripted(*, port: int = 0, **faults: Any) -> Generator[ScriptedUrl]:
    """Serve the scripted model until the block ends. `faults` are the fields of `Faults`; port 0: a free one."""
    server = _Server(("127.0.0.1", port), Faults(**faults))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    url = ScriptedUrl(f"http://127.0.0.1:{server.server_port}/v1")
    url.stats = server.stats
    try:
        yield url
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client may keep its connection open for minutes
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], faults: Faults) -> None:
        super().__init__(address, _Handler)
        self.faults = faults
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._random = random.Random(0)  # noqa: S311
        self._requests = self._answers = self._in_flight = self._most_in_flight = 0
        self._faults: Counter[str] = Counter()

    def stats(self) -> ServerStats:
        with self._lock:
            return ServerStats(self._requests, self._answers, self._most_in_flight, dict(self._faults))

    @contextlib.contextmanager
    def admitted(self, body: str) -> Generator[str]:
        """Count a request in and out; yields what it is to get: `ok` or a fault."""
        with self._lock:
            self._requests += 1
            self._in_flight += 1
            self._most_in_flight = max(self._most_in_flight, self._in_flight)
            fate = "429" if self._in_flight > self.faults.most_in_flight else self._fate(body)
            if fate == "ok":
                self._answers += 1
            else:
                self._faults[fate] += 1
        try:
            yield fate
        finally:
            with self._lock:
                self._in_flight -= 1

    def _fate(self, body: str) -> str:
        if fate := next((fate for text, fate in self.faults.always.items() if text in body), ""):
            return fate
        if self._requests <= len(self.faults.script):
            return self.faults.script[self._requests - 1]
        draw = self._random.random()
        for name, share in self.faults.rates.items():
            if draw < share:
                return name
            draw -= share
        return "ok"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; the standard library would print a traceback."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        if self.path == "/stats":
            self._send(200, asdict(self.server.stats()))
        elif self.path == "/health":
            self._send(200, {"status": "ok"})
        elif self.path == "/v1/models":
            self._send(200, {"object": "list", "data": [{"id": "scripted", "object": "model"}]})
        else:
            self._send(404, _error("no such path"))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/v1/chat/completions":
            self._send(404, _error("no such path"))
            return
        with self.server.admitted(body.decode(errors="replace")) as fate:
            if fate != "429":
                time.sleep(self.server.faults.latency_s)
            if fate == "hang":
                self.server.closing.wait()
            self._meet(fate, body)

    def _meet(self, fate: str, body: bytes) -> None:
        if fate == "401":  # as real servers do: with the key that they refuse
            self._send(401, _error(f"no such key: {self.headers.get('Authorization')}"))
        elif fate.isdigit():
            self._send(int(fate), _error("on purpose"), retry_after=fate == "429")
        elif fate in {"drop", "hang"}:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fate == "malformed":
            self._send(200, "<html>bad gateway</html>")
        else:
            self._answer(fate, body)

    def _answer(self, fate: str, body: bytes) -> None:
        try:
            request = json.loads(body)
            text = scripted_answers.answer(request, self.server.faults.second_choice_share)
            prompt = sum(scripted_answers.count_words(turn["content"]) for turn in request["messages"])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            self._send(400, _error(f"not a chat-completions request ({error!r})"))
            return
        text = {"empty": "", "garbage": "I would rather not.", "cut": text[: len(text) // 2]}.get(fate, text)
        message = {"role": "assistant", "content": text}
        reason = "length" if fate == "cut" else "stop"
        if request.get("stream"):
            self._stream(text, reason)
            return
        spent = scripted_answers.count_words(text)
        usage = {"prompt_tokens": prompt, "completion_tokens": spent, "total_tokens": prompt + spent}
        choices = [{"index": 0, "message": message, "finish_reason": reason}]
        self._send(200, {**_HEAD, "object": "chat.completion", "choices": choices, "usage": usage})

    def _stream(self, text: str, reason: str) -> None:
        """Word by word, as server-sent events."""
        words: list[str] = re.findall(r"\s*\S+|\s+$", text)
        deltas: list[dict[str, str]] = [*({"content": word} for word in words), {}]
        choices = [{"index": 0, "delta": delta, "finish_reason": None if delta else reason} for delta in deltas]
        chunks = [{**_HEAD, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
        events = [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]
        self._send(200, "".join(f"data: {event}\n\n" for event in events), kind="text/event-stream")

    def _send(self, status: int, value: Any, *, retry_after: bool = False, kind: str = "application/json") -> None:
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if retry_after and self.server.faults.retry_after_s:
            self.send_header("Retry-After", f"{self.server.faults.retry_after_s:g}")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: `/stats` tells."""


_HEAD = {"id": "scripted", "created": 0, "model": "scripted"}


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "scripted"}}


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tilth.llm.scripted", description="Serve a fake chat model.")
    parser.add_argument("--port", type=int, default=0, help="0: a free one, printed")
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--most-in-flight", type=int, default=Faults.most_in_flight)
    parser.add_argument("--retry-after-s", type=float, default=Faults.retry_after_s)
    parser.add_argument("--script", default="", metavar="FAULT,FAULT,…", help="what the first requests get")
    parser.add_argument(
        "--rate", action="append", default=[], metavar="FAULT=SHARE", help=f"one of {', '.join(FAULTS)}"
    )
    parser.add_argument(
        "--always", action="append", default=[], metavar="TEXT=FAULT", help="for every request whose prompt has TEXT"
    )
    parser.add_argument("--second-choice-share", type=float, default=Faults.second_choice_share)
    options = vars(parser.parse_args())
    options["script"] = tuple(options["script"].split(",")) if options["script"] else ()
    options["always"] = dict(choice.rsplit("=", 1) for choice in options["always"])
    options["rates"] = {name: float(share) for name, share in (rate.split("=") for rate in options.pop("rate"))}
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before the server's threads are made, which inherit it
    with serve_scripted(**options) as url:
        print(url, flush=True)  # noqa: T201  a program of its own
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
