"""Keys stay in the process that sends them: a whole cycle is run with one, and everything is searched for it."""

from __future__ import annotations

import ast
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import Config, Train, load_config
from tilth.core.environment import emptied, for_children, withhold
from tilth.core.errors import ModelError, TilthError
from tilth.core.progress import SilentProgress
from tilth.core.records import Message
from tilth.llm import gguf_server
from tilth.llm.chat import partner
from tilth.llm.endpoint import Endpoint
from tilth.llm.models import Endpoint as Named
from tilth.llm.scripted import serve_scripted
from tilth.llm.streaming import Sampling
from tilth.taxonomy import fetch, repository
from tilth.train.processes import Place

from ..loop import HUB_TOKEN, KEY, RECORD_CHILDREN, Loop, Teacher

ROOT = Path(__file__).parents[2]


def test_a_whole_cycle_leaves_the_key_nowhere(turned_once: Loop, teacher: Teacher) -> None:
    assert f"Bearer {KEY}" in teacher.authorizations  # it was sent
    files = [path for path in turned_once.root.parent.rglob("*") if path.is_file() and path.name != "children.jsonl"]
    assert {"ledger.db", "report.html", "release.json", "manifest.json", "cycle.json", "out"} <= {
        path.name for path in files
    }
    held = {str(path): path.read_bytes() for path in files}
    assert [path for path, data in held.items() if KEY.encode() in data or HUB_TOKEN.encode() in data] == []


def test_no_child_of_a_cycle_is_given_the_key(turned_once: Loop) -> None:
    lines = (turned_once.root.parent / "children.jsonl").read_text().splitlines()
    children: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert any("git" in child["argv"][0] for child in children)
    given = {key for child in children for key in (*child["argv"], *child["environment"].values())}
    assert [text for text in given if KEY in text or HUB_TOKEN in text] == []
    assert all("PATH" in child["environment"] for child in children)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a variable that holds a key; a configuration has named it."""
    monkeypatch.setenv("TILTH_TEST_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", HUB_TOKEN)
    withhold(["TILTH_TEST_KEY"])
    return "TILTH_TEST_KEY"


def test_a_configuration_names_what_is_withheld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTH_JUDGE_KEY", KEY)
    assert "TILTH_JUDGE_KEY" in for_children()
    (tmp_path / "tilth.yaml").write_text("judge: {model: m, base_url: 'http://h/v1', api_key_env: TILTH_JUDGE_KEY}")
    load_config(tmp_path / "tilth.yaml")
    assert "TILTH_JUDGE_KEY" not in for_children()
    assert for_children()["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"],
)
def test_keys_of_the_hub_and_of_dashboards_stay_in_the_process_that_reports(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, KEY)
    assert name not in for_children()
    assert emptied()[name] == ""
    assert os.environ[name] == KEY


BEGIN = """
import sys
from pathlib import Path
from tilth.taxonomy.contribute import commit_files, init_repository
root = Path(sys.argv[1])
init_repository(root)
commit_files(root, [root / ".gitignore"], "Begin")
"""
"""The first that a process does with git: GitPython, imported here, asks for git's version."""


@pytest.mark.slow
def test_training_processes_and_git_are_not_given_the_key(key: str, tmp_path: Path) -> None:
    environments = [
        Place(Train(), 0, "127.0.0.1", 1).environment(0),
        dict(fetch._environment(None)),
    ]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    environments.append(repository._command(tmp_path, ("status",))[1])
    assert all(environment["PATH"] for environment in environments)
    assert [environment for environment in environments if {KEY, HUB_TOKEN} & set(environment.values())] == []
    repo = repository.open_repository(tmp_path)
    assert {repo.git.environment()[name] for name in (key, "HF_TOKEN")} == {""}
    repo.close()
    root, recording = tmp_path / "taxonomy", RECORD_CHILDREN.format(file=str(tmp_path / "children.jsonl"))
    root.mkdir()
    subprocess.run([sys.executable, "-c", recording + BEGIN, str(root)], check=True)  # with HF_TOKEN
    children = [json.loads(line) for line in (tmp_path / "children.jsonl").read_text().splitlines()]
    assert {"version", "init", "commit"} <= {word for child in children for word in child["argv"]}
    assert [child["argv"] for child in children if HUB_TOKEN in child["environment"].values()] == []


def test_the_server_of_a_model_gets_its_token_over_a_pipe(key: str, tmp_path: Path) -> None:
    listening = gguf_server.Listening(token=KEY)
    with (tmp_path / "log").open("wb") as log:
        child = gguf_server._start(tmp_path / "m.gguf", 1, 512, listening, log)
        try:
            told = seen(child.pid)
            while b"tilth.llm.gguf_server" not in told[1]:  # it is not what it is to become yet
                told = seen(child.pid)
        finally:
            gguf_server._stop(child)
    assert b"PATH=" in told[0]
    assert not any(secret.encode() in data for data in told for secret in (KEY, HUB_TOKEN))


def seen(pid: int) -> list[bytes]:
    """What others of the same user may see of a process: its environment and its arguments."""
    return [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline")]


@pytest.mark.slow
def test_every_child_process_is_started_with_an_environment_of_our_choice() -> None:
    """`cycle/watch.py` starts tilth itself, which is to ask the models."""
    rooms = ("core", "llm", "taxonomy", "sdg", "train", "eval", "cycle", "cli")
    names = ("run", "Popen", "check_output", "check_call", "call", "getoutput")
    starts = {*(f"subprocess.{name}" for name in names), "asyncio.create_subprocess_exec", "os.system", "os.popen"}
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}": {given.arg for given in node.keywords}
        for room in rooms
        for path in sorted((ROOT / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in starts
    }
    assert len(found) > 7
    assert {place.partition(":")[0] for place, given in found.items() if "env" not in given} <= {"cycle/watch.py"}
    assert [place for place, given in found.items() if "shell" in given] == []


def test_an_answer_that_repeats_the_key_is_kept_without_it(key: str) -> None:
    endpoint = Endpoint("http://127.0.0.1:1/v1", "m", KEY, 1, 1.0)
    assert endpoint.without_key(f"You sent {KEY}.") == "You sent ***."
    slashed = Endpoint("http://127.0.0.1:1/v1", "m", "sk-secret/secret-secret", 1, 1.0)
    assert slashed.without_key(r'{"error": "sk-secret\/secret-secret"}') == '{"error": "***"}'
    stand_in = Endpoint("http://127.0.0.1:1/v1", "m", "none", 1, 1.0)
    assert stand_in.without_key("none of them") == "none of them"
    assert KEY not in repr(endpoint)


@pytest.mark.slow
def test_a_chat_whose_key_is_refused_does_not_show_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from openai import _base_client

    _base_client.platform_headers.cache_clear()
    monkeypatch.setattr(platform, "_uname_cache", None)  # as in a process that begins
    monkeypatch.setattr(platform, "_platform_cache", {})
    given: list[dict[str, str]] = []
    monkeypatch.setattr(subprocess, "check_output", lambda *_, **__: given.append(dict(os.environ)) or "")
    with serve_scripted(script=("401",)) as url:
        server = Config().teacher.model_copy(update={"model": "m", "base_url": (url,), "api_key_env": key})
        with partner(Named("teacher", server), SilentProgress()) as there, pytest.raises(ModelError) as caught:
            there.answer([Message(role="user", content="Hi")], Sampling(max_tokens=8), lambda _: None)
    assert "HTTP 401" in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(given) == 1  # `uname -p`, which openai's client brings about
    assert not {KEY, HUB_TOKEN} & set(given[0].values())


@pytest.mark.parametrize(
    "teacher",
    ["{model: m, base_url: 'https://ada:KEY@host/v1'}", "{model: m, base_url: 'https://host/v1', api_key_env: KEY}"],
)
def test_a_key_in_the_configuration_is_refused_and_not_repeated(tmp_path: Path, teacher: str) -> None:
    (tmp_path / "tilth.yaml").write_text(f"teacher: {teacher}".replace("KEY", KEY))
    with pytest.raises(TilthError, match="api_key_env") as caught:
        load_config(tmp_path / "tilth.yaml")
    assert KEY not in str(caught.value)
