"""The answers that some samples rest on as a file to give away: JSON lines, gzipped where the name ends in `.gz`.

The first line is a header: what the file is, how many answers follow, and what was made of them. Each of the others is
one entry of the ledger, by key; `request` and `response` are texts as the ledger has them, so that
`sha256(request) == key` can be checked with any tool. Only the folder is left out where a server tells in which its
model lies: it names the user.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated, Any, cast

from pydantic import Field, ValidationError

from .. import __version__
from ..core.atomic import new_file
from ..core.errors import DataError, TilthError
from ..core.fingerprint import text_sha256
from ..core.records import Record
from ..core.wording import first_fault
from .completion import read_completion
from .ledger import Entry, Ledger, Merged

_VERSION = 1
_LONGEST_LINE = 1 << 26
"""Bytes; what is longer is no answer of a model, and would fill the memory."""

_ABOUT = (
    "Answers of language models to the requests of `tilth generate`, each under the SHA-256 of its request. In a "
    "workspace with the same taxonomy `tilth ledger import FILE` adds them and says what differs from `made`; then "
    "`tilth generate` makes the same samples without a request. A request holds the model's name, the messages "
    "(prompts of the recipe, text of the leaf), the sampling settings and a number from the seed: where one of these "
    "differs, its answer is not found, and `tilth generate` asks the model."
)


class Header(Record):
    """The first line."""

    tilth_ledger: int
    """Version of the format."""
    tilth: str
    """Version of the program that wrote it."""
    about: str
    answers: int
    made: tuple[dict[str, Any], ...]
    """What was made of the answers, one object for each leaf."""


Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Line(Record):
    """An entry as it stands in the file."""

    key: str
    leaf: str
    step: str
    model: str
    request: str
    response: str
    prompt_tokens: Count
    completion_tokens: Count
    created_at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$")]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


def write_ledger_file(path: Path, ledger: Ledger, keys: Sequence[str], made: Sequence[dict[str, Any]]) -> None:
    """Write the ledger's entries of `keys`, which it all has, sorted; equal entries give equal bytes.

    What is at `path` is replaced if it is such a file. Raises TilthError when it is something else, DataError, OSError.
    """
    _refuse_other(path)
    header = Header(tilth_ledger=_VERSION, tilth=__version__, about=_ABOUT, answers=len(keys), made=tuple(made))
    with new_file(path) as raw, _packed(path, raw) as file:
        file.write(_line(header.model_dump(mode="json")))
        for key in sorted(keys):
            if entry := ledger.get(key):
                file.write(_line(asdict(entry) | {"response": _without_folder(entry.response)}))


def merge_ledger_file(path: Path, ledger: Ledger) -> tuple[Merged, Header]:
    """Add the file's entries to the ledger, all or, when the file is not whole, none; returns its header too.

    Nothing is replaced. Raises DataError, with the line, for what is cut, was changed, or is no such file.
    """
    with contextlib.closing(_lines(path)) as lines:
        header = _header(path, next(lines, b""))
        return ledger.merge(_entries(path, lines, header.answers)), header


_PLACE = re.compile(r"(?:~\w*|[A-Za-z]:)?[/\\](?:.*[/\\])?(?P<name>[^/\\]+)")
"""A file by its place on a machine, which a model's name on a hub ("org/model") is not."""


def _without_folder(body: str) -> str:
    """The body with its model's file by name alone (llama.cpp's server tells its path)."""
    try:
        told = json.loads(body)
    except ValueError:  # damaged: who imports it is told
        return body
    place = _PLACE.fullmatch(model) if isinstance(model := told.get("model"), str) else None
    return json.dumps(told | {"model": place["name"]}) if place else body


def _line(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()


@contextlib.contextmanager
def _packed(path: Path, raw: IO[bytes]) -> Generator[IO[bytes]]:
    """`raw`, gzipped if the name says so; without the name and the time, which would differ every time."""
    if path.suffix != ".gz":
        yield raw
        return
    with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        yield cast("IO[bytes]", file)


def _lines(path: Path) -> Generator[bytes]:
    """The file's lines. Raises DataError when it is missing or its packing is broken."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                yield line
    except FileNotFoundError as error:
        raise DataError("the file is missing", where=str(path), fix="check its name") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _not_whole(path, f"cannot be unpacked ({error})") from error


def _header(path: Path, line: bytes) -> Header:
    """Raises DataError when the first line is no header, or one of a later format."""
    try:
        header = Header.model_validate_json(line)
    except ValidationError as error:
        what = "not a file that `tilth ledger export` wrote: its first line is no header"
        raise DataError(what, where=f"{path}:1", fix="check its name") from error
    if header.tilth_ledger != _VERSION:
        what = f"the file has version {header.tilth_ledger}, this tilth reads version {_VERSION}"
        raise DataError(what, where=f"{path}:1", fix="use the tilth that wrote it")
    return header


def _entries(path: Path, lines: Iterator[bytes], expected: int) -> Iterator[Entry]:
    number = 0
    for number, line in enumerate(lines, start=1):
        yield _entry(line, f"{path}:{number + 1}")
    if number != expected:
        raise _not_whole(path, f"has {number:,} answers, its header says {expected:,}")


def _entry(line: bytes, where: str) -> Entry:
    fix = "nothing was imported; get the file anew"
    try:
        entry = Entry(**_Line.model_validate_json(line, strict=True).model_dump())
    except ValidationError as error:
        raise DataError(f"not an answer: {first_fault(error)}", where=where, fix=fix) from error
    if text_sha256(entry.request) != entry.key:
        raise DataError("the key is not the hash of the request: the line was changed", where=where, fix=fix)
    try:
        read_completion(entry.response)
    except ValueError as error:
        raise DataError("the response is none of a chat model: the line was changed", where=where, fix=fix) from error
    return entry


def _not_whole(path: Path, what: str) -> DataError:
    return DataError(f"the file {what}", where=str(path), fix="nothing was imported; get the file anew")


def _refuse_other(path: Path) -> None:
    """Raise TilthError when something else than such a file is there."""
    if not path.exists():
        return
    try:
        with contextlib.closing(_lines(path)) as lines:
            _header(path, next(lines, b""))
    except (DataError, OSError) as error:
        what = "there is something here already that is no export of a ledger"
        raise TilthError(what, where=str(path), fix="name a new file, or move it away") from error
