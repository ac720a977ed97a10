"""A tiny taxonomy, a recipe whose prompts are JSON of their variables, and an HTTP teacher that answers them by rule.

The shipped prompts are not used for goldens: their wording may change without a golden changing with it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from tilth.core.config import Config, ModelServer
from tilth.core.fingerprint import fingerprint
from tilth.core.progress import SilentProgress
from tilth.core.records import Question
from tilth.sdg import recipe
from tilth.sdg.forecast import Forecast
from tilth.sdg.generate import Setup, bring_up_to_date, foresee
from tilth.sdg.others import Students
from tilth.sdg.settings import PARTS
from tilth.sdg.store import Entry
from tilth.taxonomy.leaf import DocumentSpec, Leaf, SeedExample, SeedPair
from tilth.taxonomy.source import WorkingTree

MILL = """# Orla Mill

Orla Mill was built in 1702. Its wheel is made of larch.

## Work

Orla Mill grinds rye. Its wheel is made of larch. The miller is Bram Osk.
"""

KNOWLEDGE_ID, SKILL_ID, GROUNDED_ID = (
    "knowledge/places/orla_mill",
    "compositional_skills/words/backwards",
    "compositional_skills/sums/apples",
)


def seeds(*examples: tuple[str, str, str]) -> tuple[SeedExample, ...]:
    """Seed examples of context, question and answer."""
    return tuple(
        SeedExample(context=context, pairs=(SeedPair(question=question, answer=answer),))
        for context, question, answer in examples
    )


def leaf(leaf_id: str, **changes: Any) -> Leaf:
    """A small leaf; `mill.md` is the document of those below `knowledge/`."""
    knowledge = leaf_id.startswith("knowledge/")
    content: dict[str, Any] = {
        "id": leaf_id,
        "kind": "knowledge" if knowledge else "skill",
        "title": leaf_id.rsplit("/", 1)[-1].replace("_", " ").capitalize(),
        "version": 4,
        "created_by": "tester",
        "task_description": "" if knowledge else "Do it.",
        "domain": "",
        "document_outline": "A mill and its miller" if knowledge else "",
        "seed_examples": (),
        "documents": DocumentSpec(files=("mill.md",)) if knowledge else None,
        "questions": (),
        **changes,
    }
    shown = Leaf(**content, fingerprint="").model_dump(mode="json", exclude={"id", "title"})
    return Leaf(**content, fingerprint=fingerprint(shown))


def three_leaves() -> list[Leaf]:
    mill = [
        ("Orla Mill grinds rye.", "Which grain does Orla Mill grind?", "rye"),
        ("The miller is Bram Osk.", "Who runs Orla Mill?", "Bram Osk"),
    ]
    held_out = Question.new(KNOWLEDGE_ID, "Orla Mill: in what year did they put it up?", ("1702",))
    words = [("", f"Say {word} backwards.", word[::-1]) for word in ("alpha", "beta", "gam")]
    apples = [
        (f"{name} has {number} apples.", "How many are there?", str(number)) for name, number in (("Al", 3), ("Bo", 4))
    ]
    return [
        leaf(KNOWLEDGE_ID, seed_examples=seeds(*mill), questions=(held_out,)),
        leaf(SKILL_ID, seed_examples=seeds(*words)),
        leaf(GROUNDED_ID, kind="grounded_skill", seed_examples=seeds(*apples)),
    ]


def _answer(answers: str) -> dict[str, Any]:
    text = {"type": "string"}
    shapes = {
        "verdict": {**text, "enum": ["yes", "no"]},
        "grade": {"type": "integer", "minimum": 1, "maximum": 10},
        "distractors": {"type": "array", "items": text, "minItems": 3, "maxItems": 3},
    }
    if answers.startswith("["):
        return shapes.get(answers.strip("[]"), text)
    properties = {name: shapes.get(name, text) for name in answers.split()}
    return {"type": "object", "properties": properties, "required": list(properties)}


@functools.cache
def _prompt(flow: str, name: str) -> str:
    """The text of a prompt that holds bare variables."""
    part = PARTS[flow][name]
    shown = ", ".join(f'"{variable}": {variable}' for variable in part.variables.split())
    prompt = {
        "system": f"{flow} {name}",
        "user": "{{ {" + shown + "} | tojson }}",
        **({"schema": _answer(part.answers)} if part.answers else {}),
        "repeat": part.repeat,
        "max_tokens": 100,
    }
    return yaml.safe_dump(prompt)


@functools.cache
def _quick() -> dict[str, Any]:
    """The recipe `quick` without questions about single facts; not to be changed."""
    content = yaml.safe_load((recipe.SHIPPED / "quick.yaml").read_text())
    del content["knowledge"]["questions_per_fact"]
    for part in ("facts", "fact_questions"):
        del content["knowledge"]["prompts"][part]
    return content


def write_recipe(folder: Path, flow: str, **changes: Any) -> Path:
    """Write the recipe `quick` into `folder`, the section of `flow` changed, with prompts that hold bare variables.

    What was changed of the other sections before stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    for name in PARTS[flow]:
        (folder / f"{flow}_{name}.yaml").write_text(_prompt(flow, name))
    content: dict[str, Any] = yaml.load(path.read_text(), yaml.CSafeLoader) if path.exists() else {**_quick()}
    section = {"prompts": {}, **_quick().get(flow, {})}
    content[flow] = section | {"prompts": {part: f"{flow}_{part}.yaml" for part in section["prompts"]}, **changes}
    path.write_text(yaml.dump(content, Dumper=yaml.CSafeDumper))
    return path


def items(*values: Any) -> dict[str, Any]:
    """An answer to a prompt with `repeat`."""
    return {f"q{number}": value for number, value in enumerate(values, start=1)}


def about(asked: dict[str, Any]) -> dict[str, Any]:
    """A question about each sentence of a chunk for its last word, and for what is left to ask one in a vain form."""
    sentences = re.findall(r"[A-Z][^.#\n]+(?=\.)", asked["chunk"])
    pairs = [(f"{most} what?", last) for most, last in (sentence.rsplit(" ", 1) for sentence in sentences)]
    pairs += [("Nothing more.", "nothing")] * (asked["number"] - len(pairs))
    return items(*({"question": question, "answer": answer} for question, answer in pairs))


def reword(asked: dict[str, Any]) -> dict[str, Any]:
    forms = [f"Form {number}: {asked['question']}" for number in range(1, asked["number"] + 1)]
    return items(*forms)


def answer(asked: dict[str, Any]) -> str:
    """The judge reads the text as it is, but for rye, which it takes for oats."""
    sentences = re.findall(r"[A-Z][^.#\n]+(?=\.)", asked["chunk"])
    known = {f"{most} what?": last for most, last in (sentence.rsplit(" ", 1) for sentence in sentences)}
    known |= {"Which grain does Orla Mill grind?": "rye", "Who runs Orla Mill?": "Bram Osk"}
    told = next((last for asks, last in known.items() if asks in asked["question"]), "unknown")
    return "oats" if told == "rye" else told


def _questions(asked: dict[str, Any]) -> dict[str, Any]:
    numbers = range(1, asked["number"] + 1)
    return items(*({"question": f"Say {asked['seed']['answer']}{number} in reverse."} for number in numbers))


def _grounded_questions(asked: dict[str, Any]) -> dict[str, Any]:
    contexts = [f"{asked['seed']['context']} Eve has {number}." for number in range(1, asked["number"] + 1)]
    return items(*({"context": text, "question": "Count for both."} for text in contexts))


def judge(asked: dict[str, Any]) -> dict[str, Any]:
    return {"verdict": "no" if "rye" in asked["answer"] else "yes"}


def _solved(asked: dict[str, Any]) -> str:
    return str(RULES["skills grounded_answer" if asked["context"] else "skills answer"](asked))


RULES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "knowledge questions": about,
    "knowledge reword": reword,
    "knowledge long": lambda asked: f"Of {asked['title']} the text says {asked['answer']}.",
    "knowledge judge": answer,
    "skills questions": _questions,
    "skills answer": lambda asked: asked["question"].split()[1][::-1],
    "skills judge": judge,
    "skills grounded_questions": _grounded_questions,
    "skills grounded_answer": lambda asked: str(sum(map(int, re.findall(r"\d", asked["context"])))),
    "skills grounded_judge": judge,
    "skills foundational_judge": _solved,
}
"""What the teacher says: questions ask for a sentence's last word, and the judge takes rye for oats."""


@dataclass
class Teacher:
    """A real HTTP server on 127.0.0.1. A rule gives the answer, or a text that is none, or an HTTP status."""

    url: str = ""
    rules: dict[str, Callable[[dict[str, Any]], Any]] = field(default_factory=lambda: dict(RULES))
    longest_s: float = 0.0
    """Answers take a random time up to this."""
    down: bool = False
    """Every request gets HTTP 500."""
    cut: set[str] = field(default_factory=set[str])
    """Steps whose answers end where the prompt's limit of tokens says."""
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by step; whether it answers at all is no step."""

    def reply(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        step, user, answer = "", body["messages"][0]["content"], 500 if self.down else "yes"
        if user != "Say yes.":
            step, user = (message["content"] for message in body["messages"][:2])  # not the turns of a repair
            self.asked[step] += 1
            time.sleep(random.random() * self.longest_s)
            answer = 500 if self.down else self.rules[step](json.loads(user))
        if isinstance(answer, int):
            return answer, {"error": {"message": "on purpose"}}
        text = answer if isinstance(answer, str) else json.dumps(answer)
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "finish_reason": "length" if step in self.cut else "stop", "message": message}]
        usage = {"prompt_tokens": len(user.split()), "completion_tokens": len(text.split()), "total_tokens": 0}
        return 200, {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "rule",
            "choices": choices,
            "usage": usage,
        }


@contextlib.contextmanager
def _serving(teacher: Teacher) -> Generator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            status, value = teacher.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            data = json.dumps(value).encode()
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads, block_on_close = True, False
        request_queue_size = 128  # of the usual 5, a sixth who connects at once tries again after a second

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    teacher.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Bench:
    """A taxonomy, a workspace's paths and a teacher."""

    root: Path
    teacher: Teacher
    config: Config
    leaves: list[Leaf]

    def store(self, state: str = "state") -> Path:
        return self.root / state / "store"

    def use_recipe(self, flow: str, **changes: Any) -> None:
        """Write the shipped recipe with these changes and bare prompts, and configure it."""
        path = write_recipe(self.root / "recipes", flow, **changes)
        generate = self.config.generate.model_copy(update={"recipe": str(path)})
        self.config = self.config.model_copy(update={"generate": generate})

    def setup(self, state: str = "state", students: Students | None = None) -> Setup:
        source, ledger = WorkingTree(self.root / "taxonomy"), self.root / state / "ledger.db"
        return Setup(source, self.config, self.store(state), ledger, self.root / "cache", students)

    def foresee(self, students: Students | None = None) -> list[Forecast]:
        forecasts, unread = foresee(self.leaves, self.setup(students=students))
        assert not unread
        return forecasts

    def run(
        self, *, state: str = "state", progress: Any = None, students: Students | None = None, **options: Any
    ) -> list[Entry]:
        setup = self.setup(state, students)
        return bring_up_to_date(self.leaves, setup, progress or SilentProgress(), **options)


@pytest.fixture
def bench(tmp_path: Path) -> Generator[Bench]:
    folder = tmp_path / "taxonomy" / KNOWLEDGE_ID
    folder.mkdir(parents=True)
    (folder / "mill.md").write_text(MILL)
    teacher = Teacher()
    with _serving(teacher):
        server = ModelServer(model="rule", base_url=teacher.url)
        bench = Bench(tmp_path, teacher, Config(teacher=server), three_leaves())
        bench.use_recipe("knowledge", chunk_tokens=15, rewordings=2, long_instruction="At length.")
        bench.use_recipe("skills", tasks_per_call=2)
        yield bench
