"""The teacher of these measurements: a chat-completions server fast enough that what is timed is who asks it.

`llm/scripted.py` has a thread for every connection and serves some hundred requests a second; this one is a single
asyncio protocol that serves several thousand. It runs in a process of its own, one for everybody who is measured:

    with serve() as teacher:
        teacher.set(Settings(latency_s=0.05))   # from here on so, with all counters at zero
        ...  # ask teacher.url
        teacher.stats()

Equal prompts get equal answers after equal times, whoever asks. A request with a schema is answered as the scripted
model does. A plain one gets `<item>` 1 to 5 times, and `<keep>yes</keep>` twice as often as `<keep>no</keep>`, for
flows that fan out and filter, filled up to about 1 KB.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import random
import subprocess
import sys
import time
import urllib.request
from array import array
from collections import deque
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Any

from tilth.llm import scripted_answers  # pyright: ignore[reportMissingImports]  the name of the installed package

POISON = "poison-5f2c"
"""A request that holds this word is refused with 400, always."""
_FILLER = " ".join(f"The quick brown fox number {number} jumps over the lazy dog." for number in range(11))


@dataclass(frozen=True)
class Settings:
    """How the teacher behaves."""

    latency_s: float = 0.0
    """The mean time of an answer."""
    sigma: float = 0.0
    """0: every answer takes `latency_s`; else its time is log-normal with this spread, and follows from the prompt."""
    admits: int = 1_000_000
    """Requests beyond so many in flight get 429, without a Retry-After."""
    works_on: int = 1_000_000
    """Requests beyond so many wait in a queue."""
    mark: str = ""
    """Requests that hold this text are counted."""
    second_choice_share: float = 0.1
    """How often an enum gets its second value: judges say no sometimes."""


@dataclass(frozen=True)
class Stats:
    """What came in since `set`. In flight: admitted and not answered yet; working: of these, not in the queue."""

    requests: int
    """All, rejected ones too."""
    unique: int
    """Different bodies among them."""
    marked: int
    """With the mark in them."""
    answered: int
    rejected: int
    """With 429."""
    refused: int
    """With 400."""
    abandoned: int
    """Their connection was closed before the answer."""
    in_flight: int
    most_in_flight: int
    span_s: float
    """From the first request to the last answer."""
    mean_in_flight: float
    mean_working: float
    """Over the span."""
    mean_working_in_the_middle: float
    """From the moment when a tenth of all answers had been given until nine tenths had."""


class Teacher:
    """A running teacher, seen from the process that started it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self._root = f"http://127.0.0.1:{port}"

    def set(self, settings: Settings) -> None:
        """Behave so from now on, and count from zero."""
        self._call("/set", json.dumps(asdict(settings)).encode())

    def stats(self) -> Stats:
        """What it has seen until now."""
        return Stats(**self._call("/stats"))

    def _call(self, path: str, body: bytes | None = None) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self._root + path, body, timeout=60) as answer:
            return json.load(answer)


@contextlib.contextmanager
def serve() -> Generator[Teacher]:
    """A teacher in a process of its own until the block ends."""
    process = subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield Teacher(int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()


class _School:
    """The settings and counters that all connections share."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self._mark = settings, settings.mark.encode()
        self.requests = self.marked = self.rejected = self.refused = self.abandoned = 0
        self.in_flight = self.working = self.most_in_flight = 0
        self.queue: deque[_Request] = deque()
        self._unique: set[bytes] = set()
        self._first_s = self._changed_s = 0.0
        self._in_flight_s = self._working_s = 0.0
        """Integrals over time, up to the last change."""
        self._answered_at, self._working_at = array("d"), array("d")
        """For every answer its moment, and the integral of `working` then."""

    def count(self, body: bytes) -> None:
        if not self.requests:
            self._first_s = self._changed_s = time.monotonic()
        self.requests += 1
        self.marked += self._mark in body
        self._unique.add(hashlib.blake2b(body, digest_size=8).digest())

    def change(self, in_flight: int, working: int) -> None:
        """Add to both counts, and the time since the last change to their integrals."""
        now = time.monotonic()
        self._in_flight_s += self.in_flight * (now - self._changed_s)
        self._working_s += self.working * (now - self._changed_s)
        self._changed_s = now
        self.in_flight += in_flight
        self.working += working
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def answered(self) -> None:
        self._answered_at.append(self._changed_s)
        self._working_at.append(self._working_s)

    def stats(self) -> Stats:
        number = len(self._answered_at)
        span_s = self._answered_at[-1] - self._first_s if number else 0.0
        early, late = number // 10, number * 9 // 10
        middle_s = self._answered_at[late] - self._answered_at[early] if late > early else 0.0
        middle = self._working_at[late] - self._working_at[early] if late > early else 0.0
        return Stats(
            requests=self.requests,
            unique=len(self._unique),
            marked=self.marked,
            answered=number,
            rejected=self.rejected,
            refused=self.refused,
            abandoned=self.abandoned,
            in_flight=self.in_flight,
            most_in_flight=self.most_in_flight,
            span_s=span_s,
            mean_in_flight=self._in_flight_s / span_s if span_s else 0.0,
            mean_working=self._working_s / span_s if span_s else 0.0,
            mean_working_in_the_middle=middle / middle_s if middle_s else 0.0,
        )


class _Request:
    """One request that was admitted, until it is answered or its connection is gone."""

    def __init__(self, school: _School, connection: _Connection, asked: Any) -> None:
        self._school, self._connection, self._asked = school, connection, asked
        self._timer: asyncio.TimerHandle | None = None
        waits = school.working >= school.settings.works_on
        school.change(1, not waits)
        if waits:
            school.queue.append(self)
        else:
            self.begin()

    def begin(self) -> None:
        wait_s = _latency_s(self._school.settings, _prompt(self._asked))
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._end)

    def abandon(self) -> None:
        self._school.abandoned += 1
        if self._timer is None:
            self._school.queue.remove(self)
            self._school.change(-1, 0)
        else:
            self._timer.cancel()
            self._leave()

    def _end(self) -> None:
        self._connection.answer(_completion(self._asked, self._school.settings.second_choice_share))
        self._leave()
        self._school.answered()

    def _leave(self) -> None:
        self._school.change(-1, -1)
        if self._school.queue:
            self._school.change(0, 1)
            self._school.queue.popleft().begin()


class _Connection(asyncio.Protocol):
    """HTTP/1.1 as far as clients of chat models speak it: one request at a time, bodies with their length."""

    def __init__(self, schools: list[_School]) -> None:
        self._schools = schools  # the last one counts; requests that came before a `set` end with their own
        self._received = b""
        self._request: _Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._request:
            self._request.abandon()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _content_length(head)
        if len(body) >= length:
            self._received = body[length:]
            self._meet(head.split(b" ", 2)[1].partition(b"?")[0], body[:length])

    def answer(self, value: bytes, status: str = "200 OK") -> None:
        self._request = None
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(value)}\r\n\r\n"
        self._transport.write(head.encode() + value)

    def _meet(self, path: bytes, body: bytes) -> None:
        school = self._schools[-1]
        if path.endswith(b"/chat/completions"):
            self._admit(school, body)
        elif path == b"/set":
            self._schools.append(_School(Settings(**json.loads(body))))
            self.answer(b"{}")
        elif path == b"/stats":
            self.answer(json.dumps(asdict(school.stats())).encode())
        else:
            self.answer(b'{"object": "list", "data": [{"id": "mock", "object": "model"}]}')

    def _admit(self, school: _School, body: bytes) -> None:
        asked = json.loads(body)
        if not asked["messages"]:
            self.answer(_error("no messages"), "400 Bad Request")  # how Curator asks for the limits of a server
            return
        school.count(body)
        if POISON.encode() in body:
            school.refused += 1
            self.answer(_error("this prompt is refused"), "400 Bad Request")
        elif school.in_flight >= school.settings.admits:
            school.rejected += 1
            self.answer(_error("too many requests"), "429 Too Many Requests")
        else:
            self._request = _Request(school, self, asked)


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.find(b"\r\ncontent-length:")
    return int(lowered[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "mock", "code": None}}).encode()


def _prompt(asked: Any) -> str:
    content = asked["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _latency_s(settings: Settings, prompt: str) -> float:
    if not settings.sigma:
        return settings.latency_s
    draw = random.Random(prompt).gauss(0, settings.sigma)  # noqa: S311
    return settings.latency_s * math.exp(draw - settings.sigma**2 / 2)


def _completion(asked: Any, second_choice_share: float) -> bytes:
    if asked.get("response_format"):
        text = scripted_answers.answer(asked, second_choice_share)
    else:
        text = plain_answer(_prompt(asked))
    usage = {"prompt_tokens": 200, "completion_tokens": 150, "total_tokens": 350}
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    head = {"id": "mock", "object": "chat.completion", "created": 0, "model": asked.get("model", "mock")}
    return json.dumps({**head, "choices": choices, "usage": usage}).encode()


def plain_answer(prompt: str) -> str:
    """The answer to a request without a schema."""
    digest = hashlib.blake2b(prompt.encode(), digest_size=8).digest()
    items = "".join(f"<item>{digest.hex()}-{number}</item>\n" for number in range(digest[0] % 5 + 1))
    return f"{items}<keep>{'no' if digest[1] % 3 == 0 else 'yes'}</keep>\n{_FILLER}"


async def _main() -> None:
    schools = [_School(Settings())]
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(schools), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
