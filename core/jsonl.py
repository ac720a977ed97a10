"""Records as JSON lines: one record a line, files written whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from .atomic import write_text
from .errors import DataError

Record = TypeVar("Record", bound=BaseModel)


def write_records(path: Path, records: Iterable[BaseModel]) -> int:
    """Write records to `path` atomically and return how many there were."""
    lines = [record.model_dump_json() for record in records]
    write_text(path, "".join(line + "\n" for line in lines))
    return len(lines)


def read_records(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Yield the records of a file. Raises DataError naming the line when one does not fit `kind`."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield _parse(line, kind, f"{path}:{number}")
    except FileNotFoundError as error:
        raise DataError("the file is missing", where=str(path)) from error


def _parse(line: bytes, kind: type[Record], where: str) -> Record:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f"{part}: " for part in first["loc"])
        raise DataError(f"not a {kind.__name__}: {field}{first['msg']}", where=where) from error
