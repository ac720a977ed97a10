"""A workspace of skill leaves that are made up, for measurements of `tilth generate` as a whole."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from .teacher import Teacher

RECIPE = Path(__file__).parents[2] / "sdg" / "recipes" / "quick.yaml"
SEVERAL = {"questions": "persona_questions", "grounded_questions": "grounded_persona_questions"}
"""Prompts whose answers hold several tasks."""
COMMAND = [str(Path(sys.executable).with_name("tilth")), "generate"]


@dataclass(frozen=True)
class Shape:
    """What a workspace holds. Every seed example makes `tasks` new ones, each of them a request or two."""

    leaves: int
    seeds: int = 5
    tasks: int = 1
    judge: bool = True
    concurrency: int = 64
    poison: str = ""
    """Put into a seed example in the middle of every leaf."""


@dataclass(frozen=True)
class Ran:
    """What became of a `tilth generate`."""

    exit_code: int
    seconds: float
    said: str


def build(root: Path, shape: Shape, teacher: Teacher) -> Path:
    """Write and commit it. Returns `root`."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    recipe["skills"] |= {"judge": shape.judge, "tasks_per_call": shape.tasks}
    recipe["skills"]["prompts"] |= SEVERAL
    server = {"model": "mock", "base_url": teacher.url, "concurrency": shape.concurrency}
    files = {
        "tilth.yaml": {"teacher": server, "generate": {"recipe": "recipe.yaml"}},
        "recipe.yaml": recipe,
        **{leaf_path(number): _leaf(number, shape) for number in range(shape.leaves)},
    }
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    (root / ".gitignore").write_text(".tilth/\n")
    _git(root, "init", "--quiet", "--initial-branch=main")
    commit(root)
    return root


def leaf_path(number: int) -> str:
    return f"compositional_skills/field_{number % 7}/part_{number % 101}/leaf_{number}/qna.yaml"


def mark(number: int) -> str:
    """A word that stands in every prompt of a leaf, and in no other's."""
    return f"leaf-number-{number}-"


def commit(root: Path) -> None:
    _git(root, "add", ".")
    _git(root, "-c", "user.name=ada", "-c", "user.email=ada@x", "commit", "--quiet", "--message", "more")


def generate(root: Path, timeout_s: float = 3600) -> Ran:
    """Run `tilth generate` to its end."""
    started_s = time.perf_counter()
    exit_code = start(root).wait(timeout_s)
    return Ran(exit_code, time.perf_counter() - started_s, said(root))


def start(root: Path) -> subprocess.Popen[bytes]:
    """`tilth generate`, running."""
    (root / ".tilth").mkdir(exist_ok=True)
    with (root / SAID).open("wb") as out:
        return subprocess.Popen(COMMAND, cwd=root, env=ENVIRONMENT, stdout=out, stderr=subprocess.STDOUT)


def said(root: Path) -> str:
    """What the last command printed."""
    return (root / SAID).read_text(encoding="utf-8").strip()


SAID = ".tilth/said.txt"


ENVIRONMENT = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def copy(root: Path, to: Path) -> Path:
    """A workspace with the same commit, as it was before anything was made."""
    return Path(shutil.copytree(root, to, symlinks=True))


def dataset_digest(root: Path) -> str:
    """A hash of the bytes of all samples and rejects, and of where they lie."""
    digest = hashlib.sha256()
    store = root / ".tilth" / "store"
    for path in sorted(store.glob("*/*.jsonl")):
        digest.update(str(path.relative_to(store)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


_SEED_WORDS = 6
"""The teacher's tasks have three words and more, and its solutions any number of lines: the form of these seeds."""


def _leaf(number: int, shape: Shape) -> dict[str, object]:
    words, between = random.Random(number), (" ", "\n")  # noqa: S311
    examples = [
        {
            "question": _text(words, _SEED_WORDS) + "?",
            "answer": f"{mark(number)} {_text(words, 20)}{between[seed % 2]}{_text(words, 20)}",
        }
        for seed in range(shape.seeds)
    ]
    if shape.poison:
        middle = examples[shape.seeds // 2]
        middle["question"] = f"{shape.poison} {middle['question']}"
    return {
        "version": 3,
        "created_by": "ada",
        "task_description": f"{mark(number)} {_text(words, 9)}",
        "seed_examples": examples,
    }


def _text(words: random.Random, num_words: int) -> str:
    return " ".join("".join(words.choices("abcdefghiklmnoprstu", k=words.randint(2, 9))) for _ in range(num_words))


def _git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
