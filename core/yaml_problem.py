"""What is wrong in a YAML file, and where."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import TilthError

Path_ = tuple[str | int, ...]
"""The keys and indices that lead to a value."""

MAX_PROBLEMS = 100
"""More is not told of one file: who pasted a book into a leaf needs no message for each of its lines."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a YAML file. `line` and `column` count from 1."""

    line: int
    column: int
    message: str
    key: Path_ = ()
    kind: str = "schema"
    """`syntax`, `encoding`, `size`, `tag`, `text`, `key`, `duplicate_key`, or the error type of a schema."""

    def where(self, name: str) -> str:
        """`file:line:column`."""
        return f"{name}:{self.line}:{self.column}"


class YamlProblems(TilthError):
    """A YAML file that cannot be used; `problems` holds the first `MAX_PROBLEMS` of them, the text tells the first."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.name, self.problems = name, problems[:MAX_PROBLEMS]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(problems[0].message + more, where=problems[0].where(name))


def shortened(text: str) -> str:
    """The beginning of a text, short enough for a message."""
    return text if len(text) <= 40 else f"{text[:39]}…"
