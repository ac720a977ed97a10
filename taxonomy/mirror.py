"""Other repositories' commits, read from bare mirrors: one per repository, under the folder that the caller keeps.

A commit that was fetched has a ref of its own in the mirror, set last by git, so what a killed fetch left behind counts
for nothing, and a commit that has one costs no request any more. Nothing is ever checked out: files are read as blobs,
so hooks, filters, links, submodules and LFS pointers have no say.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
from collections.abc import Generator
from pathlib import Path
from typing import IO

from ..core.atomic import new_folder
from ..core.config import Documents
from ..core.errors import TaxonomyError
from ..core.fingerprint import fingerprint
from .address import Address, pinned
from .fetch import NotOffered, change, fetch
from .repository import git_output, resolve_commit
from .source import CommitTree

COMMIT = re.compile(r"[0-9a-f]{7,40}")
"""A commit's hash, maybe abbreviated."""

_FULL_SHA = 40
# Below `fetched`, no branch can be taken for an abbreviated hash.
_ALL_REFS = ("+refs/heads/*:refs/fetched/heads/*", "+refs/tags/*:refs/fetched/tags/*")


def mirrored_commit(url: str, commit: str, cache: Path) -> CommitTree | None:
    """The commit (a hash, maybe abbreviated) if it was fetched before; asks nobody."""
    mirror = _mirror(url, cache)
    if not COMMIT.fullmatch(commit) or not mirror.is_dir():
        return None
    found = git_output(mirror, "for-each-ref", "--format=%(refname:lstrip=2)", f"refs/commits/{commit}*").split()
    return CommitTree(mirror, f"refs/commits/{found[0].decode()}") if len(found) == 1 else None


def fetch_commit(address: Address, commit: str, cache: Path, settings: Documents, *, where: str) -> CommitTree:
    """The commit, fetched if it was not before: alone where the server gives that, else with all branches and tags.

    Two processes may do so at once. Raises TaxonomyError: the host is not public, the server cannot be reached, sends
    too much or takes too long, or has no such commit.
    """
    if tree := mirrored_commit(address.url, commit, cache):
        return tree
    checked = pinned(address, settings, where=where)
    mirror = _mirror(address.url, cache)
    with _locked(mirror.with_suffix(".lock")) as lock:
        if tree := mirrored_commit(address.url, commit, cache):  # by whom we waited for
            return tree
        _prepare(mirror)
        _fetch(mirror, checked, commit, settings, lock)
    return mirrored_commit(address.url, commit, cache) or CommitTree(mirror, commit)


def _mirror(url: str, cache: Path) -> Path:
    return cache / f"{fingerprint(url)}.git"


@contextlib.contextmanager
def _locked(path: Path) -> Generator[IO[str]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _prepare(mirror: Path) -> None:
    """A mirror that a fetch can begin in: made, or freed of what a killed one left behind."""
    if mirror.is_dir():
        # We hold the lock, and so does a git that outlived its tilth: nobody is at these files.
        for leftover in (*mirror.rglob("*.lock"), *mirror.rglob("tmp_*")):
            leftover.unlink(missing_ok=True)
        return
    with new_folder(mirror) as temporary:
        change(temporary, "init", "--quiet", "--bare", "--template=", "--initial-branch=none", ".")


def _fetch(mirror: Path, address: Address, commit: str, settings: Documents, lock: IO[str]) -> None:
    if len(commit) == _FULL_SHA:
        with contextlib.suppress(NotOffered):
            return fetch(mirror, address, "--depth=1", f"+{commit}:refs/commits/{commit}", settings=settings, lock=lock)
    # What is behind a shallow commit would be missing for ever: git believes that we have it.
    depth = ("--unshallow",) if (mirror / "shallow").exists() else ()
    fetch(mirror, address, *depth, *_ALL_REFS, settings=settings, lock=lock)
    try:
        found = resolve_commit(mirror, commit)
    except TaxonomyError as error:
        fix = "mend document.commit; `git rev-parse` tells a commit's whole hash"
        raise TaxonomyError("the repository has no such commit", where=address.url, fix=fix) from error
    change(mirror, "update-ref", f"refs/commits/{found}", found)
    return None
