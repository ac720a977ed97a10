"""What the argument MODEL may be, and what is said of everything else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.errors import TilthError
from tilth.core.progress import SilentProgress
from tilth.cycle.models import default_model, find_model
from tilth.llm.models import Endpoint, Folder, Gguf, Model

from ..loop import Loop


def student(folder: Path, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True)
    (folder / weights).write_bytes(b"w")
    (folder / "config.json").write_text("{}")
    return folder


def find(root: Path, name: str, **settings: Any) -> Model:
    base = root / "base"
    if not base.exists():
        student(base)
    tree = {"student": {"model": str(base), "system_prompt": "Be brief."}, **settings}
    workspace: Any = SimpleNamespace(config=Config.model_validate(tree), releases=root / "releases")
    return find_model(workspace, name, SilentProgress())


def test_base_folder_and_file(tmp_path: Path) -> None:
    assert find(tmp_path, "base") == Folder("base", tmp_path / "base", "Be brief.")
    other = student(tmp_path / "other")
    assert find(tmp_path, str(other)) == Folder(str(other), other, "Be brief.")
    file = tmp_path / "any.gguf"
    file.write_bytes(b"GGUF and more")
    assert find(tmp_path, str(file)) == Gguf(str(file), file, "Be brief.")


def test_a_teacher_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "any.gguf"
    file.write_bytes(b"GGUF and more")
    assert find(tmp_path, "teacher", teacher={"model": str(file)}) == Gguf("teacher", file)


def test_the_home_of_a_user_who_is_not_there_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(TilthError, match="there is no model '~nobody-here/m'"):
        find(tmp_path, "~nobody-here/m")
    with pytest.raises(TilthError, match="there is no model '~nobody-here/m'"):
        find(tmp_path, "base", student={"model": "~nobody-here/m"})


def test_an_endpoint_has_the_key_of_the_teacher_where_it_is_his(tmp_path: Path) -> None:
    url = "http://127.0.0.1:8000/v1"
    teacher = {"model": "big", "base_url": url, "api_key_env": "BIG_KEY"}
    found = find(tmp_path, f"{url}#small", teacher=teacher)
    assert isinstance(found, Endpoint)
    assert (found.name, found.server.model, found.server.base_url) == (f"{url}#small", "small", (url,))
    assert found.server.api_key_env == "BIG_KEY"
    again = find(tmp_path, "HTTP://127.0.0.1:8000/v1/#small", teacher=teacher)
    assert isinstance(again, Endpoint)
    assert again.server.api_key_env == "BIG_KEY"
    other = find(tmp_path, "https://elsewhere.example/v1#small", teacher=teacher)
    assert isinstance(other, Endpoint)
    assert other.server.api_key_env == "OPENAI_API_KEY"
    named = find(tmp_path, "teacher", teacher=teacher)
    assert isinstance(named, Endpoint)
    assert (named.name, named.server.model) == ("teacher", "big")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bse", "there is no model 'bse'; did you mean 'base'? Else write base, teacher, a release's number, "),
        ("", "there is no model ''; write base, teacher"),
        ("7", "there is no release 7; releases: none yet"),
        ("./none", "there is no model './none'; write base"),
        ("none.gguf", "none.gguf: there is no such file"),
        ("text.gguf", "text.gguf: this is no GGUF file"),
        ("empty", "empty: no *.safetensors here; name the folder of a Hugging Face model"),
        ("pickled", "pickled: the weights here are pickled; convert them to safetensors"),
        ("adapter", "adapter: this is an adapter without its model; merge it"),
        ("bare", "bare: the folder has no config.json"),
        ("http://127.0.0.1:8000/v1", "the endpoint's model is missing; write it like http://127.0.0.1:8000/v1#MODEL"),
        ("ftp://host/v1#m", "'ftp://host/v1#m': this is no endpoint"),
        ("http://127.0.0.1:99999/v1#m", "'http://127.0.0.1:99999/v1#m': this is no endpoint"),
        ("7" * 200, "there is no model '777"),
        ("http://[/v1#m", "'http://[/v1#m': this is no endpoint"),
    ],
)
def test_what_is_no_model_is_one_line(tmp_path: Path, monkeypatch: Any, name: str, told: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    student(tmp_path / "pickled", "pytorch_model.bin")
    (student(tmp_path / "bare") / "config.json").unlink()
    (student(tmp_path / "adapter", "adapter_model.safetensors") / "config.json").rename(
        tmp_path / "adapter" / "adapter_config.json"
    )
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(TilthError) as caught:
        find(tmp_path, name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_release_and_the_one_that_is_meant(turned_once: Loop, untouched: Loop) -> None:
    found = find_model(turned_once.workspace, "1", SilentProgress())
    assert found == Folder("release 1", turned_once.state / "releases/0001/model")
    assert (default_model(turned_once.workspace), default_model(untouched.workspace)) == ("1", "base")
