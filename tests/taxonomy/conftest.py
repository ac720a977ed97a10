from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from git import Repo

KNOWLEDGE: dict[str, Any] = {
    "version": 4,
    "created_by": "ada",
    "domain": "bridges",
    "document_outline": "A bridge.",
    "document": {"files": ["bridge.md"]},
    "seed_examples": [
        {
            "context": f"Passage {number}.",
            "questions_and_answers": [
                {"question": f"What is {number}.{index}?", "answer": f"It is {number}.{index}."} for index in range(3)
            ],
        }
        for number in range(5)
    ],
    "test_questions": [{"question": "How long is it?", "answer": "9 miles", "accept": ["nine miles"]}],
}

SKILL: dict[str, Any] = {
    "version": 4,
    "created_by": "ada",
    "task_description": "Greet.",
    "seed_examples": [{"question": f"Greet {name}.", "answer": f"Hello, {name}."} for name in "ABCDE"],
}

SHARED = Path(__file__).parents[3] / "shared" / "taxonomies"


class Repository:
    """A real git repository to write leaves into."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git = Repo.init(root, initial_branch="main")

    def write(self, path: str, content: str | bytes | Mapping[str, Any]) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Mapping):
            content = yaml.safe_dump(content, sort_keys=False)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def commit(self) -> str:
        self.git.git.add("--all")
        self.git.git.execute(["git", "-c", "user.name=ada", "-c", "user.email=ada@x", "commit", "-qm", "work"])
        return self.git.head.commit.hexsha


@pytest.fixture(autouse=True)
def _no_git_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person who runs the tests has configured must not matter."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME", raising=False)
        monkeypatch.delenv(f"GIT_{role}_EMAIL", raising=False)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def knowledge() -> dict[str, Any]:
    return copy.deepcopy(KNOWLEDGE)


@pytest.fixture
def skill() -> dict[str, Any]:
    return copy.deepcopy(SKILL)


@pytest.fixture(params=["instructlab-2024-07", "instructlab-2025-04"])
def public_tree(request: pytest.FixtureRequest) -> Path:
    """A real public taxonomy, where the checkout has one beside it."""
    tree = SHARED / request.param
    if not tree.is_dir():
        pytest.skip(f"{request.param} is not there")
    return tree
