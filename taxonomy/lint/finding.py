"""What linting finds: a fault inside one file, and the finding that it becomes once the file's path is known."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ...core.records import Record


class Fault(NamedTuple):
    """One fault in a file. `line` and `column` count from 1."""

    code: str
    line: int
    column: int
    message: str
    fixable: bool = False

    def at(self, path: str) -> Finding:
        """The finding that this is in the file `path`."""
        return Finding(
            code=self.code,
            severity="error" if self.code.startswith("E") else "warning",
            path=path,
            line=self.line,
            column=self.column,
            message=" ".join(self.message.split()),
            fixable=self.fixable,
        )


class Finding(Record):
    """One fault with its place; the text of it is one line that any editor can follow."""

    code: str
    severity: Literal["error", "warning"]
    path: str
    """From the taxonomy's root, with `/`."""
    line: int
    column: int
    message: str
    fixable: bool = False
    """Whether `tilth lint --fix` mends it."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.code} {self.message}"
