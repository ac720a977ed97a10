"""Under which names the student is asked: they stand for its weights, and hold no path of this machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tilth.core.config import Config
from tilth.core.progress import SilentProgress
from tilth.cycle.generating import students


def named(root: Path, model: str, parent: Any = None) -> tuple[str, str]:
    """The names of the base and of the current release."""
    config = Config.model_validate({"student": {"model": model, "system_prompt": "Be brief."}})
    workspace: Any = SimpleNamespace(config=config, state=root / "state", releases=root / "releases")
    found = students(workspace, parent, SilentProgress())
    base, current = found.base(), found.current()
    assert (base.system_prompt, current.system_prompt) == ("Be brief.", "Be brief.")
    return base.name, current.name


def model(folder: Path, weights: bytes) -> str:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text("{}")
    return str(folder)


def test_a_model_of_the_catalogue_is_named_without_fetching_it(tmp_path: Path) -> None:
    base, current = named(tmp_path, "smollm2-135m-instruct")
    assert base == current
    assert base.startswith("smollm2-135m-instruct@")


def test_a_folder_is_named_by_its_weights_and_not_by_its_path(tmp_path: Path) -> None:
    one, other = model(tmp_path / "one" / "mine", b"1"), model(tmp_path / "other" / "mine", b"2")
    same = model(tmp_path / "same" / "mine", b"1")
    names = [named(tmp_path, each)[0] for each in (one, other, same)]
    assert all(name.startswith("mine@") and len(name) == 13 for name in names)
    assert (names[0] == names[2], names[0] == names[1]) == (True, False)


def test_a_release_is_named_by_its_number_and_weights(tmp_path: Path) -> None:
    release = SimpleNamespace(number=3, weights_sha256="abcdef0123456789", system_prompt=None)
    base, current = named(tmp_path, "smollm2-135m-instruct", release)
    assert (current, base != current) == ("release-3@abcdef01", True)
