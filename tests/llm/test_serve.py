"""The server, asked by the real `openai` package and by what is no client at all."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
from tilth.core.errors import TilthError
from tilth.core.records import Message
from tilth.llm import local, serve
from tilth.llm.batcher import Batcher
from tilth.llm.gguf_server import Listening
from tilth.llm.models import Folder
from tilth.llm.streaming import Answering, Sampling, StreamingModel

TOKEN = "a token of the test"


class Watched(StreamingModel):
    """Tells how many conversations it answered side by side."""

    def __init__(self, folder):
        super().__init__(folder)
        self.together = []

    def answer(self, together):
        self.together.append(len(together))
        super().answer(together)


class Served:
    def __init__(self, url, model):
        self.url, self.model = url, model

    def post(self, body, token=TOKEN, path="/chat/completions"):
        """Status and JSON of what a request gets."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.url + path, body, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=300) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def served(tiny_model):
    """The server's own parts, in a thread: signals are for the process that `tilth serve` is."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "compute_dtype", lambda: torch.float32)
        model = Watched(tiny_model)
    listener = serve.bound(Listening(token=TOKEN))
    url = "http://{}:{}/v1".format(*listener.getsockname())
    stop, up = asyncio.Event(), threading.Event()
    server = serve._Server(Folder("release 2", tiny_model, "Be brief."), model, TOKEN)

    async def run():
        loops.append(asyncio.get_running_loop())
        await server.run(listener, lambda _: up.set(), stop)

    loops = []
    thread = threading.Thread(target=asyncio.run, args=[run()])
    thread.start()
    assert up.wait(300)
    yield Served(url, model)
    loops[0].call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture
def client(served):
    import openai

    with openai.OpenAI(
        base_url=served.url, api_key=TOKEN, max_retries=0, http_client=openai.DefaultHttpx2Client(trust_env=False)
    ) as client:
        yield client


def user(text):
    return [{"role": "user", "content": text}]


def test_models(client):
    assert [model.id for model in client.models.list()] == ["release-2"]
    assert client.models.retrieve("release-2").owned_by == "tilth"


@pytest.mark.slow
def test_an_answer_whole_and_in_chunks(client, served, tiny_model, progress):
    import torch

    whole = client.chat.completions.create(model="release-2", messages=user("short"), max_tokens=12)
    said = whole.choices[0].message.content
    conversation = [Message(role="system", content="Be brief."), Message(role="user", content="short")]
    folder = {"max_new_tokens": 12, "batch_size": 1, "progress": progress}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "compute_dtype", lambda: torch.float32)
        assert [said] == [each.text for each in local.generate(tiny_model, [conversation], **folder)]
    assert (whole.object, whole.model) == ("chat.completion", "release-2")
    assert whole.choices[0].finish_reason in {"stop", "length"}
    assert whole.usage.completion_tokens <= 12
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(
        client.chat.completions.create(
            model="release-2",
            messages=user("short"),
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(delta or "" for delta in deltas) == said
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


@pytest.mark.slow
def test_a_request_says_how_to_answer(client):
    def ask(**wishes):
        return client.chat.completions.create(model="release-2", messages=user("short"), **wishes).choices[0]

    plain = ask(max_completion_tokens=12).message.content
    assert ask(max_tokens=2).finish_reason == "length"
    stopped = ask(max_tokens=12, stop=[plain[3:5]])
    assert (stopped.finish_reason, stopped.message.content) == ("stop", plain[: plain.index(plain[3:5])].rstrip())
    drawn = [ask(max_tokens=12, temperature=1.5, seed=seed).message.content for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    own = client.chat.completions.create(
        model="release-2",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "short"}]},
        ],
        max_tokens=12,
    )
    assert own.choices[0].message.content == plain


@pytest.mark.slow
def test_what_arrives_together_is_answered_together(served):
    import openai

    async def ask():
        transport = openai.DefaultAsyncHttpx2Client(trust_env=False)
        async with openai.AsyncOpenAI(base_url=served.url, api_key=TOKEN, http_client=transport) as client:
            asking = [
                client.chat.completions.create(model="release-2", messages=user(f"{number}"), max_tokens=6)
                for number in range(12)
            ]
            return await asyncio.gather(*asking)

    before = len(served.model.together)
    answers = asyncio.run(ask())
    assert len(answers) == 12
    assert sum(served.model.together[before:]) == 12
    assert 1 < max(served.model.together[before:]) <= 8


def body(**changes):
    return json.dumps({"model": "release-2", "messages": user("x"), "max_tokens": 2} | changes).encode()


@pytest.mark.parametrize(
    ("sent", "status", "told"),
    [
        (b"{", 400, "no valid JSON"),
        (b"", 400, "no valid JSON"),
        (b"[]", 400, "the request is an empty list; write keys and values"),
        (b'{"model": "release-2"}', 400, "the key 'messages' is missing; add it"),
        (body(messages=[]), 400, "messages is an empty list; write 1 items at least"),
        (body(messages=[{"role": "usr", "content": "x"}]), 400, "messages.0.role is 'usr'; did you mean 'user'?"),
        (
            body(messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
            400,
            "messages.0.content.0.type is 'image_url'; write 'text'",
        ),
        (body(temperature=3), 400, "temperature is 3; write a number of at most 2"),
        (body(max_tokens=0), 400, "max_tokens is 0; write a number of at least 1"),
        (body(n=2), 400, "n is 2; write 1"),
        (body(tools=[{"type": "function"}]), 400, "tools is not supported here"),
        (body(tool_choice="required"), 400, "tool_choice is not supported here"),
        (body(top_logprobs=3), 400, "top_logprobs is not supported here"),
        (body(modalities=["text", "audio"]), 400, "modalities is not supported here"),
        (body(top_k=5), 400, "top_k is not supported here"),
        (body(best_of=3), 400, "best_of is not supported here"),
        (body(guided_choice=["a", "b"]), 400, "guided_choice is not supported here"),
        (
            body(messages=[{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]),
            400,
            "messages.0.tool_calls",
        ),
        (body(response_format={"type": "json_object"}), 400, "response_format is not supported here"),
        (body(model="gpt-4o"), 404, "there is no model 'gpt-4o' here; use 'release-2'"),
        (body(messages=user("long " * 1000)), 400, "tokens, and the model holds 2048"),
    ],
)
def test_a_wrong_request_is_told_in_openais_shape(served, sent, status, told):
    got, answer = served.post(sent)
    assert (got, set(answer), set(answer["error"])) == (status, {"error"}, {"message", "type", "param", "code"})
    assert told in answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"


def test_what_openais_api_allows_is_taken(served):
    sent = body(stream=None, stream_options=None, n=None, top_p=0, stop=None, tools=[], tool_choice="none")
    assert served.post(sent)[0] == 200


def test_strangers_and_wrong_places(served, client):
    import openai

    for token in ("", "wrong", "a token of the tes\u00e9"):
        status, answer = served.post(body(), token=token.encode().decode("latin-1"))
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
    assert served.post(body(), path="/completions")[0] == 404
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


def test_a_failure_costs_its_own_requests_only(served, client, monkeypatch):
    import openai

    def fail(together):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(served.model, "answer", fail)
        with pytest.raises(openai.InternalServerError, match="the answer failed"):
            client.chat.completions.create(model="release-2", messages=user("x"))
        stream = client.chat.completions.create(model="release-2", messages=user("x"), stream=True)
        with pytest.raises(openai.APIError, match="the answer failed"):
            list(stream)
    assert client.chat.completions.create(model="release-2", messages=user("x"), max_tokens=2).choices


def test_what_fails_together_is_answered_alone():
    """As when the memory holds one of them and not two."""
    tried, ended = [], []

    def answer(together):
        tried.append(len(together))
        if len(together) > 1:
            raise RuntimeError("out of memory")
        together[0].finish = "stop"

    batcher = Batcher(SimpleNamespace(answer=answer))
    for _ in range(2):
        batcher.submit(Answering([1], Sampling(), str), ended.append)
    batcher.start()
    batcher.stop()
    assert (tried, ended) == ([2, 1, 1], ["", ""])


def test_what_is_no_http_and_what_is_a_bug_are_no_tracebacks(served, monkeypatch, capfd):
    host, port = served.url.removeprefix("http://").removesuffix("/v1").split(":")
    for sent in (
        b"POST /v1/models HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"\0\r\n\r\n",
    ):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
            assert connection.recv(1000).startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    with monkeypatch.context() as patch:
        patch.setattr(served.model, "prompt", lambda _: 1 / 0)
        status, answer = served.post(body())
    assert (status, answer["error"]["message"]) == (500, "ZeroDivisionError: division by zero")
    assert capfd.readouterr().err == ""


def test_what_wishes_for_text_alone_is_answered(served):
    for wish in ({"tool_choice": "none"}, {"modalities": ["text"]}, {"logprobs": False}):
        assert served.post(body(**wish))[0] == 200


def test_a_body_that_cannot_be_unpacked_is_told_in_openais_shape(served):
    request = urllib.request.Request(
        served.url + "/chat/completions", b"abcd", {"Authorization": f"Bearer {TOKEN}", "Content-Encoding": "gzip"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught, opener.open(request, timeout=300):
        pass
    with caught.value as error:
        assert error.code == 400
        assert "the body cannot be read" in json.loads(error.read())["error"]["message"]


def test_a_client_that_goes_away_ends_its_answer(client, served):
    with client.chat.completions.create(
        model="release-2", messages=user("short"), max_tokens=1500, stream=True
    ) as stream:
        next(iter(stream))
    said = client.chat.completions.create(model="release-2", messages=user("x"), max_tokens=2)
    assert said.choices


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            TilthError, match=rf"127.0.0.1:{port}: cannot listen there \(address already in use\); choose"
        ):
            serve.bound(Listening(port=port))
    told = r"cannot listen there \([^(]*\); name an IPv4 address of this machine with --host$"
    for host in ("no.such.host.invalid", "::1", "192.0.2.1"):
        with pytest.raises(TilthError, match=f"^{host}:0: {told}"):
            serve.bound(Listening(host=host))


def test_names():
    assert [serve.served_name(name) for name in ("release 2", "/models/mine/", "base")] == ["release-2", "mine", "base"]
