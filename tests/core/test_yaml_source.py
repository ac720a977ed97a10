"""core/yaml_source: places, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from tilth.core.errors import ConfigError, TilthError
from tilth.core.yaml_source import Problem, YamlProblems, load_yaml, parse_yaml


class Step(BaseModel):
    model_config = ConfigDict(extra="forbid")
    prompt: str
    takes: int = 1
    from_: str = Field(default="", alias="from")


class Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str = ""
    steps: tuple[Step, ...] = ()
    named: Mapping[str, Step] = Field(default_factory=dict)
    judge: Step | None = None


def problems_of(text: str, model: type[BaseModel] | None = None) -> list[Problem]:
    try:
        source = parse_yaml(text, "leaf.yaml")
        if model is not None:
            source.validate(model)
    except YamlProblems as error:
        return error.problems
    return []


def test_every_value_has_its_place() -> None:
    source = parse_yaml("title: a\nsteps:\n  - prompt: p\n    takes: 2\n", "leaf.yaml")
    assert source.data == {"title": "a", "steps": [{"prompt": "p", "takes": 2}]}
    assert source.place(("steps", 0, "takes")) == (4, 5)
    assert source.place(("steps", 0, "takes", "")) == (4, 12)
    assert source.place(("steps", 0)) == (3, 5)


def test_the_place_of_what_is_not_there_is_its_nearest_parent() -> None:
    source = parse_yaml("steps:\n  - prompt: p\n", "leaf.yaml")
    assert source.place(("steps", 0, "takes")) == source.place(("steps", 0)) == (2, 5)
    assert parse_yaml("", "leaf.yaml").place(("steps",)) == (1, 1)


def test_an_error_names_file_line_and_column() -> None:
    with pytest.raises(TilthError, match=r"^leaf\.yaml:3:5: the key 'steps\.0\.prompt' is missing; add it$"):
        parse_yaml("title: a\nsteps:\n  - takes: 1\n", "leaf.yaml").validate(Recipe)


def test_a_wrong_value_stands_at_its_key() -> None:
    [problem] = problems_of("steps:\n  - prompt: p\n    takes: many\n", Recipe)
    assert (problem.line, problem.column, problem.key) == (3, 5, ("steps", 0, "takes"))
    assert "valid integer" in problem.message


def test_all_problems_are_told_in_the_order_of_the_file() -> None:
    problems = problems_of("titel: a\nsteps:\n  - takes: many\n", Recipe)
    assert [problem.kind for problem in problems] == ["extra_forbidden", "missing", "int_parsing"]
    assert [problem.line for problem in problems] == [1, 3, 3]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("titel: a", "unknown key 'titel'; did you mean 'title'?"),
        ("steps: [{prompt: p, take: 1}]", "unknown key 'steps.0.take'; did you mean 'takes'?"),
        ("judge: {prompt: p, promt: q}", "unknown key 'judge.promt'; did you mean 'prompt'?"),
        ("named: {a: {prompt: p, take: 1}}", "unknown key 'named.a.take'; did you mean 'takes'?"),
        ("judge: {prompt: p, form: q}", "unknown key 'judge.form'; did you mean 'from'?"),
        ("zzz: 1", "unknown key 'zzz'; use one of: judge, named, steps, title"),
    ],
)
def test_an_unknown_key_gets_the_nearest_known_one(text: str, advice: str) -> None:
    assert [problem.message for problem in problems_of(text, Recipe)] == [advice]


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("a: [1,\n b: 2", (2, 6), "expected ',' or ']'"),
        ("a: 1\n b: 2", (2, 3), "mapping values are not allowed here"),
        ("\ta: 1", (1, 1), "cannot start any token"),
        ("a: 1\n---\nb: 2", (2, 1), "expected a single document in the stream, but found another"),
        ("a: *nothing", (1, 4), "undefined alias"),
        ("a: 1\nb: \x07", (2, 4), r"the character '\x07'"),
    ],
)
def test_a_syntax_error_is_placed(text: str, place: tuple[int, int], reason: str) -> None:
    [problem] = problems_of(text)
    assert (problem.line, problem.column, problem.kind) == (*place, "syntax")
    assert reason in problem.message


def test_a_duplicate_key_is_placed_at_its_second_mention() -> None:
    [problem] = problems_of("a: 1\nb:\n  c: 1\n  c: 2\n")
    assert (problem.line, problem.column, problem.kind, problem.key) == (4, 3, "duplicate_key", ("b", "c"))


@pytest.mark.parametrize("key", ["1", "true", "null", "[a]"])
def test_a_key_is_text(key: str) -> None:
    assert [problem.kind for problem in problems_of(f"{key}: x")] == ["key"]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("a: !!python/object/apply:os.system [true]", "!!python/object/apply:os.system"),
        ("a: !!python/object:os.path {a: 1}", "!!python/object:os.path"),
        ("a: !!python/name:os.system", "!!python/name:os.system"),
        ("a: !!set {b}", "!!set"),
        ("a: !!binary aGVsbG8=", "!!binary"),
        ("a: !env HOME", "!env"),
        ("!env HOME: a", "!env"),
    ],
)
def test_tags_are_refused(text: str, tag: str) -> None:
    [problem] = problems_of(text)
    assert problem.kind == "tag"
    assert f"the tag {tag!r} is not allowed" in problem.message


@pytest.mark.parametrize("value", ["!!bool maybe", "!!int ''", "!!float x", "9" * 5000, "1:" * 200 + "1.0"])
def test_a_value_that_cannot_be_read_is_a_placed_problem(value: str) -> None:
    [problem] = problems_of(f"a: {value}")
    assert (problem.line, problem.column) == (1, 4)
    assert "quote it" in problem.message


@pytest.mark.parametrize("text", ["2024-02-30", "2024-02-28", "=", "<<", "!!str 5"])
def test_dates_and_the_signs_of_yaml_1_1_stay_text(text: str) -> None:
    assert parse_yaml(f"a: {text}", "leaf.yaml").data == {"a": text.removeprefix("!!str ")}


def test_half_a_character_is_refused() -> None:
    [problem] = problems_of('a: "x\\ud800"\nb: "\\U0001F33E"\n')
    assert (problem.line, problem.column, problem.kind) == (1, 4, "text")


def test_an_alias_repeats_a_value() -> None:
    assert parse_yaml("a: &a [1, x]\nb: *a\n", "leaf.yaml").data == {"a": [1, "x"], "b": [1, "x"]}


def bomb(row: str) -> str:
    """Twenty lines that would expand to 3**20 values."""
    lines = [f"a0: &a0 {row.replace('@', 'x')}"]
    lines += [f"a{level}: &a{level} {row.replace('@', f'*a{level - 1}')}" for level in range(1, 20)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        bomb("[@, @, @]"),
        bomb("{a: @, b: @, c: @}"),
        "&a [*a, *a]",
        "&a {b: *a, c: *a}",
        "a: " + "[" * 900,
        "a: " + "[" * 65 + "]" * 65,
    ],
)
def test_a_file_that_would_expand_without_end_is_refused(text: str) -> None:
    assert [problem.kind for problem in problems_of(text)] == ["size"]


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    with pytest.raises(ConfigError, match=re.escape(f"{path}: the file does not exist")):
        load_yaml(path, Recipe)
    path.write_bytes("title: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="the file is not UTF-8 text; save it as UTF-8"):
        load_yaml(path, Recipe)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path, Recipe)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused_with_a_place_inside_it(text: str) -> None:
    last_line = len(text.splitlines()) + 1
    assert all(1 <= problem.line <= last_line and problem.column >= 1 for problem in problems_of(text))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(json_like)
def test_what_yaml_writes_is_read_back(value: object) -> None:
    source = parse_yaml(yaml.safe_dump(value), "leaf.yaml")
    assert source.data == value
