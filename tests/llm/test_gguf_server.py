import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tilth.core.config import ModelServer
from tilth.core.errors import ModelError
from tilth.llm.catalogue import fetch
from tilth.llm.gguf_server import serve


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_until_gone(pid, seconds=10.0):
    deadline = time.monotonic() + seconds
    while is_running(pid):
        assert time.monotonic() < deadline, f"{pid} outlived its parent"
        time.sleep(0.01)


PARENT = """
import subprocess, sys, time
wait = "from tilth.llm.gguf_server import wait_for_parent_to_end as wait"
code = f"import os; {{wait}}; parent = os.getppid(); print(1, flush=True); wait(parent)"
child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
{more}
print(child.pid, flush=True)
time.sleep(60)
"""

HOLD_THE_PIPE = """
import os
if os.fork() == 0:  # a sibling with a copy of the pipe's other end: no end of file will come
    time.sleep(30)
    os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", HOLD_THE_PIPE])
def test_the_child_dies_with_its_parent(more):
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(more=more)], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until_gone(child, 20.0)


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path, progress):
    pytest.importorskip("xllamacpp")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and then nothing")
    with (
        pytest.raises(ModelError, match=r"broken.gguf: the server did not start \(.*load.*\)") as caught,
        serve(tmp_path / "broken.gguf", slots=1, progress=progress),
    ):
        pass
    assert "\n" not in str(caught.value)


SERVE = """
import sys, time
from pathlib import Path
from tilth.core.progress import SilentProgress
from tilth.llm.gguf_server import serve
with serve(Path(sys.argv[1]), slots=1, progress=SilentProgress()):
    print("up", flush=True)
    time.sleep(60)
"""


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.models
def test_a_real_server_answers_asks_for_its_token_and_dies_with_its_parent(progress):
    import openai

    path = fetch("smollm2-135m-instruct", progress)
    with serve(path, slots=1, progress=progress) as server:
        messages = [{"role": "user", "content": "What is the capital of France?"}]
        options = {"model": "any", "messages": messages, "max_tokens": 8, "temperature": 0}
        with openai.OpenAI(base_url=server.base_url, api_key=server.token) as client:
            completion = client.chat.completions.create(**options)
            assert completion.choices[0].message.content
            assert {completion.model, *(model.id for model in client.models.list())} == {path.stem}
        with (
            openai.OpenAI(base_url=server.base_url, api_key="guessed") as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.chat.completions.create(**options)
        assert server.ended() == ""
        assert server.token not in repr(server)
    parent = subprocess.Popen([sys.executable, "-c", SERVE, str(path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "up\n"
    (child,) = children_of(parent.pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until_gone(child)


@pytest.mark.models
def test_the_real_teacher_answers_in_the_schema(ledger, progress):
    import asyncio

    from tilth.core.records import Message
    from tilth.llm.ask import Gateway

    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string"}},
        "required": ["capital"],
        "additionalProperties": False,
    }

    async def run():
        async with Gateway(ModelServer(concurrency=1), ledger, progress) as gateway:
            messages = [Message(role="user", content="What is the capital of France?")]
            return await gateway.ask(messages, leaf="l", step="s", schema=schema, max_tokens=32)

    assert asyncio.run(run()).data["capital"].startswith("Paris")
