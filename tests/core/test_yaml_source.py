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
from tilth.core.text_faults import text_fault
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
    assert source.place(("steps", 0)) == (3, 5)
    assert source.place(()) == (1, 1)


def test_a_value_is_known_as_it_is_written() -> None:
    source = parse_yaml("title: yes\nsteps: [x]\n", "leaf.yaml")
    assert (source.data["title"], source.written(("title",))) == (True, "yes")
    assert (source.written(("steps",)), source.written(("steps", 0)), source.written(("judge",))) == ("", "x", "")


def test_places_count_characters_whatever_the_line_breaks() -> None:
    source = parse_yaml("a: 🌾é\r\nb: {ü: 1, 🌾: 2}\nc: 3\n", "leaf.yaml")
    assert [source.place((key,)) for key in "abc"] == [(1, 1), (2, 1), (3, 1)]
    assert source.place(("b", "🌾")) == (2, 11)


def test_places_are_those_that_an_editor_shows() -> None:
    text = "a: [x, &k y]\u2028\r\nb: *k\x85c: \u2029 {d: e}\r\nf: g\n"
    source = parse_yaml(text, "leaf.yaml")
    assert [source.place((key,)) for key in "abcf"] == [(1, 1), (2, 1), (2, 7), (3, 1)]
    assert source.place(("c", "d")) == (2, 13)
    with pytest.raises(YamlProblems, match=r"^leaf\.yaml:4:1: not valid YAML") as caught:
        parse_yaml(f"{text}]", "leaf.yaml")
    assert len(caught.value.problems) == 1


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
    assert "steps.0.takes is 'many'; write a whole number" in problem.message


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
        ("a: [1,\n b: 2", (1, 4), "the [ that opens here is never closed"),
        ("a: {b: 1\nc: 2", (1, 4), "the { that opens here is never closed"),
        ("a: [\n", (2, 1), "ends too early"),
        ("a: b: c", (1, 5), "a ':' where no key can stand"),
        ("a: 1\n b: 2", (2, 3), "a ':' where no key can stand"),
        ("a:\n    b: 1\n  c: 2", (3, 3), "align the line"),
        ("- a\nb: 1", (2, 1), "begin with '- '"),
        ("a: 1\nb\nc: 2", (2, 1), "no ': ' after a key"),
        ("\ta: 1", (1, 1), "a tab; indent with spaces"),
        ("a: |\n\tb", (2, 1), "a tab; indent with spaces"),
        ("a: | b", (1, 6), "a text begins on the next line"),
        ("a: 'it's'", (1, 8), "the text ended at the ' before; where one stands inside the text, write ''"),
        ('a: "b" c', (1, 8), 'the text ended at the " before; where one stands inside the text, write \\"'),
        ('a: 1\nb: "c\nd: 1', (2, 4), "the quote that opens here is never closed"),
        ('a: "C:\\x"', (1, 9), r"write \\"),
        ('a: "\\ud83c"', (1, 7), "half a character"),
        ("a: %b", (1, 4), "a text cannot begin with '%'; put the text in quotes"),
        ("a: ]", (1, 4), "a text cannot begin with ']'"),
        ("a: *nothing", (1, 4), "the alias names nothing"),
        ("a: **b**", (1, 5), "a text cannot begin with * or &"),
        ("a: &x 1\nb: &x 2", (2, 4), "stands twice"),
        ("a: !b!c d", (1, 4), "a tag (!…) of an unknown kind"),
        ("a: 1\n---\nb: 2", (2, 1), "a second document begins"),
        ("a: 1\n...\nb: 2", (3, 1), "after the end of the data"),
        ("a: 1\nb: \x07", (2, 4), r"the character '\x07'; remove it"),
        ("a: \ud800", (1, 4), r"the character '\ud800'; remove it"),
        ("%YAML 3.0\n---\na: 1", (1, 1), "found incompatible YAML document"),
    ],
)
def test_a_syntax_error_is_placed(text: str, place: tuple[int, int], reason: str) -> None:
    [problem] = problems_of(text)
    assert (problem.line, problem.column, problem.kind) == (*place, "syntax")
    assert reason in problem.message


def test_a_duplicate_key_is_placed_at_its_second_mention() -> None:
    [problem] = problems_of("a: 1\nb:\n  c: 1\n  c: 2\n")
    assert (problem.line, problem.column, problem.kind, problem.key) == (4, 3, "duplicate_key", ("b", "c"))


@pytest.mark.parametrize("key", ["1", "true", "null", "[a]", "{a: b}", "? [a]\n"])
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


@pytest.mark.parametrize(("escape", "sign"), [(r"\0", r"\x00"), (r"\e[31m", r"\x1b"), (r"\x7f", r"\x7f")])
def test_a_control_character_is_refused_however_it_is_written(escape: str, sign: str) -> None:
    [problem] = problems_of(f'a: 1\nb: "x{escape}"\n')
    assert (problem.line, problem.column, problem.kind) == (2, 4, "text")
    assert f"the control character '{sign}'" in problem.message


def test_an_alias_repeats_a_value() -> None:
    assert parse_yaml("a: &a [1, x]\nb: *a\n", "leaf.yaml").data == {"a": [1, "x"], "b": [1, "x"]}


def bomb(row: str) -> str:
    """Twenty lines that would expand to 3**20 values."""
    lines = [f"a0: &a0 {row.replace('@', 'x')}"]
    lines += [f"a{level}: &a{level} {row.replace('@', f'*a{level - 1}')}" for level in range(1, 20)]
    return "\n".join(lines)


LONG = "x" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        bomb("[@, @, @]"),
        bomb("{a: @, b: @, c: @}"),
        "&a [*a, *a]",
        "&a {b: *a, c: *a}",
        "a: " + "[" * 100_000,  # PyYAML alone would end the process
        "- " * 100_000,
        "a: " + "[" * 65 + "]" * 65,
        "- a\n" * 60_000,
        f"- &a {LONG}\n" + "- *a\n" * 6,
        LONG * 6,
    ],
)
@pytest.mark.slow
def test_a_file_without_end_is_refused(text: str) -> None:
    assert [problem.kind for problem in problems_of(text)] == ["size"]


@pytest.mark.parametrize(
    "value", ["1:" * 200_000 + "1", "9" * 400_000, "1" + "0" * 400_000 + ".5", "1" + "_" * 400_000]
)
def test_a_number_without_end_is_refused(value: str) -> None:
    [problem] = problems_of(f"a: {value}")
    assert problem.kind == "tag"
    assert len(problem.message) < 100


def test_tag_directives_are_refused() -> None:
    """libyaml compares each with all others."""
    text = "# a\n" + "".join(f"%TAG !a{number}! x\n" for number in range(20_000)) + "---\na: 1\n"
    assert [(problem.line, problem.kind) for problem in problems_of(text)] == [(2, "tag")]


@pytest.mark.slow
def test_no_more_problems_are_told_than_someone_reads() -> None:
    with pytest.raises(YamlProblems, match=r"is missing; add it \(and 99 more\)") as caught:
        parse_yaml("steps:\n" + "- {}\n" * 20_000, "leaf.yaml").validate(Recipe)
    assert len(caught.value.problems) == 100


def test_a_message_stays_short() -> None:
    assert all(len(problem.message) < 200 for problem in problems_of(f"? {LONG}\n: 1\n", Recipe))
    assert all(len(problem.message) < 200 for problem in problems_of(f"? {LONG}\n: 1\n? {LONG}\n: 1\n"))
    assert all(len(problem.message) < 200 for problem in problems_of(f"a: !{LONG} b"))


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    with pytest.raises(ConfigError, match=re.escape(f"{path}: the file does not exist")):
        load_yaml(path, Recipe)
    path.write_bytes("# a\ntitle: é".encode("latin-1"))
    with pytest.raises(YamlProblems, match=re.escape(f"{path}:2:1: not UTF-8 text; save the file as UTF-8")):
        load_yaml(path, Recipe)
    path.write_bytes("\ufefftitle: é".encode())
    assert load_yaml(path, Recipe).title == "é"
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path, Recipe)


yaml_ish = st.lists(
    st.sampled_from([*"\t \n\r:-?[]{},&*!|>'\"#%@`\\~=<a1é🌾\x85\u2028\ufeff\0", ": ", "- ", "\n  ", "---\n"])
)


@given(st.text(max_size=60) | yaml_ish.map("".join))
@pytest.mark.slow
def test_any_text_parses_or_is_refused_with_a_place_inside_it(text: str) -> None:
    last_line = len(text.splitlines()) + 1
    assert all(1 <= problem.line <= last_line and problem.column >= 1 for problem in problems_of(text))


@given(yaml_ish.map("".join))
def test_what_both_parsers_of_pyyaml_read_is_the_same(text: str) -> None:
    """libyaml's differs from Python's in what it refuses (tabs, half characters), never in what it reads."""
    try:
        expected = yaml.load(text, Loader=_Texts)
        source = parse_yaml(text, "leaf.yaml")
    except (YamlProblems, yaml.YAMLError, ValueError, TypeError):
        return
    if "\ufeff" not in text:
        assert source.data == expected


class _Texts(yaml.SafeLoader):
    """Reads dates and the signs of YAML 1.1 as text."""


for _tag in ("timestamp", "value", "merge"):
    _Texts.add_constructor(f"tag:yaml.org,2002:{_tag}", _Texts.construct_yaml_str)


honest_text = st.text(max_size=8).filter(lambda text: text_fault(text) is None)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | honest_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(honest_text, inner, max_size=4),
    max_leaves=12,
)


@given(json_like)
@pytest.mark.slow
def test_what_yaml_writes_is_read_back(value: object) -> None:
    source = parse_yaml(yaml.safe_dump(value), "leaf.yaml")
    assert source.data == value


def test_a_merge_key_is_refused_where_it_stands() -> None:
    [problem] = problems_of("title: a\nsteps:\n  - <<: {prompt: p}\n    takes: 1\n", Recipe)
    assert (problem.line, problem.column, problem.kind) == (3, 5, "key")
    assert problem.message == "merge keys (<<) are not read; write the keys themselves here"
    assert parse_yaml("a: <<\n", "leaf.yaml").data == {"a": "<<"}
