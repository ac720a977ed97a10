"""Reading blobs by their ids: one git process for all of them."""

from __future__ import annotations

import subprocess
import weakref
from pathlib import Path
from typing import IO

from ..core.errors import TaxonomyError
from .repository import start_git


class BlobReader:
    """A `git cat-file` that is started by the first question and ends with the reader."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pipes: tuple[IO[bytes], IO[bytes]] | None = None

    def read(self, blob_id: str, *, where: str) -> bytes:
        """The bytes of a blob. Raises TaxonomyError, at `where`, when this repository does not hold it."""
        questions, answers = self._pipes = self._pipes or self._start()
        try:
            questions.write(f"{blob_id}\n".encode())
            questions.flush()
            kind, size = answers.readline().split()[1:]
        except (BrokenPipeError, ValueError) as error:
            # A clone with `--filter`, one cut short, or a broken disk: git says "<id> missing", or ends.
            what = f"git does not have the file's bytes ({blob_id[:12]})"
            raise TaxonomyError(
                what, where=where, fix="run `git fsck`, and `git fetch --refetch` if it complains"
            ) from error
        data = answers.read(int(size) + 1)[:-1]
        if kind != b"blob" or len(data) != int(size):
            raise TaxonomyError(f"git cannot read the file's bytes ({blob_id[:12]})", where=where, fix="run `git fsck`")
        return data

    def _start(self) -> tuple[IO[bytes], IO[bytes]]:
        process = start_git(self._root, "cat-file", "--batch")
        assert process.stdin
        assert process.stdout
        weakref.finalize(self, _end, process)
        return process.stdin, process.stdout


def _end(process: subprocess.Popen[bytes]) -> None:
    process.communicate()
