"""Reading blobs by their ids: one git process for all of them, and one that tells their sizes before."""

from __future__ import annotations

import subprocess
import weakref
from functools import cached_property
from pathlib import Path
from typing import IO

from ..core.errors import TaxonomyError
from .repository import start_git


class BlobReader:
    """Two `git cat-file`, each started by the first question to it; they end with the reader."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def size(self, blob_id: str, *, where: str) -> int:
        """In bytes; git unpacks nothing for it. Raises as `read`."""
        return _told_size(self._sizes, blob_id, where)

    def read(self, blob_id: str, *, where: str) -> bytes:
        """The bytes of a blob. Raises TaxonomyError, at `where`, when this repository does not hold it."""
        size = _told_size(self._contents, blob_id, where)
        data = self._contents[1].read(size + 1)[:-1]
        if len(data) != size:
            raise _broken(blob_id, where)
        return data

    @cached_property
    def _sizes(self) -> _Pipes:
        return self._start("--batch-check")

    @cached_property
    def _contents(self) -> _Pipes:
        return self._start("--batch")

    def _start(self, mode: str) -> _Pipes:
        process = start_git(self._root, "cat-file", mode)
        assert process.stdin
        assert process.stdout
        weakref.finalize(self, _end, process)
        return process.stdin, process.stdout


_Pipes = tuple[IO[bytes], IO[bytes]]
"""Where questions go, and where answers come from."""


def _told_size(pipes: _Pipes, blob_id: str, where: str) -> int:
    """The size in the line that begins an answer: "<id> blob <size>"."""
    questions, answers = pipes
    try:
        questions.write(f"{blob_id}\n".encode())
        questions.flush()
        kind, size = answers.readline().split()[1:]
    except (BrokenPipeError, ValueError) as error:
        # A clone with `--filter`, one cut short, or a broken disk: git says "<id> missing", or ends.
        what = f"git does not have the file's bytes ({blob_id[:12]})"
        fix = "run `git fsck`, and `git fetch --refetch` if it complains"
        raise TaxonomyError(what, where=where, fix=fix) from error
    if kind != b"blob":
        raise _broken(blob_id, where)
    return int(size)


def _broken(blob_id: str, where: str) -> TaxonomyError:
    return TaxonomyError(f"git cannot read the file's bytes ({blob_id[:12]})", where=where, fix="run `git fsck`")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.communicate()
