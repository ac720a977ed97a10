"""YAML that knows where each value stands, so that every error can say `file:line:column`.

Safe by construction: only plain scalars, lists and mappings; no tags, no code; duplicate keys are errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from .errors import ConfigError, TilthError, nearest

Path_ = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

_MAX_DEPTH = 64
_MAX_NODES = 200_000
"""Aliases can make a few lines expand without end; no honest file comes near these two."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a YAML file. `line` and `column` count from 1."""

    line: int
    column: int
    message: str
    key: Path_ = ()
    kind: str = "schema"
    """`syntax`, `duplicate_key`, or pydantic's error type for what a schema refused."""

    def where(self, name: str) -> str:
        """`file:line:column`."""
        return f"{name}:{self.line}:{self.column}"


class YamlProblems(TilthError):
    """A YAML file that cannot be used; `problems` holds all of them, the text tells the first."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.name, self.problems = name, problems
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(problems[0].message + more, where=problems[0].where(name))


@dataclass(frozen=True)
class YamlSource:
    """A parsed YAML text: its plain data, and the place of every value by its path of keys and indices."""

    name: str
    data: Any
    places: dict[Path_, tuple[int, int]]
    """Path -> (line, column), from 1: of the key for a value in a mapping (its value's start is at path + ('',))."""

    def place(self, path: Path_) -> tuple[int, int]:
        """The place of the value at `path`, or of the nearest parent that is there."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))

    def validate(self, model: type[Model]) -> Model:
        """The data as `model`. Raises YamlProblems with every error placed, the nearest name given for unknown keys."""
        try:
            return model.model_validate({} if self.data is None else self.data)
        except ValidationError as error:
            raise YamlProblems(self.name, self._problems(model, error)) from error

    def _problems(self, model: type[BaseModel], error: ValidationError) -> list[Problem]:
        problems: list[Problem] = []
        for item in error.errors():
            key = tuple(item["loc"])
            line, column = self.place(key)
            problems.append(Problem(line, column, _message(model, key, item["type"], item["msg"]), key, item["type"]))
        return sorted(problems, key=lambda problem: (problem.line, problem.column))


def parse_yaml(text: str, name: str) -> YamlSource:
    """Parse one YAML document. `name` is the path that errors show. Raises YamlProblems."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise YamlProblems(name, [_syntax_problem(error)]) from error
    places: dict[Path_, tuple[int, int]] = {}
    problems: list[Problem] = []
    data = _construct(root, (), places, problems) if root is not None else None
    if problems:
        raise YamlProblems(name, problems)
    return YamlSource(name, data, places)


def load_yaml(path: Path, model: type[Model], *, name: str | None = None) -> Model:
    """Read the file at `path` as `model`. Raises ConfigError when it is not there, YamlProblems when it is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError("the file does not exist", where=name or str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError("the file is not UTF-8 text", where=name or str(path), fix="save it as UTF-8") from error
    return parse_yaml(text, name or str(path)).validate(model)


def _construct(node: yaml.Node, path: Path_, places: dict[Path_, tuple[int, int]], problems: list[Problem]) -> Any:
    mark = node.start_mark
    places.setdefault(path, (mark.line + 1, mark.column + 1))
    if len(path) > _MAX_DEPTH or len(places) > _MAX_NODES:
        if not any(problem.kind == "size" for problem in problems):
            limits = f"{_MAX_DEPTH} levels or {_MAX_NODES} values"
            problems.append(
                Problem(mark.line + 1, mark.column + 1, f"more than {limits}; split the file", path, "size")
            )
        return None
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(node, path, places, problems)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(child, (*path, index), places, problems) for index, child in enumerate(node.value)]
    return _construct_scalar(node, path, problems)


def _construct_mapping(
    node: yaml.MappingNode, path: Path_, places: dict[Path_, tuple[int, int]], problems: list[Problem]
) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
        key = _construct_scalar(key_node, path, problems) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            problems.append(Problem(line, column, f"a key must be text, not {key!r}; quote it", path, "key"))
            continue
        if key in mapping:
            problems.append(
                Problem(line, column, f"the key {key!r} stands twice; remove one", (*path, key), "duplicate_key")
            )
            continue
        places[(*path, key)] = (line, column)
        value_mark = value_node.start_mark
        places[(*path, key, "")] = (value_mark.line + 1, value_mark.column + 1)
        mapping[key] = _construct(value_node, (*path, key), places, problems)
    return mapping


def _construct_scalar(node: yaml.Node, path: Path_, problems: list[Problem]) -> Any:
    """A scalar as YAML 1.1 reads it; dates stay text, for a question may well be answered by one."""
    if node.tag == "tag:yaml.org,2002:timestamp":
        return node.value
    try:
        return _SCALARS.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        mark = node.start_mark
        reason = getattr(error, "problem", None) or str(error)
        problems.append(
            Problem(mark.line + 1, mark.column + 1, f"{reason}; use plain text, lists and mappings", path, "tag")
        )
        return None


_SCALARS = yaml.SafeLoader("")


def _syntax_problem(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error).splitlines()[0]
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return Problem(line, column, f"not valid YAML: {reason}", (), "syntax")


def _message(model: type[BaseModel], key: Path_, kind: str, text: str) -> str:
    name = ".".join(str(part) for part in key)
    if kind == "extra_forbidden":
        return f"unknown key {name!r}; {nearest(str(key[-1]), _known_keys(model, key[:-1]))}"
    if kind == "missing":
        return f"the key {name!r} is missing; add it"
    return f"{name}: {text[:1].lower() + text[1:]}" if name else text


def _known_keys(model: type[BaseModel], path: Path_) -> list[str]:
    """The keys allowed at `path` of a model, through optional fields and lists of models."""
    current: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) if _is_model(current) else None
        current = _inner_model(field.annotation) if field else None
    if not _is_model(current):
        return []
    return [field.alias or name for name, field in current.model_fields.items()]


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _inner_model(annotation: Any) -> Any:
    """The first model inside an annotation such as `Model | None` or `tuple[Model, ...]`."""
    if _is_model(annotation):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _inner_model(argument)) is not None:
            return found
    return None
