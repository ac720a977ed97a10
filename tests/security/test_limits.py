"""Texts, files and answers without end: each is refused, or done with, in a time and a memory that are bounded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tilth.core.errors import ModelError
from tilth.core.records import Message
from tilth.llm.chat import _there
from tilth.llm.client import Client, Failure
from tilth.llm.endpoint import Endpoint
from tilth.llm.streaming import Sampling

from ..loop import Loop, Spawner

REGEXES = r"""
import resource, sys
from types import SimpleNamespace
from tilth.core import answers, choices, normalise, reworded
from tilth.eval import forms, refusal
from tilth.llm import ask, prompts
from tilth.sdg import card, coverage, words
from tilth.sdg.filters import content, form, like_seeds
from tilth.sdg.flows import multi_hop, passage, questions, skills, texts
from tilth.taxonomy import attribution, chunks
from tilth.taxonomy.documents import Document
from tilth.taxonomy.lint import form as lines

EVIDENCE = "The door of Orla Mill is made of larch."

def sample(answer, question="What is the door of Orla Mill made of?"):
    turns = [SimpleNamespace(role="user", content=question), SimpleNamespace(role="assistant", content=answer)]
    return SimpleNamespace(question=question, answer=answer, messages=turns, kind="knowledge_short", id="x")

TRIED = {
    "scored": lambda text: answers.is_correct(text, ["larch", "12"]),
    "spelt": normalise.normalise,
    "chosen": lambda text: choices.chosen(text, ["oak", "larch"]),
    "words": words.words,
    "sentences": words.sentences,
    "reworded": reworded._SENTENCE_END.split,
    "refusal": refusal.is_refusal,
    "turns": prompts.harmless,
    "covered": coverage._spans,
    "stands alone": lambda text: form.stands_alone(sample("larch", text)),
    "answer": lambda text: form.is_answer(sample(text)),
    "finished": lambda text: form.is_finished(sample(text)),
    "repeats": lambda text: form.repeats_itself(sample(text)),
    "leftovers": lambda text: form.no_leftovers(EVIDENCE)(sample(text)),
    "chat tokens": lambda text: form.no_chat_tokens(sample(text)),
    "instructions": lambda text: form.no_instructions(EVIDENCE)(sample(text)),
    "grounded": lambda text: content.grounded_throughout(EVIDENCE, 0.5)(sample(text)),
    "topic": lambda text: content.on_topic(EVIDENCE)(sample("larch", text)),
    "marks": lambda text: [list(each.finditer(text)) for each in (like_seeds._MARK, like_seeds._LABEL)],
    "points": lambda text: [each.search(text) for each in (like_seeds._POINTER, like_seeds._SHOWN)],
    "numbering": lambda text: texts._NUMBERING.sub("", text),
    "list": lambda text: [questions._LIST_SIGN.sub("", line) for line in text.splitlines()],
    "passage": lambda text: [each.split(text) for each in (passage._SENTENCE_END, passage._PARAGRAPH_END)],
    "names": multi_hop._AFTER_A_WORD.findall,
    "itself": skills._ABOUT_ITSELF.search,
    "fenced": ask._FENCED.fullmatch,
    "plain": card.plain,
    "attribution": lambda text: list(attribution.attribution_faults(f"License of the work: a{text}\n{text}".encode())),
    "works": lambda text: attribution.read_works(f"Title of work: a{text}\n{text}".encode()),
    "white space": lambda text: lines.form_faults(text.encode()),
    "chunks": lambda text: chunks.split(Document(path="a.md", text=text), 300),
}
for name in ("lines=3 sentences=1 bullets=3 numbered=3 items=4 starts:Yes ends:? json-keys:a quoted".split()):
    TRIED[name] = lambda text, name=name: forms.check_forms(text, [name])

UNITS = [
    " ", "\n", "\t", "a", "1", "-", "`", ".", "a ", "a.", "A ", "1. ", "1,", "(", "[", "<", "*", "#", "=", "'", "a'",
    '"', "<|", "a-", " \n", "_", "://", ":", "a: ", "\u3002", "... ", "twenty ", "one hundred ", "and ", "n't", "- ",
    "sorry ", "cannot ", "it is a ", "About ", "the text ", "\\", "{{", "\u0300", "```\n", "x is ", "Mr. ", "|", "> ",
]
size = int(sys.argv[1])

def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime

slow = []
for name, try_it in TRIED.items():
    for unit in UNITS:
        for text in (unit * (size // len(unit)), f"x{unit * (size // len(unit))}!x"):
            before = used()
            try_it(text)
            if used() - before > 1:
                slow.append((name, unit, round(used() - before, 1)))
print(slow, end="")
"""


@pytest.mark.slow
def test_no_text_makes_our_patterns_run_away() -> None:
    """20,000 characters, in less than a second of processor time each: before, some took minutes."""
    ran = subprocess.run([sys.executable, "-c", REGEXES, "20000"], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("[]", "")


def test_a_leaf_of_a_gigabyte_is_refused_unread(untouched: Loop, spawner: Spawner, copy: Any) -> None:
    loop = copy(untouched)
    folder = loop.root / "knowledge/huge"
    folder.mkdir()
    for name in ("qna.yaml", "attribution.txt"):
        with (folder / name).open("wb") as file:
            file.truncate(1 << 30)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))"
    ran = spawner.run(loop.root, "lint", "knowledge/huge", before=limit)
    assert ran.code == 1, ran.err
    assert ran.out.count("the file has 1024 MB, at most 32 are read") == 2
    assert ran.err == ""


BODIES = {
    "deep": b"[" * 1_000_000,
    "no_list": b'{"data": [{"id": 1}, 2]}',
    "large": b'{"choices": "' + b"x" * (50 << 20),
}
CHOICE = {"index": 0, "delta": {"content": "x" * 64}}
PIECE = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [CHOICE]}


class _Endless(BaseHTTPRequestHandler):
    """Answers by the first part of its address: one of these bodies, pieces without end, or a body without end."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if "pieces" in self.path else "application/json")
        self.end_headers()
        kind = self.path.split("/")[1]
        with contextlib.suppress(OSError):
            self.wfile.write(BODIES.get(kind, b""))
            while kind not in BODIES:
                self.wfile.write(f"data: {json.dumps(PIECE)}\n\n".encode() if kind == "pieces" else b" " * 65536)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def endless() -> Generator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endless)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("kind", "told"),
    [("endless", "more than 8 MiB"), ("large", "more than 8 MiB"), ("deep", "no chat completion")],
)
def test_an_answer_without_end_is_cut_off(endless: str, kind: str, told: str) -> None:
    async def asked() -> None:
        async with Client(Endpoint(f"{endless}/{kind}", "m", "", 1, 60.0)) as client:
            await client.complete({"model": "m"}, "{}")

    with pytest.raises(Failure, match=told) as caught:
        asyncio.run(asked())
    assert caught.value.kind == "broken"  # it is tried again, and costs its own request


@pytest.mark.parametrize("kind", ["endless", "large", "deep", "no_list"])
def test_a_list_of_models_without_end_is_none(endless: str, kind: str) -> None:
    async def served() -> dict[str, int]:
        async with Client(Endpoint(f"{endless}/{kind}", "m", "", 1, 60.0)) as client:
            return await client.served()

    assert asyncio.run(served()) == {}


def test_a_chat_answer_without_end_is_stopped(endless: str) -> None:
    heard: list[str] = []
    with (
        _there(Endpoint(f"{endless}/pieces", "m", "", 1, 60.0)) as partner,
        pytest.raises(ModelError, match="longer than 16 tokens can be"),
    ):
        partner.answer([Message(role="user", content="Hi")], Sampling(max_tokens=16), heard.append)
    assert 0 < len("".join(heard)) <= 16 * 128


def test_deep_yaml_is_refused(untouched: Loop, spawner: Spawner, copy: Any) -> None:
    loop = copy(untouched)
    folder = loop.root / "compositional_skills/deep"
    folder.mkdir()
    for text in ("[" * 100_000, "- " * 100_000, "a: &a [*a, *a]\n", "%TAG ! x\n" * 10_000, "? " * 50_000):
        (folder / "qna.yaml").write_text(text)
        ran = spawner.run(loop.root, "lint", "compositional_skills/deep")
        assert (ran.code, ran.err) == (1, "")
        assert "compositional_skills/deep/qna.yaml:" in ran.out


def test_a_file_is_written_where_its_name_says(tmp_path: Path) -> None:
    """Nothing of ours lies under a name that others could guess in a folder for all."""
    root = Path(__file__).parents[2]
    rooms = ("core", "llm", "taxonomy", "sdg", "train", "eval", "cycle", "cli")
    texts = {path: path.read_text(encoding="utf-8") for room in rooms for path in (root / room).rglob("*.py")}
    assert len(texts) > 100
    assert [path for path, text in texts.items() if '"/tmp' in text or "mktemp(" in text or "gettempdir" in text] == []
