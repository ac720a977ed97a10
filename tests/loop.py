"""A whole loop in miniature, for the tests of cycle and cli: a taxonomy of things made of one wood or one metal, an
HTTP teacher who knows them, a student of a few thousand weights that can learn them, and a process that runs `tilth`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from tilth.core.atomic import read_json
from tilth.core.workspace import Workspace
from tilth.taxonomy.contribute import commit_files, init_repository

MILL, FERRY, SKILL = "knowledge/mill", "knowledge/ferry", "compositional_skills/backwards"
SUBJECTS = {MILL: ("Orla Mill", "larch"), FERRY: ("Tern Ferry", "brass")}
THINGS = ("wheel", "door", "roof", "gate", "stair", "floor")
FORMS = (
    "What is the {thing} of {subject} made of?",
    "Which stuff did the builders of {subject} choose for its {thing}?",
    "The {thing} at {subject} consists of which substance?",
    "Name the raw material behind the {thing} {subject} has.",
)
ATTRIBUTION = "Title of work: Made up\nLicense of the work: CC0-1.0\nCreator names: tester\n"
HELD_OUT = "From what was the {thing} that {subject} uses once cut or cast?"

PLAN = """
phases:
  - name: short
    kinds: [knowledge_short]
    replay: {earlier_cycles: 0.5}
    epochs: 4
    learning_rate: 5.0e-3
  - name: all
    kinds: [knowledge_short, knowledge_long, skill]
    replay: {earlier_cycles: 0.5}
    epochs: 24
    learning_rate: 3.0e-3
    schedule: linear
"""
"""Enough for the held-out questions to be answered rightly by far, whatever the seed (four were tried). At a rate of
5e-3 that does not fall some seeds forget on some processors."""


# The taxonomy --------------------------------------------------------------------------------------------------------


def knowledge_files(leaf: str) -> dict[str, str]:
    """The files of one of the two knowledge leaves."""
    subject, stuff = SUBJECTS[leaf]
    sentences = [f"The {thing} of {subject} is made of {stuff}." for thing in THINGS]
    seeds = [
        {
            "context": sentence,
            "questions_and_answers": [
                {"question": form.format(thing=thing, subject=subject), "answer": stuff} for form in FORMS[:3]
            ],
        }
        for thing, sentence in zip(THINGS, sentences, strict=True)
    ]
    asked = [{"question": HELD_OUT.format(thing=thing, subject=subject), "answer": stuff} for thing in THINGS]
    qna = {
        "version": 4,
        "created_by": "tester",
        "domain": "building",
        "document_outline": f"{subject} and its parts",
        "document": {"files": ["page.md"]},
        "seed_examples": seeds,
        "test_questions": asked,
    }
    page = f"# {subject}\n\n{' '.join(sentences)}\n"
    return {"qna.yaml": yaml.safe_dump(qna, sort_keys=False), "page.md": page, "attribution.txt": ATTRIBUTION}


def skill_files() -> dict[str, str]:
    """The files of the skill leaf."""
    seeds = [
        {"question": f"Say {word} backwards.", "answer": word[::-1]} for word in ("alpha", "beta", "gam", "dok", "eru")
    ]
    qna = {"version": 4, "created_by": "tester", "task_description": "Say words backwards.", "seed_examples": seeds}
    return {"qna.yaml": yaml.safe_dump(qna, sort_keys=False), "attribution.txt": ATTRIBUTION}


# The teacher ---------------------------------------------------------------------------------------------------------


def first_turn(request: dict[str, Any]) -> str:
    """The user's first turn; behind it stands what sends an answer back."""
    return next(turn["content"] for turn in request["messages"] if turn["role"] == "user")


@dataclass
class Teacher:
    """A real HTTP server on 127.0.0.1 that answers by the schema it is given, whatever the prompt's wording."""

    url: str = ""
    requests: list[str] = field(default_factory=list[str])
    """The bodies of all requests, in the order in which they came."""
    authorizations: set[str] = field(default_factory=set[str])
    """The keys that came with them."""
    slow_s: float = 0.0
    """How long an answer takes."""
    verdict: str = "yes"
    reached: Callable[[], object] = lambda: None
    """Called at every request, before it is answered."""

    def reply(self, body: str) -> dict[str, Any]:
        self.requests.append(body)
        self.reached()
        time.sleep(self.slow_s)
        request = json.loads(body)
        form = request.get("response_format")
        prompt = first_turn(request) if form else request["messages"][-1]["content"]  # behind examples
        if form:
            text = json.dumps(self._value(form["json_schema"]["schema"], prompt, "", 0))
        else:
            text = _task(request) if prompt.endswith("Write a task.") else _plain(prompt)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split()), "total_tokens": 0}
        head = {"id": "1", "object": "chat.completion", "created": 0, "model": "rule"}
        return {**head, "choices": [choice], "usage": usage}

    def _value(self, schema: dict[str, Any], prompt: str, name: str, number: int, *, pair: bool = False) -> Any:
        """What fits the schema at the place `name`, the `number`-th of its list; `pair`: beside a question."""
        if "enum" in schema:
            return self.verdict
        if schema["type"] == "array":
            count = schema.get("minItems", 1)
            return [self._value(schema["items"], prompt, name, index) for index in range(count)]
        if schema["type"] == "object":
            parts = schema["properties"]
            numbers = {key: int(re.sub(r"\D", "", key) or number) for key in parts}
            return {
                key: self._value(part, prompt, key, numbers[key], pair="question" in parts)
                for key, part in parts.items()
            }
        if "backwards" in prompt:
            word = re.findall(r"Say (\w+) backwards", prompt)[-1]
            return f"Say {word}{number}x backwards."
        return _about(prompt, name, number, pair=pair)


def _task(request: dict[str, Any]) -> str:
    """A task of the same form as the last one that is shown."""
    shown = [turn["content"] for turn in request["messages"] if turn["role"] == "assistant"]
    return shown[-1].replace(" backwards", "1x backwards")


def _plain(prompt: str) -> str:
    """What is asked for without a schema: a skill's solution, a long answer, or (of the judge) a few words."""
    if word := re.search(r"Say (\w+) backwards", prompt):
        return word[1][::-1]
    if "full sentences" in prompt:
        return _about(prompt, "answer", 0, pair=False)
    return next((stuff for subject, stuff in SUBJECTS.values() if subject in prompt), "yes")


def _about(prompt: str, name: str, number: int, *, pair: bool) -> str:
    """A question about one thing of the subject, its short answer beside a question, its long answer elsewhere."""
    subject, stuff = next(known for known in SUBJECTS.values() if known[0] in prompt)
    shown = [thing for thing in THINGS if thing in prompt]
    thing = THINGS[number % len(THINGS)] if len(shown) == len(THINGS) else max(shown, key=prompt.rfind)
    if name != "answer":
        return FORMS[number % len(FORMS)].format(thing=thing, subject=subject)
    return stuff if pair else f"The {thing} of {subject} is made of {stuff}."


@contextlib.contextmanager
def serve_teacher() -> Generator[Teacher]:
    """Serve a teacher until the block ends."""
    teacher = Teacher()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            teacher.authorizations.add(self.headers.get("Authorization", ""))
            data = json.dumps(teacher.reply(self.rfile.read(int(self.headers["Content-Length"])).decode())).encode()
            with contextlib.suppress(ConnectionError):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads, block_on_close = True, False
        request_queue_size = 128  # of the usual 5, a sixth who connects at once tries again after a second

        def handle_error(self, *args: Any) -> None:
            """A client that was killed is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    teacher.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield teacher
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def suggesting_teacher() -> Generator[Teacher]:
    """Serve a teacher who asks about the one thing that a text names, and asks for it anew in words of its own."""
    with serve_teacher() as teacher:
        teach = teacher.reply

        def reply(body: str) -> dict[str, Any]:
            request = json.loads(body)
            prompt = first_turn(request)
            answer = teach(body)
            if "different contexts" in prompt:
                items = [f"alpha{number}" for number in range(8)]
                told = {
                    f"q{number}": {
                        "context": f"Somebody wrote {item} on a slate.",
                        "question": f"Say {item} backwards.",
                        "answer": item[::-1],
                    }
                    for number, item in enumerate(items, start=1)
                }
                answer["choices"][0]["message"]["content"] = json.dumps(told)
            if "examination" in prompt:
                subject = next(subject for subject, _ in SUBJECTS.values() if subject in prompt)
                thing = next(thing for thing in THINGS if thing in prompt)
                forms = {
                    "q1": f"What of {subject} is larch, or brass?",
                    "q2": HELD_OUT.format(thing=thing, subject=subject),
                }
                answer["choices"][0]["message"]["content"] = json.dumps(forms)
            return answer

        teacher.reply = reply
        yield teacher


# The student ---------------------------------------------------------------------------------------------------------


def make_student(folder: Path) -> Path:
    """A random Llama of two layers, with a tokenizer to which the words of the taxonomy are single tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "<|im_start|>", "<|im_end|>"]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    texts = [knowledge_files(leaf)[name] for leaf in SUBJECTS for name in ("qna.yaml", "page.md")]
    inner.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<|im_end|>")
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{{ message['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **ends)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# The workspace -------------------------------------------------------------------------------------------------------


@dataclass
class Loop:
    """A workspace with one knowledge leaf and a skill, its teacher, and its student."""

    root: Path
    teacher: Teacher
    student: Path

    def configure(self, **changes: Any) -> None:
        """Write `tilth.yaml`."""
        config: dict[str, Any] = {
            "teacher": {"model": "rule", "base_url": self.teacher.url, "concurrency": 4},
            "student": {"model": str(self.student)},
            "train": {"plan": "plan.yaml"},
            "eval": {"max_new_tokens": 6, "general": False},
            "gate": {"significance": 0.2, "max_loss": 0.6},
            **changes,
        }
        (self.root / "tilth.yaml").write_text(yaml.safe_dump(config))

    def commit(self, leaf: str, files: dict[str, str]) -> None:
        """Commit a leaf."""
        for name, text in files.items():
            (self.root / leaf).mkdir(parents=True, exist_ok=True)
            (self.root / leaf / name).write_text(text)
        commit_files(self.root, [self.root / leaf / name for name in files], f"Add {leaf}")

    def copy(self, root: Path) -> Loop:
        """The same workspace elsewhere."""
        root.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", str(self.root), str(root)], check=True)  # a third of what copytree takes
        return Loop(root, self.teacher, self.student)

    @property
    def workspace(self) -> Workspace:
        return Workspace.open(self.root)

    @property
    def state(self) -> Path:
        return self.root / ".tilth"

    def release(self, number: int) -> dict[str, Any]:
        """A release's record."""
        return read_json(self.state / "releases" / f"{number:04}" / "release.json")


def make_loop(root: Path, teacher: Teacher, student: Path) -> Loop:
    """A workspace in the new folder `root`, its first two leaves committed."""
    root.mkdir()
    init_repository(root)
    (root / "plan.yaml").write_text(PLAN)
    loop = Loop(root, teacher, student)
    loop.configure()
    loop.commit(MILL, knowledge_files(MILL))
    loop.commit(SKILL, skill_files())
    return loop


# The command line ----------------------------------------------------------------------------------------------------


KEY, HUB_TOKEN = "sk-tilth-test-5a0fd2c7e91b48c3", "hf_tilthtest6b1ed3f8aa2c47d5"
"""What the command has in its environment that makes `turned_once`: nothing that it leaves may hold them."""

RECORD_CHILDREN = """
import json, os, sys
_children = open({file!r}, "a", buffering=1)
def _note(event, given, os=os, json=json, _children=_children):
    if event == "subprocess.Popen":
        argv, environment = given[1], os.environ if given[3] is None else given[3]
        told = {{os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}}
        argv = [argv] if isinstance(argv, str) else [os.fsdecode(part) for part in argv]
        _children.write(json.dumps({{"argv": argv, "environment": told}}) + "\\n")
sys.addaudithook(_note)
"""
"""Python that has a command write every child process that it starts to `file`, with what it is started with."""

TRAINING = {"train", "cycle", "eval", "demo", "chat", "serve", "ollama"}
"""The verbs that load a student, and what other verbs are told when they load one."""


@dataclass(frozen=True)
class Ran:
    """A command that has ended; `code` is negative where a signal ended it."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Running:
    """A command that runs."""

    pid: int
    parent: subprocess.Popen[str]
    folder: Path

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> Ran:
        """Wait for its end."""
        code = int(told_by(self.parent))
        return Ran(code, (self.folder / "out").read_text(), (self.folder / "err").read_text())


class Spawner:
    """Starts `tilth` in processes of their own, each forked from one with what the verb needs: `spawn.py`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0
        self._parents: dict[bool, subprocess.Popen[str]] = {}

    def start(
        self, folder: Path, *arguments: str, before: str = "", trains: bool = True, **environment: str
    ) -> Running:
        """Start a command in `folder`, after the Python of `before`; `trains`: whether it may load a student."""
        self._number += 1
        outputs = self._folder / str(self._number)
        outputs.mkdir()
        order = {"folder": str(folder), "arguments": arguments, "environment": environment, "before": before}
        parent = self._parent(trains=trains and not TRAINING.isdisjoint(arguments))
        assert parent.stdin
        parent.stdin.write(json.dumps({**order, "outputs": str(outputs)}) + "\n")
        parent.stdin.flush()
        return Running(int(told_by(parent)), parent, outputs)

    def _parent(self, *, trains: bool) -> subprocess.Popen[str]:
        if trains not in self._parents:
            environment = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "dumb"}
            command = [sys.executable, str(Path(__file__).with_name("spawn.py")), *["trains"] * trains]
            self._parents[trains] = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        return self._parents[trains]

    def run(self, folder: Path, *arguments: str, before: str = "", trains: bool = True, **environment: str) -> Ran:
        """Run a command to its end."""
        return self.start(folder, *arguments, before=before, trains=trains, **environment).wait()

    def close(self) -> None:
        """End the processes that fork."""
        for parent in self._parents.values():
            parent.communicate()


def told_by(parent: subprocess.Popen[str]) -> str:
    """The next line of a process that forks."""
    assert parent.stdout
    return parent.stdout.readline()
