"""`attribution.txt`: whose words a leaf holds, where they come from, and under which licence.

Lines of `Field: value`, a block for each work, as InstructLab's contributions have them. What is free text there stays
free text here; only what is wanted and missing is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from ..core.yaml_syntax import LINE_BREAK

ATTRIBUTION_NAME = "attribution.txt"

_WANTED = ("title of work", "license of the work", "creator names")
"""Fields that want a value wherever they stand; a work of one's own has no link and no revision."""
_LICENCE = {"license of the work", "licence of the work", "license", "licence", "spdx-license-identifier"}
_FIELD = re.compile(r"[ \t]*([A-Za-z][A-Za-z \-]{0,60}?)[ \t]*:[ \t]*(.*)")


class AttributionFault(NamedTuple):
    """`kind`: `encoding`, `blank` (the file or a field), `no_licence`, or `licence` (`licence` is the value)."""

    kind: str
    line: int
    column: int
    message: str
    licence: str = ""


def attribution_faults(data: bytes) -> Iterator[AttributionFault]:
    """What is wrong in the file; every licence is reported, for `allowed` to judge."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield AttributionFault("encoding", data.count(b"\n", 0, error.start) + 1, 1, "not UTF-8 text; save it as UTF-8")
        return
    if not text.strip():
        yield AttributionFault("blank", 1, 1, "the file is empty; write title, licence and creator of the work")
        return
    licensed = False
    for number, line in enumerate(LINE_BREAK.split(text), start=1):
        if not (field := _FIELD.fullmatch(line)):
            continue
        name, value = field[1].lower(), field[2].rstrip(" \t")
        column = field.start(2) + 1
        if not value and name in _WANTED:
            yield AttributionFault("blank", number, column, f"{field[1]!r} has no value; write it after the colon")
        elif name in _LICENCE:
            what = (
                f"the licence {value!r} is not on the list; use one that is, or add it to lint.licenses in tilth.yaml"
            )
            yield AttributionFault("licence", number, column, what, value)
        licensed |= name in _LICENCE
    if not licensed:
        what = "no licence is named; add a line such as `License of the work: CC-BY-4.0`"
        yield AttributionFault("no_licence", 1, 1, what)


class Work(NamedTuple):
    """A work that a leaf takes from; empty is what its attribution does not tell."""

    title: str
    link: str
    licence: str
    creators: str


def read_works(data: bytes) -> list[Work]:
    """The works that the file names: a block each, begun by a blank line or by a field that its block has already."""
    blocks: list[dict[str, str]] = [{}]
    for line in data.decode("utf-8-sig", errors="replace").splitlines():
        field = _FIELD.fullmatch(line)
        name = _NAMES.get(field[1].lower()) if field else None
        if name in blocks[-1] or not line.strip():
            blocks.append({})
        if field and name and (value := field[2].rstrip(" \t")) not in _NOTHING:
            blocks[-1][name] = value
    return [Work(**dict.fromkeys(Work._fields, "") | block) for block in blocks if block]


_NAMES = {
    "title of work": "title", "link to work": "link", "source": "link", "creator names": "creators",
    **dict.fromkeys(_LICENCE, "licence"),
}  # fmt: skip
_NOTHING = {"", "-", "N/A", "n/a"}


def allowed(licence: str, licenses: Collection[str]) -> bool:
    """Whether a licence is one of `licenses`, whatever its case and spacing; of `A OR B` one is enough."""
    known = {_spelling(name) for name in licenses}
    return any(_spelling(choice) in known for choice in re.split(r"\s+or\s+", licence, flags=re.IGNORECASE))


def _spelling(licence: str) -> str:
    return re.sub(r"[\s_-]+", "-", licence.strip().lower())
