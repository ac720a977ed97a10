"""Records as JSON lines: one record a line, files written whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from .atomic import write_text
from .errors import DataError
from .wording import first_fault

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
        fix = "restore it, or remove its folder and run the same command again"
        raise DataError("the file is missing", where=str(path), fix=fix) from error


def _parse(line: bytes, kind: type[Record], where: str) -> Record:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        fix = "the file was changed or cut: restore it, or remove its folder and run the same command again"
        raise DataError(f"not a {kind.__name__}: {first_fault(error)}", where=where, fix=fix) from error
