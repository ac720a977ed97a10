"""Where a taxonomy is read from: the working tree as it is, or a commit. Reading changes neither.

Paths are relative to the repository's root, with `/`. Links are no files here: nothing is ever read
through one, so nothing outside the repository can be reached.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from ..core.errors import TaxonomyError
from .repository import git_errors, open_repository, resolve_commit


class Source(Protocol):
    """A tree of files."""

    @property
    def name(self) -> str:
        """What it is called in messages and provenance: `working tree`, or the commit's full sha."""
        ...

    def files(self) -> list[str]:
        """The paths of all plain files, sorted; hidden ones and those in hidden folders do not count."""
        ...

    def read(self, path: str) -> bytes:
        """The bytes of one file. Raises TaxonomyError when it is no plain file of this tree."""
        ...


class WorkingTree:
    """The files that are in a folder now; in a git repository the tracked ones, and new ones that it does not ignore.

    The list of files is made at the first call of `files` and kept.
    """

    name = "working tree"

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._files: list[str] | None = None
        if not self._root.is_dir():
            raise TaxonomyError("there is no such folder", where=str(root))

    def files(self) -> list[str]:
        """See `Source.files`. Raises TaxonomyError when git cannot list them."""
        if self._files is None:
            paths = _git_paths(self._root) if (self._root / ".git").exists() else _walked_paths(self._root)
            self._files = sorted(path for path in paths if not _hidden(path) and self._is_plain(path))
        return list(self._files)

    def read(self, path: str) -> bytes:
        """See `Source.read`."""
        place = self._root / path
        try:
            plain = stat.S_ISREG(place.lstat().st_mode) and place.is_relative_to(self._root)
            # A link anywhere on the way, or a step out with `..`, makes the two differ.
            if not plain or os.path.realpath(place) != str(place):
                raise TaxonomyError("a link or a path out of the repository is not followed", where=path)
            return place.read_bytes()
        except FileNotFoundError as error:
            raise TaxonomyError("there is no such file", where=path) from error
        except (OSError, ValueError) as error:
            raise TaxonomyError(f"the file cannot be read ({error})", where=path) from error

    def _is_plain(self, path: str) -> bool:
        try:
            return stat.S_ISREG((self._root / path).lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):  # tracked, and deleted since
            return False


class CommitTree:
    """The files of one commit, read from git's objects: nothing is checked out."""

    def __init__(self, root: Path, revision: str) -> None:
        self._repo = open_repository(root)
        self.commit = resolve_commit(self._repo, revision, where=str(root))
        self._blobs: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """The commit's full sha."""
        return self.commit

    def files(self) -> list[str]:
        """See `Source.files`."""
        return list(self._index())

    def read(self, path: str) -> bytes:
        """See `Source.read`."""
        sha = self._index().get(path)
        if sha is None:
            raise TaxonomyError(f"there is no such file in commit {self.commit[:12]}", where=path)
        return self._repo.odb.stream(bytes.fromhex(sha)).read()

    def _index(self) -> dict[str, str]:
        """Path -> blob sha of every plain file."""
        if self._blobs is None:
            with git_errors(str(self._repo.git_dir)):
                listing: str = self._repo.git.ls_tree("-r", "-z", "--full-tree", self.commit)
            entries = [entry.partition("\t") for entry in listing.split("\0") if entry]
            # An entry is "<mode> <type> <sha>\t<path>"; links are 120000, submodules 160000.
            self._blobs = {
                path: meta.split()[2]
                for meta, _, path in sorted(entries, key=lambda entry: entry[2])
                if meta.startswith("100") and not _hidden(path)
            }
        return self._blobs


def _hidden(path: str) -> bool:
    return path.startswith(".") or "/." in path


def _git_paths(root: Path) -> set[str]:
    with git_errors(str(root)):
        repo = open_repository(root)
        listing: str = repo.git.ls_files("--cached", "--others", "--exclude-standard", "-z")
        repo.close()
    return {path for path in listing.split("\0") if path}


def _walked_paths(root: Path) -> set[str]:
    paths: set[str] = set()
    for folder, _, names in os.walk(root):
        paths |= {(Path(folder) / name).relative_to(root).as_posix() for name in names}
    return paths
