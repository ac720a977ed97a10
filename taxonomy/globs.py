"""Globs over a list of paths: `*`, `?` and `[…]` inside one folder, `**` over any number of folders."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from fnmatch import fnmatchcase


def matching(pattern: str, files: Sequence[str]) -> list[str]:
    """The paths of `files` (sorted) that `pattern` names: the one that is spelt so, else those that it matches."""
    at = bisect_left(files, pattern)
    if at < len(files) and files[at] == pattern:
        return [pattern]
    literal = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    if literal == pattern:
        return []
    segments = pattern.split("/")
    within = files[bisect_left(files, literal) : bisect_left(files, f"{literal}\U0010ffff")]
    return [path for path in within if _matches(segments, path.split("/"))]


def _matches(segments: list[str], parts: list[str]) -> bool:
    """Walk the pattern over all places in the path at once, so that no pattern can make it slow."""
    places = {0}
    for segment in segments:
        if segment == "**" and places:
            places = set(range(min(places), len(parts) + 1))
        else:
            places = {at + 1 for at in places if at < len(parts) and fnmatchcase(parts[at], segment)}
    return len(parts) in places
