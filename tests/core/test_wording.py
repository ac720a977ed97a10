"""core/wording: what pydantic says reaches nobody, whichever schema and whichever value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType
from tilth.core.config import Config
from tilth.core.wording import WHAT_TO_DO, worded
from tilth.core.yaml_problem import YamlProblems
from tilth.core.yaml_source import YamlSource
from tilth.llm.prompts import PromptFile
from tilth.sdg.settings import RecipeFile
from tilth.taxonomy.schema import KNOWLEDGE, SKILLS
from tilth.train.plan import Plan

ROOTS: list[Any] = [
    Config,
    Plan,
    RecipeFile,
    PromptFile,
    *SKILLS.values(),
    *KNOWLEDGE.values(),
]
WRONG: list[Any] = [
    None, True, -1, 0, 3, 1.5, 10**40, float("nan"), float("inf"), "", "a b", "9" * 5000, [], [1], ["a"] * 200, [3, 1],
    [1, 2, 3], {}, {"x": 1}, {"x": {"y": [1, {"z": 2}]}}, [[1]], [{"x": 1}],
]  # fmt: skip
_LIMITS = "greater_than greater_than_equal less_than less_than_equal"
RAISED_BY = {
    "model": "model_type", "model-fields": "missing extra_forbidden", "dict": "dict_type",
    "str": "string_type string_pattern_mismatch", "literal": "literal_error", "bool": "bool_type bool_parsing",
    "int": f"int_type int_parsing int_from_float int_parsing_size finite_number {_LIMITS}",
    "float": f"float_type float_parsing finite_number {_LIMITS}",
    "list": "list_type too_long", "tuple": "tuple_type too_short too_long missing",
    "function-after": "value_error", "function-before": "value_error",
    "nullable": "", "default": "", "any": "", "definitions": "", "definition-ref": "", "model-field": "",
}  # fmt: skip
"""A type of pydantic's inner schema -> its errors, as far as our constraints and what YAML holds can raise them."""
SAID = {*WHAT_TO_DO, "missing", "extra_forbidden", "value_error"}


def models(root: Any) -> Iterator[Any]:
    """The models in an annotation, and in theirs."""
    if isinstance(root, type) and issubclass(root, BaseModel):
        yield root
        for field in root.model_fields.values():
            yield from models(field.annotation)
    for argument in get_args(root):
        yield from models(argument)


MODELS = list(dict.fromkeys(model for root in ROOTS for model in models(root)))


def faults(model: Any, data: Any) -> list[ErrorDetails]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def schema_types(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema["type"]
        for key, inner in schema.items():
            if key not in {"metadata", "serialization", "default", "expected", "function"}:
                yield from schema_types(inner)
    elif isinstance(schema, list | tuple):
        for inner in schema:
            yield from schema_types(inner)


@pytest.mark.parametrize("model", MODELS)
def test_no_wrong_value_is_told_in_pydantics_words(model: Any) -> None:
    tried = [*WRONG, *({name: value} for name in model.model_fields for value in WRONG)]
    for fault in (fault for data in tried for fault in faults(model, data)):
        told = str(worded(fault))
        assert fault["type"] in SAID or fault["type"] not in get_args(ErrorType), fault["type"]
        assert not any(word in told for word in ("nput", "valid ", "Value error", "unable", "None", "\n", "{", "Field"))
        assert len(told) < 300


def test_every_kind_of_schema_is_known_and_its_errors_are_worded() -> None:
    used = {kind for model in MODELS for kind in schema_types(model.__pydantic_core_schema__)}
    assert used <= RAISED_BY.keys()
    assert {error for kind in used for error in RAISED_BY[kind].split()} <= SAID


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ([1], "the file is a list of 1; write keys and values: seed, teacher, judge, student, documents, lint, "),
        (
            {"teacher": 3},
            "teacher is 3; write keys and values: model, base_url, api_key_env, concurrency, requests_per_minute, ",
        ),
        ({"teacher": None}, "teacher is empty; write keys and values: model, base_url"),
        (
            {"lint": {"licenses": 3}},
            "lint.licenses is 3; write a list: [a, b], or a line that begins with '- ' for each",
        ),
        ({"lint": {"licenses": [3]}}, "lint.licenses.0 is 3; write text in quotes"),
        ({"train": {"distributed": "zreo2"}}, "train.distributed is 'zreo2'; did you mean 'zero2'?"),
        (
            {"train": {"distributed": "x"}},
            "train.distributed is 'x'; write 'none', 'zero1', 'zero2', 'zero3' or 'fsdp'",
        ),
        ({"lint": {"attribution": "maybe"}}, "lint.attribution is 'maybe'; write true or false"),
        ({"seed": True}, "seed is true; write a whole number"),
        ({"seed": {}}, "seed holds keys and values; write a whole number"),
        ({"seed": 2**32}, "seed is 4294967296; write a number below 4294967296"),
        ({"gate": {"significance": 0}}, "gate.significance is 0; write a number of at least 0.001"),
        ({"teacher": {"timeout_s": float("inf")}}, "teacher.timeout_s is inf; write a number"),
        ({"teacher": {"timeout_s": 1e7}}, "teacher.timeout_s is 10000000.0; write a number of at most 1000000"),
        ({"teacher": {"base_url": "x"}}, "teacher.base_url: 'x' is no http address; write it like http://"),
        ({"teacher": {"base_url": "http://h:99999/v1"}}, "teacher.base_url: 'http://h:99999/v1' is no http address; "),
        ({"teacher": {"modle": "x"}}, "unknown key 'teacher.modle'; did you mean 'model'?"),
    ],
)
def test_what_is_wrong_and_what_to_do(data: Any, line: str) -> None:
    with pytest.raises(YamlProblems) as caught:
        YamlSource("tilth.yaml", data).validate(Config)
    assert str(caught.value).startswith(f"tilth.yaml:1:1: {line}")
