"""What is only form: found in a text line by line, and mended so that the file says the same as before."""

from __future__ import annotations

import re
from bisect import bisect_left
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from ...core.yaml_source import Path_, Problem, YamlProblems, parse_yaml
from ..qna import LeafProblems, parse_qna
from .finding import Fault

_LINE_END = re.compile(r"\r\n|\r|\n")


class Misread(NamedTuple):
    """A plain value that YAML does not read as the text that was meant: `raw`, at `start` in the file's text."""

    key: Path_
    start: int
    raw: str


def form_faults(data: bytes) -> list[Fault]:
    """Faults of white space and line ends, in the order of the lines."""
    faults: list[Fault] = []
    if data.startswith(BOM_UTF8):
        faults.append(Fault("W207", 1, 1, "the file begins with a byte order mark; save it without"))
    if b" \n" not in data and b"\t" not in data and b"\r" not in data and data[-1:] == b"\n":
        return faults
    text = data.decode("utf-8-sig", errors="replace")
    lines = _LINE_END.split(text)
    for number, line in enumerate(lines, start=1):
        if (kept := len(line.rstrip(" \t"))) < len(line):
            faults.append(Fault("W202", number, kept + 1, "spaces at the end of the line; remove them"))
    if "\r" in text:
        number = text.count("\n", 0, text.index("\r")) + 1
        what = "this line ends as on Windows or on an old Macintosh; let lines end with LF alone"
        faults.append(Fault("W206", number, len(lines[number - 1]) + 1, what))
    if lines[-1]:
        faults.append(Fault("W205", len(lines), len(lines[-1]) + 1, "the last line does not end; add a line end"))
    return sorted(faults, key=lambda fault: (fault.line, fault.column))


def misread_values(text: str, problems: list[Problem]) -> list[Misread]:
    """Those of `problems` where a plain scalar should have been text. `text` is valid YAML."""
    source = parse_yaml(text, "")
    found: list[Misread] = []
    for key in (problem.key for problem in problems if problem.kind == "not_text"):
        start, raw = source.start(key), source.written(key)
        plain = text.startswith(raw, start)  # not so behind a tag or an anchor
        if plain and isinstance(_at(source.data, key), bool | int | float):
            found.append(Misread(key, start, raw))
    return found


def mended(data: bytes, section: str) -> bytes:
    """The bytes of a `qna.yaml` with its form mended: line ends, spaces, final newline, tabs, quotes around texts.

    What the file says stays the same, but for the space around a text and for values that were meant as text; a step
    that would change more is left out. A file that cannot be read, tabs aside, is returned as it is.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data
    if (said := _said(text)) is None:
        text = re.sub(r"^\t+", lambda tabs: "  " * len(tabs[0]), text, flags=re.MULTILINE)
        if _problems(text, section) is None:  # a guess that gives a leaf without any error is no guess
            said = _said(text)
    if said is None:
        return data
    for step in (_with_line_ends, _without_spaces, _with_last_line_end):
        if _said(candidate := step(text)) == said:
            text = candidate
    quoted = list(misread_values(text, _problems(text, section) or []))
    for value in quoted:
        _put(said, value.key, value.raw)
    candidate = _with_quotes(text, quoted)
    return (candidate if _said(candidate) == said else text).encode()


def _problems(text: str, section: str) -> list[Problem] | None:
    """What is wrong in the file besides its form; None: nothing."""
    try:
        parse_qna(text.encode(), f"{section}/")
    except LeafProblems as error:
        return error.problems
    return None


def _said(text: str) -> Any:
    """What the file says, texts without the space around them (tilth never reads it); None: it cannot be read."""
    try:
        return _stripped(parse_yaml(text, "").data)
    except YamlProblems:
        return None


def _stripped(value: Any) -> Any:
    match value:
        case str():
            return value.strip()
        case list():
            return [_stripped(item) for item in value]
        case dict():
            return {key: _stripped(item) for key, item in value.items()}
        case _:
            return value


def _with_line_ends(text: str) -> str:
    return _LINE_END.sub("\n", text)


def _with_last_line_end(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _without_spaces(text: str) -> str:
    """Lines without spaces at their ends, but for those inside of a block scalar, where they are part of the text."""
    lines = text.split("\n")
    kept = {number for block in _blocks(text) for number in _kept_in(lines, block)}
    return "\n".join(line if number in kept else line.rstrip(" \t") for number, line in enumerate(lines))


def _blocks(text: str) -> Iterator[range]:
    """The lines of each block scalar, counted from 0; libyaml's own count takes other signs for line ends as well."""
    ends = [at for at, sign in enumerate(text) if sign == "\n"]
    for token in yaml.scan(text, Loader=yaml.CSafeLoader):
        if isinstance(token, yaml.ScalarToken) and token.style in {"|", ">"}:
            start, end = token.start_mark.index, token.end_mark.index
            yield range(bisect_left(ends, start) + 1, bisect_left(ends, end) + (text[end - 1] != "\n"))


def _kept_in(lines: list[str], block: range) -> Iterator[int]:
    """The lines whose trailing spaces are text: what is not blank, up to the last but one."""
    filled = [number for number in block if lines[number].strip()]
    indent = min((len(lines[number]) - len(lines[number].lstrip(" ")) for number in filled), default=0)
    for number in block:
        if filled and number < filled[-1] and (lines[number].strip() or len(lines[number]) > indent):
            yield number


def _with_quotes(text: str, values: list[Misread]) -> str:
    for value in sorted(values, key=lambda value: value.start, reverse=True):
        text = f'{text[: value.start]}"{value.raw}"{text[value.start + len(value.raw) :]}'
    return text


def _at(data: Any, key: Path_) -> Any:
    for part in key:
        data = data[part]
    return data


def _put(data: Any, key: Path_, value: str) -> None:
    _at(data, key[:-1])[key[-1]] = value
