"""YAML that knows where each value stands, so that every error can say `file:line:column`.

Safe by construction: only plain scalars, lists and mappings; no tags, no code; duplicate keys are errors.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from yaml.constructor import SafeConstructor
from yaml.reader import ReaderError

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
    """`syntax`, `size`, `tag`, `text`, `key`, `duplicate_key`, or pydantic's error type for what a schema refused."""

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
        raise YamlProblems(name, [_syntax_problem(error, text)]) from error
    except RecursionError as error:
        raise YamlProblems(name, [Problem(1, 1, "nested too deeply; split the file", (), "size")]) from error
    places: dict[Path_, tuple[int, int]] = {}
    problems: list[Problem] = []
    data = _construct(root, (), places, problems) if root is not None else None
    if problems:
        raise YamlProblems(name, problems)
    return YamlSource(name, data, places)


def load_yaml(path: Path, model: type[Model], *, name: str | None = None) -> Model:
    """Read the file at `path` as `model`. Raises ConfigError when it is not there, YamlProblems when it is wrong."""
    return read_yaml(path, name=name).validate(model)


def read_yaml(path: Path, *, name: str | None = None) -> YamlSource:
    """Parse the file at `path`; `name` is what errors call it. Raises as `load_yaml`."""
    where = name or str(path)
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), where)
    except FileNotFoundError as error:
        raise ConfigError("the file does not exist", where=where) from error
    except OSError as error:
        raise ConfigError(f"the file cannot be read ({error.strerror})", where=where) from error
    except UnicodeDecodeError as error:
        raise ConfigError("the file is not UTF-8 text", where=where, fix="save it as UTF-8") from error


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
    if isinstance(node, yaml.ScalarNode):
        return _construct_scalar(node, path, problems)
    if node.tag not in {_TAG + "map", _TAG + "seq"}:
        problems.append(_tag_problem(node, path))
        return None
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(node, path, places, problems)
    return [_construct(child, (*path, index), places, problems) for index, child in enumerate(node.value)]


def _construct_mapping(
    node: yaml.MappingNode, path: Path_, places: dict[Path_, tuple[int, int]], problems: list[Problem]
) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
        refused = len(problems)
        key = _construct_scalar(key_node, path, problems) if isinstance(key_node, yaml.ScalarNode) else None
        if len(problems) > refused:
            continue
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


def _construct_scalar(node: yaml.ScalarNode, path: Path_, problems: list[Problem]) -> Any:
    """A scalar as YAML 1.1 reads it; dates stay text, for a question may well be answered by one."""
    if node.tag in _READ_AS_TEXT:
        return _construct_text(node, path, problems)
    if node.tag not in _READ_AS_VALUE:
        problems.append(_tag_problem(node, path))
        return None
    try:
        return SafeConstructor().construct_object(node)
    except (
        ValueError,
        LookupError,
        ArithmeticError,
    ):  # PyYAML lets its own conversions fail: `!!bool maybe`, 1:1:…:1.5
        mark, kind = node.start_mark, node.tag.removeprefix(_TAG)
        message = f"{node.value[:40]!r} cannot be read as {kind}; quote it"
        problems.append(Problem(mark.line + 1, mark.column + 1, message, path, "tag"))
        return None


def _construct_text(node: yaml.ScalarNode, path: Path_, problems: list[Problem]) -> str | None:
    text: str = node.value
    try:
        text.encode()
    except UnicodeEncodeError as error:  # "\ud800" in double quotes: no file and no model can take half a character
        mark, message = node.start_mark, f"{text[error.start]!r} is half a character; write the character itself"
        problems.append(Problem(mark.line + 1, mark.column + 1, message, path, "text"))
        return None
    return text


_TAG = "tag:yaml.org,2002:"
_READ_AS_TEXT = {_TAG + name for name in ("str", "timestamp", "value", "merge")}
_READ_AS_VALUE = {_TAG + name for name in ("int", "float", "bool", "null")}


def _tag_problem(node: yaml.Node, path: Path_) -> Problem:
    mark, tag = node.start_mark, node.tag.replace(_TAG, "!!")
    message = f"the tag {tag!r} is not allowed; use plain text, lists and mappings"
    return Problem(mark.line + 1, mark.column + 1, message, path, "tag")


def _syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    if isinstance(error, ReaderError):  # a character that YAML forbids; this error alone brings no mark
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1
        return Problem(line, column, f"not valid YAML: the character {text[error.position]!r}", (), "syntax")
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error).splitlines()[0]
    if reason.startswith("but "):
        reason = f"{getattr(error, 'context', '')}, {reason}"
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return Problem(line, column, f"not valid YAML: {reason}", (), "syntax")


def _message(model: type[BaseModel], key: Path_, kind: str, text: str) -> str:
    name = ".".join(str(part) for part in key)
    if kind == "extra_forbidden":
        known = _known_keys(model, key[:-1])
        return f"unknown key {name!r}; {nearest(str(key[-1]), known) if known else 'remove it'}"
    if kind == "missing":
        return f"the key {name!r} is missing; add it"
    return f"{name}: {text[:1].lower() + text[1:]}" if name else text


def _known_keys(model: type[BaseModel], path: Path_) -> list[str]:
    """The keys allowed at `path` of a model, through optional fields, lists and mappings of models."""
    current: Any = model
    for part in path:
        current = _annotation_at(current, part)
    holder = _inner_model(current)
    return [field.alias or name for name, field in holder.model_fields.items()] if holder else []


def _annotation_at(annotation: Any, part: str | int) -> Any:
    """The annotation of what stands at `part`, a key or an index, of a value of `annotation`; None if unknown."""
    if _is_model(annotation):
        fields = annotation.model_fields.items()
        return next((field.annotation for name, field in fields if part in {name, field.alias}), None)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(origin, type) and issubclass(origin, Collection):
        return arguments[-1] if issubclass(origin, Mapping) else arguments[0]
    inner = (_annotation_at(argument, part) for argument in arguments)
    return next((found for found in inner if found is not None), None)


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
