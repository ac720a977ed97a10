"""What lies between `ask` and an endpoint: several endpoints, budgets, lengths, servers without schemas."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tilth.core.config import ModelServer, Prices
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress
from tilth.core.records import Message
from tilth.llm.ask import Answer, Gateway, RequestFailed
from tilth.llm.budget import Budget, BudgetSpent
from tilth.llm.ledger import Ledger
from tilth.llm.ledger_report import count
from tilth.llm.scripted import serve_scripted
from tilth.llm.wire import Retries

SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def prompt(text: object) -> list[Message]:
    return [Message(role="user", content=f"About {text}.")]


def asked(gateway: Gateway, numbers: range, **options: Any) -> Any:
    works = (gateway.ask(prompt(number), leaf="l", step="s", **options) for number in numbers)
    return asyncio.gather(*works, return_exceptions=True)


def ask_all(server: ModelServer, ledger: Ledger, numbers: range, budget: Budget | None = None, **options: Any) -> Any:
    async def run() -> Any:
        retries = Retries(first_wait_s=0.002)
        async with Gateway(server, ledger, SilentProgress(), retries=retries, budget=budget) as gateway:
            return await asked(gateway, numbers, **options)

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  there is nothing to wait for
        await asyncio.sleep(0)


@contextlib.contextmanager
def serve(reply: Callable[[str, dict[str, Any]], tuple[int, Any]]) -> Generator[str]:
    """A server whose answer to a path and a body is what `reply` says."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else the body waits 40 ms behind the head

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            self.answer({})

        def answer(self, body: dict[str, Any]) -> None:
            status, value = reply(self.path, body)
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(text: str, prompt_tokens: int = 10) -> dict[str, Any]:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": 5}}


def test_several_endpoints_share_the_work(ledger: Ledger) -> None:
    with serve_scripted(latency_s=0.02) as one, serve_scripted(latency_s=0.02) as other:
        server = ModelServer(model="scripted", base_url=(str(one), str(other)), concurrency=4)
        answers = ask_all(server, ledger, range(40))
        assert all(isinstance(answer, Answer) for answer in answers)
        assert one.stats().requests + other.stats().requests == 40
        assert min(one.stats().requests, other.stats().requests) >= 10


def test_an_endpoint_that_goes_away_leaves_its_work_to_the_other(ledger: Ledger) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        gone = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with serve_scripted() as url:
        ask_all(ModelServer(model="scripted", base_url=str(url)), ledger, range(1))
        answers = ask_all(ModelServer(model="scripted", base_url=(gone, str(url))), ledger, range(20))
    assert {type(answer) for answer in answers} == {Answer}


@pytest.mark.parametrize(
    ("limits", "calls"), [({"max_calls": 5}, 5), ({"max_tokens": 1}, 1), ({"max_cost": 0.000001}, 1)]
)
def test_a_budget_ends_the_asking_and_keeps_what_was_paid(ledger: Ledger, limits: dict[str, Any], calls: int) -> None:
    with serve_scripted() as url:
        prices = Prices(prompt=1.0, completion=2.0)
        server = ModelServer(model="scripted", base_url=str(url), concurrency=1, prices=prices)
        answers = ask_all(server, ledger, range(8), Budget(**limits))
        assert url.stats().requests == count(ledger) == calls
        assert [type(answer) for answer in answers] == [Answer] * calls + [BudgetSpent] * (8 - calls)
        assert "run again, with as much to spend or more" in str(answers[-1])
        # What is in the ledger takes nothing from a budget.
        again = ask_all(server, ledger, range(calls), Budget(max_calls=0))
        assert all(answer.cached for answer in again)


def test_a_budget_knows_what_was_spent(ledger: Ledger) -> None:
    budget = Budget()
    with serve(lambda _, body: (200, completion("yes")) if body else (404, {})) as url:
        server = ModelServer(model="m", base_url=url, prices=Prices(prompt=100_000, completion=200_000))
        ask_all(server, ledger, range(3), budget)
    assert (budget.calls, budget.tokens, budget.cost) == (3, 45, pytest.approx(6.0))


def test_a_server_that_takes_no_schema_gets_it_in_words(ledger: Ledger) -> None:
    bodies: list[dict[str, Any]] = []

    def reply(_: str, body: dict[str, Any]) -> tuple[int, Any]:
        bodies.append(body)
        if "response_format" in body:
            return 400, {"error": {"message": "response_format json_schema is not supported"}}
        return 200, completion('```json\n{"answer": "yes"}\n```')

    with serve(reply) as url:
        server = ModelServer(model="m", base_url=url, concurrency=1)
        answers = ask_all(server, ledger, range(3), schema=SCHEMA)
    assert [answer.data for answer in answers] == [{"answer": "yes"}] * 3
    posts = [body for body in bodies if body]
    assert len(posts) == 4  # it is told once
    assert json.dumps(SCHEMA) in posts[-1]["messages"][-1]["content"]


def test_a_prompt_that_cannot_fit_is_not_sent(ledger: Ledger) -> None:
    posts: list[str] = []
    lists: list[str] = []

    def reply(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/models":
            lists.append(path)
            return 200, {"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 2000}]}
        posts.append(body["messages"][0]["content"])
        return 200, completion("yes", prompt_tokens=len(json.dumps(body)) // 4)

    with serve(reply) as url:
        server = ModelServer(model="m", base_url=url, concurrency=1)
        small = ask_all(server, ledger, range(1))
        assert not lists  # nobody asks before it matters
        fits = ask_all(server, ledger, range(1), max_tokens=1900)
        too_long = ask_all(server, ledger, range(1), max_tokens=2001)
    assert isinstance(small[0], Answer)
    assert isinstance(fits[0], Answer)
    assert isinstance(too_long[0], RequestFailed)
    assert "do not fit the model's context of 2,000; smaller chunks would" in str(too_long[0])
    assert len(posts) == 2


def test_a_context_that_one_endpoint_tells_counts_for_all(ledger: Ledger) -> None:
    def silent(path: str, _: dict[str, Any]) -> tuple[int, Any]:
        return (404, {}) if path == "/v1/models" else (200, completion("yes"))

    def telling(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        listed = {"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 2000}]}
        return (200, listed) if path == "/v1/models" else silent(path, body)

    with serve(silent) as one, serve(telling) as two:
        [answer] = ask_all(ModelServer(model="m", base_url=[one, two]), ledger, range(1), max_tokens=2001)
    assert "do not fit the model's context of 2,000" in str(answer)


def test_what_other_prompts_took_refuses_none_that_may_fit(ledger: Ledger) -> None:
    """A short prompt may take ten times the tokens for each of its letters: what is refused follows from no timing."""
    long = "word " * 1000

    def reply(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 2000}]}
        return 200, completion("yes", prompt_tokens=1000 if long in json.dumps(body) else 200)

    async def run(url: str) -> list[Answer]:
        async with Gateway(ModelServer(model="m", base_url=url), ledger, SilentProgress()) as gateway:
            return [await gateway.ask(prompt(text), leaf="l", step="s") for text in ("dense", long)]

    with serve(reply) as url:
        assert len(asyncio.run(run(url))) == 2


def test_a_model_that_is_not_served_is_told_with_those_that_are(ledger: Ledger) -> None:
    def reply(path: str, _: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": "granite-8b", "object": "model"}]}
        return 404, {"error": {"message": "no such model"}}

    with serve(reply) as url:
        [answer] = ask_all(ModelServer(model="granite-7b", base_url=url), ledger, range(1))
    assert isinstance(answer, ModelError)
    assert "it does not serve 'granite-7b': did you mean 'granite-8b'?" in str(answer)


def test_an_endpoint_that_refuses_everything_is_told_once(ledger: Ledger) -> None:
    with serve(lambda *_: (400, {"error": {"message": "no such parameter"}})) as url:
        answers = ask_all(ModelServer(model="m", base_url=url, concurrency=1), ledger, range(12))
    kinds = {type(answer) for answer in answers}
    assert kinds == {RequestFailed, ModelError}
    assert "11 requests to the teacher failed and none was answered (HTTP 400: no such parameter)" in str(answers[-2])


def refusing(refused: range, pause_s: float = 0.0) -> Callable[[str, dict[str, Any]], tuple[int, Any]]:
    """Refuses what is about these numbers, and takes its time for all else."""
    texts = {prompt(number)[0].content for number in refused}

    def reply(_: str, body: dict[str, Any]) -> tuple[int, Any]:
        if body and body["messages"][0]["content"] in texts:
            return 400, {"error": {"message": "on purpose"}}
        threading.Event().wait(pause_s)
        return 200, completion("yes")

    return reply


@pytest.mark.slow
def test_quick_refusals_beside_slow_answers_are_matters_of_their_rows(ledger: Ledger) -> None:
    with serve(refusing(range(12), pause_s=0.2)) as url:
        answers = ask_all(ModelServer(model="m", base_url=url, concurrency=16), ledger, range(15))
    assert [type(answer) for answer in answers] == [RequestFailed] * 12 + [Answer] * 3


def test_what_the_ledger_has_says_that_the_model_answers(ledger: Ledger) -> None:
    """A killed run, started again, in which nothing but refused requests is left."""
    with serve(refusing(range(12))) as url:
        server = ModelServer(model="m", base_url=url, concurrency=1)
        ask_all(server, ledger, range(12, 13))
        answers = ask_all(server, ledger, range(12, -1, -1))
    assert [type(answer) for answer in answers] == [Answer] + [RequestFailed] * 12


def test_a_repair_that_is_refused_names_the_answer_that_was_paid(ledger: Ledger) -> None:
    def reply(_: str, body: dict[str, Any]) -> tuple[int, Any]:
        if body and len(body["messages"]) > 1:
            return 400, {"error": {"message": "too long"}}
        return 200, completion("I would rather not.")

    with serve(reply) as url:
        [failed] = ask_all(ModelServer(model="m", base_url=url), ledger, range(1), schema=SCHEMA)
    assert isinstance(failed, RequestFailed)
    assert [bool(ledger.get(key)) for key in failed.keys] == [True, False]


def test_one_refused_request_does_not_take_the_schema_from_all_others(ledger: Ledger) -> None:
    held: list[bool] = []

    def reply(_: str, body: dict[str, Any]) -> tuple[int, Any]:
        if body["messages"][0]["content"].startswith("About 0."):
            return 400, {"error": {"message": "'structured' is no word of this prompt"}}
        held.append("response_format" in body)
        return 200, completion('{"answer": "yes"}')

    with serve(reply) as url:
        ask_all(ModelServer(model="m", base_url=url, concurrency=1), ledger, range(4), schema=SCHEMA)
    assert held == [True] * 3


def test_trouble_that_goes_on_is_told_once(ledger: Ledger) -> None:
    lines: list[str] = []
    progress = SilentProgress()
    progress.say = lines.append

    async def run(url: str) -> None:
        server = ModelServer(model="scripted", base_url=url, concurrency=4)
        async with Gateway(server, ledger, progress, retries=Retries(first_wait_s=0.01)) as gateway:
            await asked(gateway, range(60))

    with serve_scripted(rates={"500": 0.3}) as url:
        asyncio.run(run(str(url)))
        assert url.stats().faults["500"] > 5
    assert len(lines) == 1


def test_what_is_on_the_wire_at_the_end_is_kept_though_nobody_waits_for_it(ledger: Ledger) -> None:
    async def run(url: str) -> None:
        async with Gateway(ModelServer(model="scripted", base_url=url), ledger, SilentProgress()) as gateway:
            unneeded = asyncio.create_task(gateway.ask(prompt(1), leaf="l", step="s"))
            await until(lambda: gateway.wire.in_flight > 0)
            unneeded.cancel()

    with serve_scripted(latency_s=0.1) as url:
        asyncio.run(run(str(url)))
        assert count(ledger) == url.stats().requests == 1


def test_who_waited_for_the_first_of_a_kind_pays_for_nothing_that_came_meanwhile(ledger: Ledger) -> None:
    asked_for: list[str] = []
    go_on = threading.Event()

    def reply(_: str, body: dict[str, Any]) -> tuple[int, Any]:
        asked_for.append(body["messages"][0]["content"])
        if asked_for[-1] == "About the first.":
            go_on.wait(10)
        return 200, completion("yes")

    async def run(url: str) -> None:
        async with Gateway(ModelServer(model="m", base_url=url, concurrency=2), ledger, SilentProgress()) as gateway:

            def ask(text: str) -> Any:
                return gateway.ask(prompt(text), leaf="l", step="s", prefix="chunk")

            await ask("the opening")
            first = asyncio.create_task(ask("the first"))
            await asyncio.sleep(0)
            others = asked(gateway, range(4))
            await until(lambda: gateway.wire.is_busy)
            waiting = asyncio.create_task(ask("the same"))
            await others
            assert not first.done()
            await ask("the same")
            go_on.set()
            await asyncio.gather(first, waiting)

    with serve(reply) as url:
        asyncio.run(run(url))
    assert asked_for.count("About the same.") == 1


@pytest.mark.slow
def test_of_requests_that_begin_alike_the_first_goes_alone_while_there_is_other_work(ledger: Ledger) -> None:
    """Four siblings and a line of other requests: the second sibling comes after the first is answered."""
    order: list[tuple[str, str]] = []

    def reply(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/models":
            return 404, {}
        name = body["messages"][0]["content"]
        order.append(("asked", name))
        threading.Event().wait(0.02)
        order.append(("answered", name))
        return 200, completion("yes")

    async def run(url: str) -> None:
        server = ModelServer(model="m", base_url=url, concurrency=4)
        async with Gateway(server, ledger, SilentProgress()) as gateway:
            await gateway.ask(prompt("opening"), leaf="l", step="s")
            others = asked(gateway, range(30))
            await asyncio.sleep(0.005)
            works = (gateway.ask(prompt(f"chunk {n}"), leaf="l", step="s", depth=1, prefix="chunk") for n in range(4))
            await asyncio.gather(*works)
            await others

    with serve(reply) as url:
        asyncio.run(run(url))
    siblings = [(what, name) for what, name in order if "chunk" in name]
    assert siblings[:2] == [("asked", "About chunk 0."), ("answered", "About chunk 0.")]
    assert len(siblings) == 8


@pytest.mark.slow
def test_one_commit_serves_all_answers_that_came_meanwhile(ledger: Ledger) -> None:
    commits: list[int] = []
    put = ledger._put

    def counted(entries: Any) -> Any:
        commits.append(len(entries))
        return put(entries)

    ledger._put = counted
    with serve_scripted() as url:
        ask_all(ModelServer(model="scripted", base_url=str(url), concurrency=64), ledger, range(200))
    assert sum(commits) == count(ledger) == 200
    assert len(commits) < 150
