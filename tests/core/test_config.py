"""core/config: one file, typed, with overrides."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from tilth.core.config import Config, load_config
from tilth.core.errors import ConfigError, TilthError
from tilth.core.yaml_source import YamlProblems


def write(folder: Path, text: str) -> Path:
    path = folder / "tilth.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == Config()


def test_the_file_sets_values(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "seed: 7\nteacher:\n  model: big\n  concurrency: 2\njudge:\n  model: fair\n"))
    assert (config.seed, config.teacher.model, config.teacher.concurrency) == (7, "big", 2)
    assert config.judge is not None
    assert config.judge.model == "fair"


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no tilth\.yaml; run `tilth init` first"):
        load_config(tmp_path / "tilth.yaml")


def test_a_file_in_another_encoding_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tilth.yaml"
    path.write_bytes("student: {system_prompt: café}".encode("latin-1"))
    with pytest.raises(YamlProblems, match=r"^tilth\.yaml:1:1: not UTF-8 text; save the file as UTF-8$"):
        load_config(path)


def test_an_unknown_key_is_refused_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 1\nteacher:\n  modle: big\n")
    with pytest.raises(TilthError, match=r"^tilth\.yaml:3:3: unknown key 'teacher\.modle'; did you mean 'model'\?$"):
        load_config(path)


@pytest.mark.parametrize(
    "line",
    [
        "teacher: {concurrency: 0}",
        "gate: {significance: 1}",
        "train: {checkpoint_every_s: .nan}",
        "seed: yes",
        "releases: {keep: yes}",  # 1 would delete models
    ],
)
def test_a_value_out_of_range_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(TilthError, match=r"^tilth\.yaml:1:\d+: "):
        load_config(write(tmp_path, line))


def test_overrides_win_over_the_file_and_keep_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 1\nteacher: {model: big, concurrency: 2}\n")
    config = load_config(path, ("teacher.model=small", "judge.model=fair", "gate.significance=0.01", "seed=3"))
    assert (config.teacher.model, config.teacher.concurrency, config.seed) == ("small", 2, 3)
    assert config.judge is not None
    assert (config.judge.model, config.gate.significance) == ("fair", 0.01)


def test_a_later_override_wins(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, ""), ("seed=1", "seed=2")).seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set: cannot read 'seed'; write it as section.key=value"),
        ("=3", "--set: cannot read '=3'; write it as section.key=value"),
        ("seed=[1", "--set seed:1:1: not valid YAML"),
        ("teacher.modle=x", "--set teacher.modle=x: unknown key 'teacher.modle'; did you mean 'model'?"),
        ("teacher.concurrency=0", "--set teacher.concurrency=0: teacher.concurrency is 0; write a number of at least"),
        ("teacher=fast", "--set teacher=fast: teacher is 'fast'; write keys and values: model, base_url, "),
    ],
)
def test_a_wrong_override_is_told_as_it_was_typed(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(TilthError) as caught:
        load_config(write(tmp_path, "teacher: {model: big}\n"), ("gate.significance=0.1", override))
    assert str(caught.value).startswith(message)


def test_the_tree_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 1  # pyright: ignore[reportAttributeAccessIssue]
