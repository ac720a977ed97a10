"""The border to git: opening a repository, and git's failures as TaxonomyError. Nothing here writes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import TaxonomyError

if TYPE_CHECKING:
    from git import Repo


def open_repository(root: Path) -> Repo:
    """The repository whose top folder (or bare folder) is `root`. Raises TaxonomyError when there is none."""
    with git_errors(str(root)):
        from git import Repo

        return Repo(root)


def resolve_commit(repo: Repo, revision: str, *, where: str) -> str:
    """The full hex sha of the commit that `revision` names. Raises TaxonomyError when there is none."""
    from git.exc import GitCommandError

    what = f"there is no commit {revision!r}"
    if revision.startswith("-"):
        raise TaxonomyError(what, where=where)
    try:
        return str(repo.git.rev_parse("--verify", "--quiet", f"{revision}^{{commit}}"))
    except GitCommandError as error:
        fix = "commit something first" if not repo.head.is_valid() else "`git log` lists them"
        raise TaxonomyError(what, where=where, fix=fix) from error


@contextlib.contextmanager
def git_errors(where: str) -> Generator[None]:
    """Turn what GitPython raises inside the block into a TaxonomyError that tells git's own reason."""
    try:
        from git import exc
    except ImportError as error:  # GitPython looks for the git program when it is imported
        raise TaxonomyError("git is not installed", fix="install git") from error
    try:
        yield
    except exc.InvalidGitRepositoryError as error:
        raise TaxonomyError("this is no git repository", where=where, fix="run `tilth init` there") from error
    except exc.NoSuchPathError as error:
        raise TaxonomyError("there is no such folder", where=where) from error
    except exc.GitCommandNotFound as error:
        raise TaxonomyError("git is not installed", where=where, fix="install git") from error
    except exc.GitCommandError as error:
        raise TaxonomyError(f"git: {_reason(str(error.stderr or error))}", where=where) from error


def _reason(stderr: str) -> str:
    """The line of git's output that says why: the `fatal:` or `error:` one where there is one."""
    text = stderr.strip().removeprefix("stderr:").strip().strip("'")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"(fatal|error):", line)]
    return (told or lines or ["failed without a word"])[-1].rstrip("'")
