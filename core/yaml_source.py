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
from pydantic_core import ErrorDetails

from .errors import ConfigError, nearest
from .wording import worded
from .yaml_data import MAX_CHARACTERS, compose, construct, too_long
from .yaml_problem import MAX_PROBLEMS, Path_, Problem, YamlProblems

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class YamlSource:
    """A parsed YAML text: its plain data, and the nodes that know where each value stands."""

    name: str
    data: Any
    root: yaml.Node | None = None

    def place(self, path: Path_) -> tuple[int, int]:
        """Line and column, from 1, of what is at `path` (in a mapping: of its key), or of the nearest parent."""
        return _place(self._node(path)[0])

    def written(self, path: Path_) -> str:
        """The scalar at `path` as it is written, less its quotes: `yes` where the data says True. Else empty."""
        node = self._node(path)[1]
        return node.value if isinstance(node, yaml.ScalarNode) else ""

    def start(self, path: Path_) -> int:
        """Where in the text the value at `path` begins, in characters from 0."""
        node = self._node(path)[1]
        return node.start_mark.index if node else 0

    def validate(self, model: type[Model]) -> Model:
        """The data as `model`. Raises YamlProblems with every error placed, the nearest name given for unknown keys."""
        try:
            return model.model_validate({} if self.data is None else self.data)
        except ValidationError as error:
            raise YamlProblems(self.name, self._problems(model, error)) from error

    def _problems(self, model: type[BaseModel], error: ValidationError) -> list[Problem]:
        problems: list[Problem] = []
        for item in error.errors(include_url=False)[:MAX_PROBLEMS]:
            key = item["loc"]
            problems.append(Problem(*self.place(key), _message(model, item), key, item["type"]))
        return sorted(problems, key=lambda problem: (problem.line, problem.column))

    def _node(self, path: Path_) -> tuple[yaml.Node | None, yaml.Node | None]:
        """The node that stands for `path`, a key or an item, and the node of its value; of the last parent there is."""
        key = value = self.root
        for part in path:
            key, child = _child(value, part) or (key, None)
            if child is None:
                break
            value = child
        return key, value


def parse_yaml(text: str | bytes, name: str) -> YamlSource:
    """Parse one YAML document; bytes are UTF-8. `name` is the path that errors show. Raises YamlProblems."""
    root = compose(text if isinstance(text, str) else _decoded(text, name), name)
    return YamlSource(name, None if root is None else construct(root, name), root)


def load_yaml(path: Path, model: type[Model], *, name: str | None = None) -> Model:
    """Read the file at `path` as `model`. Raises ConfigError when it is not there, YamlProblems when it is wrong."""
    return read_yaml(path, name=name).validate(model)


def read_yaml(path: Path, *, name: str | None = None) -> YamlSource:
    """Parse the file at `path`; `name` is what errors call it. Raises as `load_yaml`."""
    where = name or str(path)
    try:
        return parse_yaml(path.read_bytes(), where)
    except FileNotFoundError as error:
        raise ConfigError("the file does not exist", where=where, fix="make it, or name another") from error
    except OSError as error:
        what = f"the file cannot be read ({(error.strerror or str(error)).lower()})"
        raise ConfigError(what, where=where, fix="check what it is, and who may read it") from error


def _decoded(data: bytes, name: str) -> str:
    if len(data) > 4 * MAX_CHARACTERS:
        raise YamlProblems(name, [too_long()])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem(line, 1, "not UTF-8 text; save the file as UTF-8", (), "encoding")
        raise YamlProblems(name, [problem]) from error


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """The node that stands for `part` and the node of its value; in a list the two are one."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _place(node: yaml.Node | None) -> tuple[int, int]:
    return (node.start_mark.line + 1, node.start_mark.column + 1) if node else (1, 1)


def _message(model: type[BaseModel], item: ErrorDetails) -> str:
    wording, key = worded(item), item["loc"]
    if item["type"] == "extra_forbidden" and (known := _known_keys(model, key[:-1])):
        wording = wording._replace(fix=nearest(str(key[-1]), known))
    elif item["type"] == "model_type":
        wording = wording._replace(fix=f"{wording.fix}: {', '.join(_known_keys(model, key))}")
    return str(wording)


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
