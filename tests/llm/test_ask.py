import asyncio
import json
import socket
import time

import pytest
from tilth.core.config import ModelServer
from tilth.core.errors import ModelError
from tilth.core.records import Message
from tilth.llm.ask import Answer, BadAnswer, Gateway, RequestFailed, Unanswered, _data, _Unfit
from tilth.llm.client import _seconds
from tilth.llm.completion import Completion
from tilth.llm.endpoint import identity, open_endpoints
from tilth.llm.ledger_report import count
from tilth.llm.scripted import serve_scripted
from tilth.llm.wire import Retries

FAST = Retries(first_wait_s=0.002)
SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}


def server_at(url, **options):
    return ModelServer(model="scripted", base_url=url, **options)


def prompt(number=0):
    text = f"Prompt {number}. The lighthouse of Velmora was built in 1871 and shows two green flashes."
    return [Message(role="user", content=text)]


def ask_all(server, ledger, progress, prompts, *, retries=FAST, **options):
    """Ask everything at once; returns the answers (or errors) and the gateway's counters."""

    async def run():
        async with Gateway(server, ledger, progress, retries=retries) as gateway:
            asked = [gateway.ask(messages, leaf="leaf", step="step", **options) for messages in prompts]
            return await asyncio.gather(*asked, return_exceptions=True), gateway.stats

    return asyncio.run(run())


def ask_one(server, ledger, progress, **options):
    (answer,), _ = ask_all(server, ledger, progress, [prompt()], **options)
    if isinstance(answer, BaseException):
        raise answer
    return answer


def test_an_answer_is_parsed_and_counted(ledger, progress):
    with serve_scripted() as url:
        (answer,), stats = ask_all(server_at(url), ledger, progress, [prompt()], schema=SCHEMA)
    assert answer.data["question"].endswith("?")
    assert answer.data == json.loads(answer.text)
    assert not answer.cached
    entry = ledger.get(answer.key)
    assert (entry.leaf, entry.step, entry.model) == ("leaf", "step", "scripted")
    assert entry.completion.text == answer.text
    assert (stats.asked, stats.paid, stats.cached) == (1, 1, 0)
    assert stats.completion_tokens == entry.completion_tokens > 0


def test_the_same_request_is_answered_from_the_ledger_without_a_server(ledger, progress):
    with serve_scripted() as url:
        first = ask_one(server_at(url), ledger, progress)
    (again,), stats = ask_all(server_at(url), ledger, progress, [prompt()])  # nobody listens there any more
    assert again == Answer(first.keys, first.text, None, cached=True)
    assert (stats.cached, stats.paid) == (1, 0)


def test_the_key_knows_the_request_and_not_its_place(ledger, progress):
    with serve_scripted() as url, serve_scripted() as other:
        here, there = (ask_one(server_at(at), ledger, progress) for at in (url, other))
        assert here.key == there.key
        assert other.stats().requests == 0
        variations = [{"index": 1}, {"temperature": 0.7}, {"max_tokens": 9}, {"schema": SCHEMA}]
        keys = {ask_one(server_at(url), ledger, progress, **options).key for options in variations}
    assert len(keys | {here.key}) == 5


def test_identical_requests_in_flight_share_one_call(ledger, progress):
    with serve_scripted(latency_s=0.1) as url:
        answers, stats = ask_all(server_at(url), ledger, progress, [prompt()] * 10)
        assert url.stats().requests == 1
    assert len({answer.text for answer in answers}) == 1
    assert (stats.asked, stats.paid, stats.cached) == (10, 1, 9)
    assert sum(answer.cached for answer in answers) == 9


@pytest.mark.slow
def test_a_cancelled_waiter_does_not_take_the_call_with_it(ledger, progress):
    async def run(server):
        async with Gateway(server, ledger, progress) as gateway:
            first, second = (asyncio.create_task(gateway.ask(prompt(), leaf="l", step="s")) for _ in range(2))
            await asyncio.sleep(0.1)
            first.cancel()
            return await second

    with serve_scripted(latency_s=0.3) as url:
        assert asyncio.run(run(server_at(url))).text
        assert url.stats().requests == 1


def test_no_more_than_the_concurrency_is_in_flight(ledger, progress):
    with serve_scripted(latency_s=0.02) as url:
        ask_all(server_at(url, concurrency=3), ledger, progress, [prompt(number) for number in range(12)])
        assert url.stats().most_in_flight == 3


@pytest.mark.parametrize("fault", ["500", "503", "429", "drop", "malformed"])
def test_what_may_pass_is_tried_again(ledger, progress, fault):
    with serve_scripted(script=(fault, fault, "ok"), retry_after_s=0) as url:
        assert ask_one(server_at(url), ledger, progress).text
        assert url.stats().requests == 3
    assert len(progress.lines) == 1
    assert "trying again" in progress.lines[0]
    assert count(ledger) == 1


def test_trying_again_has_an_end(ledger, progress):
    with serve_scripted(always={"lighthouse": "500"}) as url:
        with pytest.raises(Unanswered, match="leaf: step: HTTP 500: on purpose, 6 tries; run the same command again"):
            ask_one(server_at(url), ledger, progress)
        assert url.stats().faults == {"500": 6}
    assert count(ledger) == 0


def test_a_request_that_is_wrong_is_not_tried_again(ledger, progress):
    with serve_scripted(script=("400",)) as url:
        with pytest.raises(ModelError, match="HTTP 400: on purpose"):
            ask_one(server_at(url), ledger, progress)
        assert url.stats().requests == 1


def test_one_bad_request_leaves_the_others_alone(ledger, progress):
    with serve_scripted(script=("ok", "400")) as url:
        answers, _ = ask_all(server_at(url, concurrency=1), ledger, progress, [prompt(n) for n in range(4)])
    assert [type(answer) for answer in answers] == [Answer, RequestFailed, Answer, Answer]
    assert count(ledger) == 3


@pytest.mark.parametrize("key", ["sk-one\r\nX-Two: 3", "sk\u2013one"])
def test_a_key_that_no_header_may_have_is_told_and_not_shown(ledger, progress, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", f"{key}\n")
    told = r"'OPENAI_API_KEY' holds no key: it has signs that no header may have; set it anew"
    with serve_scripted() as url, pytest.raises(ModelError, match=told) as caught:
        ask_one(server_at(url), ledger, progress)
    assert "one" not in str(caught.value)


def test_a_key_may_end_in_a_line_break(ledger, progress, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one\n")
    with serve_scripted() as url:
        assert ask_one(server_at(url), ledger, progress).text


@pytest.mark.parametrize("header", ["Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "soon", "", "nan"])
def test_a_retry_after_that_says_nothing_is_none(header):
    assert not _seconds(header) > 0


@pytest.mark.slow
def test_retry_after_is_obeyed(ledger, progress):
    with serve_scripted(script=("429", "ok"), retry_after_s=0.4) as url:
        started = time.monotonic()
        ask_one(server_at(url), ledger, progress)
    assert time.monotonic() - started >= 0.4


def test_a_retry_after_of_an_hour_is_told_at_once(ledger, progress):
    with serve_scripted(script=("429",), retry_after_s=3600) as url:
        with pytest.raises(ModelError, match="HTTP 429"):
            ask_one(server_at(url), ledger, progress)
        assert url.stats().requests == 1


@pytest.mark.slow
def test_a_server_that_rations_loses_nothing(ledger, progress):
    prompts = [prompt(number) for number in range(30)]
    with serve_scripted(latency_s=0.02, most_in_flight=1, retry_after_s=0) as url:
        answers, stats = ask_all(server_at(url), ledger, progress, prompts, retries=Retries(first_wait_s=0.02))
        assert url.stats().faults["429"] > 0
    assert all(isinstance(answer, Answer) for answer in answers)
    assert stats.paid == url.stats().answers == 30


def test_a_time_out_is_tried_twice(ledger, progress):
    with serve_scripted(always={"lighthouse": "hang"}) as url:
        with pytest.raises(Unanswered, match=r"no answer within 0.1 s, 2 tries"):
            ask_one(server_at(url, timeout_s=0.1), ledger, progress)
        assert url.stats().faults == {"hang": 2}


def test_a_dead_teacher_is_told_at_once(ledger, progress):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ModelError) as caught:
        ask_one(server_at(url), ledger, progress, retries=Retries())
    assert str(caught.value) == f"cannot reach the teacher at {url}; start it or set teacher.base_url"


def test_a_proxy_is_not_asked_for_this_machine(ledger, progress, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with serve_scripted() as url:
        assert ask_one(server_at(url), ledger, progress).text


@pytest.mark.parametrize(
    ("fault", "problem"), [("garbage", "is not JSON"), ("cut", "was cut"), ("empty", "answered nothing")]
)
def test_an_answer_that_does_not_fit_stays_in_the_ledger_and_is_not_paid_twice(ledger, progress, fault, problem):
    with serve_scripted(script=(fault, fault)) as url:
        for _ in range(2):
            with pytest.raises(BadAnswer, match=problem) as caught:
                ask_one(server_at(url), ledger, progress, schema=SCHEMA)
        assert url.stats().requests == len(caught.value.keys) == (2 if fault == "garbage" else 1)
    assert all(ledger.get(key) for key in caught.value.keys)


def test_an_answer_that_does_not_fit_is_sent_back_once(ledger, progress):
    with serve_scripted(script=("garbage", "ok")) as url:
        answer = ask_one(server_at(url), ledger, progress, schema=SCHEMA)
        assert answer.data.keys() == {"question", "answer"}
        assert url.stats().requests == 2
    turns = json.loads(ledger.get(answer.key).request)["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == "I would rather not."
    assert "not JSON" in turns[2]["content"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"question": "?"}', "lacks 'answer'"),
        ('{"question": "?", "answer": 3}', "answer.answer is int, not string"),
        ('{"question": "?", "answer": "a", "more": 1}', "not asked for"),
        ('{"question": "?", "answer": NaN}', "NaN is not JSON"),
        ('{"question": "?", "answer": "half \\ud83d"}', "surrogates not allowed"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_breaks_the_schema_is_a_bad_answer(text, problem):
    with pytest.raises(_Unfit, match=problem):
        _data(Completion(text, "stop", 1, 1), SCHEMA)


def test_the_key_reaches_no_log_no_ledger_no_message(ledger, progress, monkeypatch, caplog):
    secret = "sk-very-secret-0123456789"
    monkeypatch.setenv("TEST_KEY", secret)
    caplog.set_level("DEBUG")
    with serve_scripted(script=("ok", "401")) as url:
        server = server_at(url, api_key_env="TEST_KEY")
        ask_one(server, ledger, progress)
        with pytest.raises(ModelError, match=r"no such key: Bearer \*\*\*; check the key in TEST_KEY") as caught:
            ask_one(server, ledger, progress, index=1)
        with open_endpoints(server, progress) as [endpoint]:
            assert endpoint.api_key == secret  # it is sent
            shown = [repr(endpoint), str(endpoint), repr(caught.value), caplog.text, *progress.lines]
    written = [path.read_bytes() for path in ledger.path.parent.iterdir()]
    assert len(written) >= 2  # the file and its log
    assert not any(secret in text for text in shown)
    assert not any(secret.encode() in data for data in written)


def test_a_missing_key_is_told_except_on_this_machine(progress, monkeypatch):
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(ModelError, match="'TEST_KEY'"):
        open_endpoints(server_at("https://models.example/v1", api_key_env="TEST_KEY"), progress).__enter__()
    with open_endpoints(server_at("http://localhost:1/v1", api_key_env="TEST_KEY"), progress) as [endpoint]:
        assert endpoint.is_loopback


def test_the_identity_names_the_weights():
    assert identity(ModelServer()) == "qwen2.5-coder-1.5b-instruct@cc324af0"
    assert identity(ModelServer(model="big", base_url="http://x/v1")) == "big"
    with pytest.raises(ModelError, match=r"did you mean 'qwen2\.5"):
        identity(ModelServer(model="qwen2.5-coder"))
