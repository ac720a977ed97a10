"""Talking to a folder and to an endpoint is the same to whoever talks."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from tilth.core.config import ModelServer
from tilth.core.errors import ModelError
from tilth.core.records import Message
from tilth.llm import local
from tilth.llm.chat import Conversation, partner, with_system_prompt
from tilth.llm.models import Endpoint, Folder
from tilth.llm.scripted import serve_scripted
from tilth.llm.streaming import Sampling


def ask(model, progress, text="x", **sampling):
    pieces = []
    with partner(model, progress) as found:
        found.answer([Message(role="user", content=text)], Sampling(**sampling), pieces.append)
    return pieces


def endpoint(url):
    return Endpoint("it", ModelServer(model="scripted", base_url=(url,)))


@pytest.mark.slow
def test_a_folder_answers_as_in_evaluation(tiny_model, progress):
    pieces = ask(Folder("tiny", tiny_model, "Be brief."), progress, max_tokens=8)
    conversation = [Message(role="system", content="Be brief."), Message(role="user", content="x")]
    [said] = local.generate(tiny_model, [conversation], max_new_tokens=8, batch_size=1, progress=progress)
    assert "".join(pieces) == said.text
    with pytest.raises(ModelError, match=r"the conversation has [\d,]+ tokens, and the model holds 2,048; begin a new"):
        ask(Folder("tiny", tiny_model), progress, "long " * 1000)


@pytest.mark.slow
def test_an_endpoint_answers_in_pieces(progress):
    with serve_scripted() as url:
        assert "".join(ask(endpoint(url), progress))
        assert url.stats().answers == 1


@pytest.mark.parametrize(
    ("fault", "told"),
    [("401", "refuses the request (HTTP 401"), ("400", "HTTP 400"), ("500", "HTTP 500"), ("drop", "does not answer")],
)
@pytest.mark.slow
def test_what_an_endpoint_does_wrong_is_one_line(progress, fault, told):
    with serve_scripted(script=(fault,)) as url, pytest.raises(ModelError) as caught:
        ask(endpoint(url), progress)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sent",
    [
        b'data: {"id": oops\n\n',
        b'data: "hello"\n\n',
        b"data: \xff\xfe\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": ["x"]}}]}\n\n',
        b'data: {"choices": 3}\n\n',
        b'{"choices": [{"message": {"content": "whole"}}]}',
        b"",
    ],
)
@pytest.mark.slow
def test_an_answer_that_is_no_stream_is_one_line(progress, sent):
    with streaming(sent) as url, pytest.raises(ModelError) as caught:
        ask(endpoint(url), progress)
    assert str(caught.value).startswith(f"{url}: the endpoint's answer is no stream of OpenAI's API (")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_chunk_without_text_is_none(progress):
    chunks = [{"choices": []}, *({"choices": [{"delta": delta}]} for delta in (None, {"content": "a"}, {}))]
    with streaming(b"".join(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks)) as url:
        assert "".join(ask(endpoint(url), progress)) == "a"


@pytest.mark.slow
def test_half_of_an_emoji_does_not_end_a_conversation(progress):
    sent = b'data: {"choices": [{"delta": {"content": "a\\ud83d"}}]}\n\n'
    with streaming(sent) as url, partner(endpoint(url), progress) as found:
        talk = Conversation("it", found, Sampling())
        assert [talk.ask("x"), talk.ask("y")] == ["a?", "a?"]


@pytest.mark.slow
def test_an_error_in_a_stream_tells_no_key(progress, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret/secret-secret")
    error = {"error": {"message": "bad key sk-secret/secret-secret"}}
    with streaming(f"data: {json.dumps(error)}\n\n".encode()) as url, pytest.raises(ModelError) as caught:
        ask(endpoint(url), progress)
    assert "bad key ***" in str(caught.value)


@contextlib.contextmanager
def streaming(sent):
    """A server that answers every request with these bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_a_conversation_keeps_a_system_prompt_of_its_own():
    asked = Message(role="user", content="x")
    own = [Message(role="system", content="mine"), asked]
    assert with_system_prompt([asked], "") == [asked]
    assert [turn.content for turn in with_system_prompt([asked], "yours")] == ["yours", "x"]
    assert with_system_prompt(own, "yours") == own
