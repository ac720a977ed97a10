r"""Where a taxonomy is read from: the working tree as it is, git's index, or a commit. Reading changes none of them.

Paths are relative to the repository's root, with `/`. Links are no files here: nothing is ever read
through one, so nothing outside the repository can be reached. A name that is not UTF-8 is shown with `\xNN` for each
odd byte, and its file is not read: no message, record or prompt could name it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Protocol

from ..core.errors import TaxonomyError
from .formats import size_problem
from .git_blobs import BlobReader
from .git_index import (
    IndexEntry,
    TreeEntry,
    object_format,
    staged_entries,
    tracked_files,
    unchanged_blob_ids,
    untracked_files,
)
from .repository import git_output, resolve_commit
from .schema import QNA_NAME, SECTIONS


class TooLarge(TaxonomyError):
    """A file larger than any that is read; nothing of it was."""


class Source(Protocol):
    """A tree of files."""

    @property
    def name(self) -> str:
        """What it is called in messages and provenance: `working tree`, or the commit's full sha."""
        ...

    def files(self) -> Sequence[str]:
        """The paths of all plain files, sorted; hidden ones and those in hidden folders do not count."""
        ...

    def read(self, path: str) -> bytes:
        """The bytes of one file. Raises TaxonomyError when it is no plain file of this tree, TooLarge."""
        ...

    def blob_ids(self) -> Mapping[str, str]:
        """Path -> the hex id that git gives to the file's bytes, for each of `files`; empty for one not readable.

        Two files with the same id hold the same bytes; what git's index knows is not read.
        """
        ...

    def others(self) -> Mapping[str, str]:
        """Path -> what it is (a link, a pipe, …) of what is neither a plain file nor a folder.

        A folder is one of them where a leaf's file, or one that git names, should be.
        """
        ...


class EmptyTree:
    """A tree without files: what there was before the first leaf."""

    name = "nothing"

    def files(self) -> Sequence[str]:
        """See `Source.files`."""
        return []

    def read(self, path: str) -> bytes:
        """See `Source.read`."""
        raise TaxonomyError("there is no such file", where=path)

    def blob_ids(self) -> Mapping[str, str]:
        """See `Source.blob_ids`."""
        return {}

    def others(self) -> Mapping[str, str]:
        """See `Source.others`."""
        return {}


class WorkingTree:
    """The files that are in a folder now; in a git repository the tracked ones, and new ones that it does not ignore.

    What is there is looked up at the first call of `files` or `blob_ids` and kept.
    """

    name = "working tree"

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._git = (self._root / ".git").exists()
        self._index: dict[str, IndexEntry | None] = {}
        self._stats: dict[str, os.stat_result] | None = None
        self._files: list[str] = []
        self._left_out: dict[str, str] = {}
        """Path -> blob id of what a sparse checkout leaves out: it is there, as the index has it."""
        self._blobs = BlobReader(self._root)
        self._odd: set[str] = set()
        """The paths, as shown, that are not UTF-8."""
        self._others: set[str] = set()
        """What git names and is no plain file, or is not there any more."""
        self._blob_ids: dict[str, str] | None = None
        self._is_link: dict[str, bool] = {}
        """Folder -> whether it is a link."""
        if not self._root.is_dir():
            raise TaxonomyError("there is no such folder", where=str(root))

    def files(self) -> Sequence[str]:
        """See `Source.files`. Raises TaxonomyError when git cannot list them."""
        self._look()
        return self._files

    def read(self, path: str) -> bytes:
        """See `Source.read`."""
        if blob_id := self._left_out.get(path):
            _refuse_large(path, self._blobs.size(blob_id, where=path))
            return self._blobs.read(blob_id, where=path)
        with self._open(path) as file:
            _refuse_large(path, os.fstat(file.fileno()).st_size)
            return file.read()

    def blob_ids(self) -> Mapping[str, str]:
        """See `Source.blob_ids`."""
        if self._blob_ids is None:
            stats = self._look()
            known = unchanged_blob_ids(self._root, self._index, stats) if self._git else {}
            algorithm = object_format(self._root) if self._git else "sha1"
            found = {path: known.get(path) or self._hash(path, algorithm) for path in stats} | self._left_out
            self._blob_ids = {path: found[path] for path in self._files}
        return self._blob_ids

    def is_as_listed(self, path: str) -> bool:
        """Whether nobody has written to the file since it was listed, so that its blob id is that of its bytes."""
        known = self._look().get(path)
        return path in self._left_out or (known is not None and _times(known) == _times(self._plain(path)))

    def others(self) -> Mapping[str, str]:
        """See `Source.others`."""
        stats = self._look()
        suspects = {*self._others, *_leaf_names(self._root)} - stats.keys()
        found = {path: _kind(self._root / path) for path in suspects}
        return {path: kind for path, kind in found.items() if kind}

    def _look(self) -> dict[str, os.stat_result]:
        """Path -> what the file system says of the file, sorted."""
        if self._stats is None:
            if self._git:
                self._index = tracked_files(self._root)
                names = {*self._index, *untracked_files(self._root)}
            else:
                names = _walked_names(self._root)
            shown = {name: _shown(name) for name in names if not _hidden(name)}
            found = {path: stats for name, path in shown.items() if (stats := self._plain(name))}
            self._stats = {path: found[path] for path in sorted(found)}
            self._left_out = {
                path: entry.blob_id
                for name, path in shown.items()
                if path not in found and path == name and (entry := self._index.get(name)) and entry.is_left_out
            }
            self._files = sorted([*self._stats, *self._left_out])
            self._others = set(shown.values()) - found.keys() - self._left_out.keys()
            self._odd = {path for name, path in shown.items() if path != name}
        return self._stats

    def _plain(self, name: str) -> os.stat_result | None:
        """None where there is no file, or a link, a folder, a pipe."""
        try:
            found = os.lstat(f"{self._root}/{name}")
        except OSError:  # tracked, and deleted since
            return None
        return found if stat.S_ISREG(found.st_mode) and self._reachable(name) else None

    def _reachable(self, name: str) -> bool:
        """Whether the way to a file stays in the repository: no link, no `..`."""
        place = ""
        for folder in name.split("/")[:-1]:
            place = f"{place}/{folder}"
            if place not in self._is_link:
                self._is_link[place] = os.path.islink(f"{self._root}{place}")  # noqa: PTH114  there are thousands
            if self._is_link[place] or folder in {"", ".", ".."}:
                return False
        return True

    def _open(self, path: str) -> FileIO:
        if path in self._odd:
            raise _odd_name(path)
        try:
            if not self._reachable(path):
                raise _not_followed(path)
            # A pipe of that name must not make us wait for a writer.
            file = FileIO(os.open(f"{self._root}/{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
        except FileNotFoundError as error:
            raise TaxonomyError("there is no such file", where=path) from error
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.ELOOP:  # what O_NOFOLLOW says of a link
                raise _not_followed(path) from error
            what = f"the file cannot be read ({(isinstance(error, OSError) and error.strerror) or error})"
            raise TaxonomyError(what, where=path, fix="check what it is, and who may read it") from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise TaxonomyError("this is no file", where=path, fix=_PUT)
        return file

    def _hash(self, path: str, algorithm: str) -> str:
        """As git does: the length, then the bytes. Empty for what nobody reads: hashing a gigabyte takes its time."""
        try:
            with self._open(path) as file:
                size = os.fstat(file.fileno()).st_size
                _refuse_large(path, size)
                start = b"blob %d\0" % size
                return hashlib.file_digest(
                    file, lambda: hashlib.new(algorithm, start, usedforsecurity=False)
                ).hexdigest()
        except (TaxonomyError, OSError):
            return ""


class _BlobTree(ABC):
    """Files that git holds as blobs; they are listed at the first call that asks for them, and kept."""

    def __init__(self, root: Path, name: str, where: str) -> None:
        self._root, self.name, self._where = root.resolve(), name, where
        self._blobs = BlobReader(self._root)
        self._blob_ids: dict[str, str] | None = None
        self._files: list[str] = []
        self._others: dict[str, str] = {}

    @abstractmethod
    def _entries(self) -> Iterable[TreeEntry]:
        """All that the tree holds."""

    def files(self) -> Sequence[str]:
        """See `Source.files`."""
        self.blob_ids()
        return self._files

    def read(self, path: str) -> bytes:
        """See `Source.read`."""
        blob_id = self.blob_ids().get(path)
        if blob_id is None:
            raise TaxonomyError(f"there is no such file in {self._where}", where=path)
        if not blob_id:
            raise _odd_name(path)
        _refuse_large(path, self._blobs.size(blob_id, where=path))
        return self._blobs.read(blob_id, where=path)

    def blob_ids(self) -> Mapping[str, str]:
        """See `Source.blob_ids`."""
        if self._blob_ids is None:
            entries = [(entry, _shown(entry.path)) for entry in self._entries() if not _hidden(entry.path)]
            ids = {
                path: entry.blob_id if path == entry.path else ""
                for entry, path in entries
                if entry.mode not in _NO_FILES
            }
            self._blob_ids = {path: ids[path] for path in sorted(ids)}
            self._files = list(self._blob_ids)
            self._others = {path: _NO_FILES[entry.mode] for entry, path in entries if entry.mode in _NO_FILES}
        return self._blob_ids

    def others(self) -> Mapping[str, str]:
        """See `Source.others`."""
        self.blob_ids()
        return self._others


class CommitTree(_BlobTree):
    """The files of one commit, read from git's objects: nothing is checked out."""

    def __init__(self, root: Path, revision: str) -> None:
        self.commit = resolve_commit(root.resolve(), revision)
        super().__init__(root, self.commit, f"commit {self.commit[:12]}")

    def _entries(self) -> Iterator[TreeEntry]:
        listing = os.fsdecode(git_output(self._root, "ls-tree", "-r", "-z", "--full-tree", self.commit))
        for entry in filter(None, listing.split("\0")):  # "<mode> <type> <id>\t<path>"
            meta, _, path = entry.partition("\t")
            mode, _, blob_id = meta.split()
            yield TreeEntry(mode, blob_id, path)


class IndexTree(_BlobTree):
    """The files that `git commit` would commit: what is staged, and in a commit's hook what that commit will hold."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "index", "git's index")

    def _entries(self) -> list[TreeEntry]:
        return staged_entries(self._root)


_NO_FILES = {"120000": "link", "160000": "submodule"}
"""Git's mode -> what it is."""


def as_listed(source: Source, paths: Iterable[str]) -> bool:
    """Whether files hold the blobs that `blob_ids` told; asked after they were read."""
    return not isinstance(source, WorkingTree) or all(map(source.is_as_listed, paths))


def _times(found: os.stat_result | None) -> tuple[int, ...]:
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino) if found else ()


def _refuse_large(path: str, num_bytes: int) -> None:
    if problem := size_problem(num_bytes):
        what, _, fix = problem.rpartition("; ")
        raise TooLarge(f"the file {what}", where=path, fix=fix)


def _leaf_names(root: Path) -> Iterator[str]:
    """What bears the name of a leaf's file, as shown, or of a folder of leaves that is a link.

    Git lists neither pipes nor empty folders.
    """
    for section in SECTIONS:
        if (root / section).is_symlink():
            yield section
            continue
        for folder, folders, files in os.walk(f"{root}/{section}"):
            name = f"{folder}/{QNA_NAME}".removeprefix(f"{root}/")
            if (QNA_NAME in folders or QNA_NAME in files) and not _hidden(name):
                yield _shown(name)


def _kind(path: Path) -> str:
    """What stands there and is no plain file; empty: nothing does."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return ""
    kinds = {stat.S_IFLNK: "link", stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return "" if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "device")


def _hidden(name: str) -> bool:
    return name.startswith(".") or "/." in name


def _shown(name: str) -> str:
    """The name as it is, unless Python made half characters of odd bytes in it."""
    return name if name.isascii() else os.fsencode(name).decode(errors="backslashreplace")


_PUT = "put the file itself there"


def _not_followed(path: str) -> TaxonomyError:
    return TaxonomyError("a link or a path out of the repository is not followed", where=path, fix=_PUT)


def _odd_name(path: str) -> TaxonomyError:
    return TaxonomyError("the file's name is not UTF-8", where=path, fix="rename it")


def _walked_names(root: Path) -> set[str]:
    names: set[str] = set()
    for folder, _, files in os.walk(root):
        above = os.path.relpath(folder, root)
        names |= {os.path.normpath(f"{above}/{name}") for name in files}
    return names
