"""What git knows of a working tree's files: which there are, and which of them hold the bytes of one of its blobs.

`git status` would tell the second too, but it runs the filters that a repository's configuration names, believes
`assume-unchanged`, and takes a file for unchanged whose line ends it would convert. So here the index's stat data are
compared with the file system's, and of a file about which there is any doubt nothing is known.

Paths are as the operating system gives them to Python: odd bytes in a name are half characters.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..core.errors import TaxonomyError
from .repository import git_output


class FileStat(NamedTuple):
    """What tells two states of a file apart without reading it; numbers as the index keeps them, of 32 bits."""

    ctime_s: int
    ctime_ns: int
    mtime_s: int
    mtime_ns: int
    inode: int
    size: int


class IndexEntry(NamedTuple):
    """What git saw when it last looked at a tracked file."""

    blob_id: str
    stat: FileStat
    is_left_out: bool = False
    """A sparse checkout has it in the index alone."""


def tracked_files(root: Path) -> dict[str, IndexEntry | None]:
    """Every path of the index; None where it stands for no blob, or for several (a merge that is not done).

    Raises TaxonomyError when git cannot read its index.
    """
    listing = git_output(root, "ls-files", "--stage", "--debug", "-z")
    return {os.fsdecode(match["path"]): _entry(match) for match in _ENTRY.finditer(listing)}


class TreeEntry(NamedTuple):
    """What a commit holds at a path, or would hold."""

    mode: str
    """As git writes it: `100644`, `120000` for a link, …"""
    blob_id: str
    path: str


def staged_entries(root: Path) -> list[TreeEntry]:
    """Every entry of the index that is about to be committed. Raises TaxonomyError where a merge is not done."""
    listing = git_output(root, "ls-files", "--stage", "--debug", "-z", index=_index_to_commit(root))
    entries: list[TreeEntry] = []
    for match in _ENTRY.finditer(listing):
        path = os.fsdecode(match["path"])
        if match["stage"] != b"0":
            raise TaxonomyError("a merge is not done here", where=path, fix="mend the file, then `git add` it")
        if not int(match["flags"] or b"0", 16) & _INTENT_TO_ADD:
            entries.append(TreeEntry(match["mode"].decode(), match["blob_id"].decode(), path))
    return entries


def _index_to_commit(root: Path) -> Path | None:
    """The index that git made for the commit whose hook we run in; None: the repository's own.

    `git commit -a` and `git commit PATH` commit another index than the staged one, which they write beside it and name
    to their hooks. Nothing but a file in this repository's own git folder is believed: in a hook of another repository
    the variable names that one's index, and linting it would tell nothing of ours.
    """
    named = os.environ.get("GIT_INDEX_FILE")
    if not named or not (root / named).exists():
        return None
    index = root / named
    folder = Path(os.fsdecode(git_output(root, "rev-parse", "--absolute-git-dir").removesuffix(b"\n")))
    if index.parent.resolve() != folder.resolve():
        what = f"GIT_INDEX_FILE names {str(index)!r}, which is not in this repository's {str(folder)!r}"
        raise TaxonomyError(what, fix="unset it")
    return index


def untracked_files(root: Path) -> list[str]:
    """The paths that git neither tracks nor ignores; a repository inside is one path that ends in `/`."""
    listing = os.fsdecode(git_output(root, "ls-files", "--others", "--exclude-standard", "-z"))
    return [path for path in listing.split("\0") if path]


def object_format(root: Path) -> str:
    """The hash that names this repository's objects: `sha1` or `sha256`."""
    return git_output(root, "rev-parse", "--show-object-format").decode().strip()


def unchanged_blob_ids(
    root: Path, entries: Mapping[str, IndexEntry | None], stats: Mapping[str, os.stat_result]
) -> dict[str, str]:
    """Path -> blob id of the files that surely hold the blob's bytes, told by their `stats` alone."""
    index = root / os.fsdecode(git_output(root, "rev-parse", "--git-path", "index").removesuffix(b"\n"))
    index_mtime_s = int(index.stat().st_mtime) if entries else 0
    clean = {
        path: entry.blob_id
        for path, found in stats.items()
        # What was written in the same second as the index may have changed after git looked at it.
        if max(found.st_mtime, found.st_ctime) < index_mtime_s
        and (entry := entries.get(path))
        and entry.stat == _as_indexed(found)
    }
    sizes = _blob_sizes(root, clean.values())
    filtered = _filtered(root, clean)
    # Line ends and `$Id$` that git wrote otherwise than it stores them make a file longer, so a size tells.
    return {
        path: blob_id
        for path, blob_id in clean.items()
        if sizes.get(blob_id) == stats[path].st_size and path not in filtered
    }


# The layout of --debug is the same since 2009 but not promised: where it is another, nothing is known of the file.
_ENTRY = re.compile(
    rb"(?P<mode>\d{6}) (?P<blob_id>[0-9a-f]+) (?P<stage>\d)\t(?P<path>[^\0]+)\0"
    rb"(?:  ctime: (\d+):(\d+)\n  mtime: (\d+):(\d+)\n  dev: \d+\tino: (\d+)\n"
    rb"  uid: \d+\tgid: \d+\n  size: (\d+)\tflags: (?P<flags>[0-9a-f]+)\n)?"
)
_32_BITS = 0xFFFFFFFF
_INTENT_TO_ADD = 1 << 29
"""Git's flag of what `git add -N` put there: a name to be filled later, left out of commits."""
_SKIP_WORKTREE = 1 << 30


def _entry(match: re.Match[bytes]) -> IndexEntry | None:
    if not match["mode"].startswith(b"100") or match["stage"] != b"0":
        return None
    known = FileStat(*(int(number or 0) for number in match.groups()[4:10]))
    is_left_out = bool(int(match["flags"] or b"0", 16) & _SKIP_WORKTREE)
    return IndexEntry(match["blob_id"].decode(), known, is_left_out)


def _as_indexed(found: os.stat_result) -> FileStat:
    ctime_s, ctime_ns = divmod(found.st_ctime_ns, 10**9)
    mtime_s, mtime_ns = divmod(found.st_mtime_ns, 10**9)
    return FileStat(
        ctime_s & _32_BITS, ctime_ns, mtime_s & _32_BITS, mtime_ns, found.st_ino & _32_BITS, found.st_size & _32_BITS
    )


def _blob_sizes(root: Path, blob_ids: Iterable[str]) -> dict[str, int]:
    """In bytes; those that this clone holds."""
    wanted = "\n".join(blob_ids).encode()
    listing = git_output(root, "cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=wanted)
    rows = (line.split() for line in listing.decode().splitlines())
    return {blob_id: int(size) for blob_id, size in rows if size.isdigit()}


def _filtered(root: Path, paths: Iterable[str]) -> set[str]:
    """The paths that a filter or an encoding stands before; what these do to a file's size is unknown."""
    attributes = ("filter", "working-tree-encoding")
    wanted = os.fsencode("\0".join(paths))
    found = os.fsdecode(git_output(root, "check-attr", "-z", "--stdin", *attributes, stdin=wanted)).split("\0")
    return {
        path for path, value in zip(found[0::3], found[2::3], strict=False) if value not in {"unset", "unspecified"}
    }
