"""From YAML text to plain data: texts, numbers, truth values, lists and mappings, and nothing else.

libyaml, through PyYAML, makes the nodes; this module reads them. A file that nests or expands without end is stopped.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode

from .text_faults import text_fault
from .yaml_problem import Path_, Problem, YamlProblems, shortened
from .yaml_syntax import OTHER_BREAKS, line_starts, place_at, syntax_problem

MAX_CHARACTERS = 500_000
_MAX_DEPTH = 64
_MAX_NODES = 50_000
"""No file holds more, its aliases expanded. The largest public leaf: 38,000 characters, 6 levels, 120 nodes."""

_MAX_DIGITS = 100
_TAG_LINE = re.compile("(?:^|[\n\r\x85\u2028\u2029])\ufeff?%TAG\\b")


def compose(text: str, name: str) -> Node | None:
    """The nodes of one YAML document, with their places; None where it is empty. Raises YamlProblems."""
    if len(text) > MAX_CHARACTERS:
        raise YamlProblems(name, [too_long()])
    if "%TAG" in text and (tag := _TAG_LINE.search(text)):  # libyaml compares each with all others
        line = text.count("\n", 0, tag.end()) + 1
        raise YamlProblems(name, [Problem(line, 1, "%TAG is not allowed; remove the line", (), "tag")])
    try:
        root = yaml.compose(text, Loader=_Loader)
    except _EndlessError as error:
        raise YamlProblems(name, [error.problem]) from error
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise YamlProblems(name, [syntax_problem(error, text)]) from error
    if root and OTHER_BREAKS.search(text):
        _count_lines_anew(root, text)
    return root


def construct(root: Node, name: str) -> Any:
    """The data of a document. Raises YamlProblems with all that is wrong in it.

    Dates stay text, for a question may well be answered by one.
    """
    reader = _Reader()
    try:
        data = reader.read(root, ())
    except _EndlessError as error:
        raise YamlProblems(name, [error.problem]) from error
    if reader.problems:
        raise YamlProblems(name, reader.problems)
    return data


def too_long() -> Problem:
    """What is said of a file that nobody wants to read."""
    return Problem(1, 1, f"more than {MAX_CHARACTERS} characters; split the file", (), "size")


def _count_lines_anew(root: Node, text: str) -> None:
    """Let all nodes stand where an editor shows them: YAML 1.1 takes signs for line breaks that no editor does."""
    found, seen, starts = [root], set[int](), line_starts(text)
    while found:
        node = found.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        index = node.start_mark.index
        line, column = place_at(starts, index)
        node.start_mark = yaml.Mark(node.start_mark.name, index, line - 1, column - 1, None, 0)
        if isinstance(node, MappingNode):
            found.extend(part for pair in node.value for part in pair)
        elif not isinstance(node, ScalarNode):
            found.extend(node.value)


class _Loader(yaml.CSafeLoader):
    """Stops at the limits.

    PyYAML nests calls in C for what stands inside something: at some 50,000 levels it would crash the process.
    """

    depth = num_nodes = 0

    def descend_resolver(self, current_node: Node | None, current_index: Any) -> None:
        """Called before each node with the one that holds it."""
        self.depth += 1
        self.num_nodes += 1
        if current_node and (self.depth > _MAX_DEPTH + 1 or self.num_nodes > _MAX_NODES):
            raise _EndlessError(current_node, ())

    def ascend_resolver(self) -> None:
        """Called after each node."""
        self.depth -= 1


class _EndlessError(Exception):
    """A file nests or expands beyond the limits, at `node`."""

    def __init__(self, node: Node, path: Path_) -> None:
        limits = f"{_MAX_DEPTH} levels, {_MAX_NODES} keys and values or {MAX_CHARACTERS} characters"
        self.problem = _problem(node, path, "size", f"more than {limits}, aliases expanded; split the file")
        super().__init__()


class _Reader:
    """Reads nodes, and collects what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._num_nodes = self._num_characters = 0

    def read(self, node: Node, path: Path_) -> Any:
        """The data of one node; None, and a problem, where there is none."""
        self._num_nodes += 1
        if len(path) > _MAX_DEPTH or self._num_nodes > _MAX_NODES or self._num_characters > MAX_CHARACTERS:
            raise _EndlessError(node, path)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if node.tag not in {_TAG + "map", _TAG + "seq"}:
            return self._refuse(node, path, "tag", _not_allowed(node.tag))
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        return [self.read(child, (*path, index)) for index, child in enumerate(node.value)]

    def _mapping(self, node: MappingNode, path: Path_) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        self._num_nodes += len(node.value)
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key in mapping:
                what = f"the key {shortened(key)!r} stands twice; remove one"
                self._refuse(key_node, (*path, key), "duplicate_key", what)
            elif key is not None:
                mapping[key] = self.read(value_node, (*path, key))
        return mapping

    def _key(self, node: Node, path: Path_) -> str | None:
        if node.tag == _TAG + "merge":
            return self._refuse(node, path, "key", "merge keys (<<) are not read; write the keys themselves here")
        if isinstance(node, ScalarNode) and node.tag not in _READ_AS_VALUE:
            return self._scalar(node, path)
        return self._refuse(node, path, "key", "a key must be a text; put it in quotes")

    def _scalar(self, node: ScalarNode, path: Path_) -> Any:
        """A scalar as YAML 1.1 reads it."""
        value = node.value
        self._num_characters += len(value)
        if node.tag in _READ_AS_TEXT:
            # Only an escape in double quotes can write a control character, and marks are not ASCII.
            fault = text_fault(value) if node.style == '"' or not value.isascii() else None
            return self._refuse(node, path, "text", fault) if fault else value
        if node.tag not in _READ_AS_VALUE:
            return self._refuse(node, path, "tag", _not_allowed(node.tag))
        try:
            if len(node.value) <= _MAX_DIGITS:  # PyYAML takes minutes for some long ones: 1:1:1:…
                return SafeConstructor().construct_object(node)
        except (ValueError, LookupError, ArithmeticError):  # it lets its own conversions fail: `!!bool maybe`
            pass
        what = f"{shortened(node.value)!r} cannot be read as {node.tag.removeprefix(_TAG)}; quote it"
        return self._refuse(node, path, "tag", what)

    def _refuse(self, node: Node, path: Path_, kind: str, message: str) -> None:
        self.problems.append(_problem(node, path, kind, message))


_TAG = "tag:yaml.org,2002:"
_READ_AS_TEXT = {_TAG + name for name in ("str", "timestamp", "value", "merge")}
_READ_AS_VALUE = {_TAG + name for name in ("int", "float", "bool", "null")}


def _problem(node: Node, path: Path_, kind: str, message: str) -> Problem:
    return Problem(node.start_mark.line + 1, node.start_mark.column + 1, message, path, kind)


def _not_allowed(tag: str) -> str:
    return f"the tag {shortened(tag.replace(_TAG, '!!'))!r} is not allowed; use plain text, lists and mappings"
