"""Bringing a `qna.yaml` to the newest version by changing its `version` alone.

What a leaf says stays, and so does its fingerprint: no sample of it is made again.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from dataclasses import replace

from ..core.yaml_source import YamlProblems, YamlSource, parse_yaml
from .qna import LeafProblems, parse_qna
from .schema import NEWEST_VERSION

_OLDER = range(1, NEWEST_VERSION)


def migrated(data: bytes, path: str) -> bytes:
    """The bytes of the `qna.yaml` at `path` in the newest version; comments and order stay.

    Raises LeafProblems with what stands in the way: what the newest version wants and the file does not have, or what
    makes the file unreadable in any version.
    """
    try:
        source = parse_yaml(data, path)
    except YamlProblems as error:
        raise LeafProblems(path, error.problems) from error
    version = source.data.get("version", 1) if isinstance(source.data, dict) else None
    newest = _with_newest_version(data, source) if type(version) is int and version in _OLDER else data
    try:
        parse_qna(newest, path)
    except LeafProblems as error:
        added = newest.count(b"\n") - data.count(b"\n")  # the file has no line for the version yet
        problems = [replace(problem, line=max(problem.line - added, 1)) for problem in error.problems]
        raise LeafProblems(path, problems) from error
    return newest


def _with_newest_version(data: bytes, source: YamlSource) -> bytes:
    text = data.decode("utf-8-sig")
    line_end = "\r\n" if "\r\n" in text else "\n"
    if "version" in source.data:
        start, written = source.start(("version",)), source.written(("version",))
        start = text.index(written, start)  # behind an anchor, a tag or a quote
        text = f"{text[:start]}{NEWEST_VERSION}{text[start + len(written) :]}"
    elif text[start := source.start(())] == "{":
        text = f"{text[: start + 1]}version: {NEWEST_VERSION}, {text[start + 1 :]}"
    else:
        indent = " " * (source.place(())[1] - 1)
        text = f"{text[:start]}version: {NEWEST_VERSION}{line_end}{indent}{text[start:]}"
    return (BOM_UTF8 if data.startswith(BOM_UTF8) else b"") + text.encode()
