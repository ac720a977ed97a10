"""What the working tree is compared with, as `tilth diff` does it: a revision, else the current release's commit."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import TaxonomyError, TilthError
from ..taxonomy.repository import merge_base
from ..taxonomy.source import CommitTree, EmptyTree
from .releases import Release


def compared_with(root: Path, base: str, release: Release | None, *, from_fork: bool = False) -> CommitTree | EmptyTree:
    """The tree of the revision `base`, else of `release`, else an empty one; `from_fork`: of where HEAD left it.

    Raises TaxonomyError for a revision that is not here, TilthError where HEAD can have left nothing.
    """
    revision = base or (release.commit if release else "")
    if not revision and not from_fork:
        return EmptyTree()
    if not revision:
        raise TilthError("there is no release yet", fix="name the branch: `tilth diff --merge-base main`")
    try:
        return CommitTree(root, merge_base(root, revision) if from_fork else revision)
    except TaxonomyError as error:
        if base or not release or not error.what.startswith("there is no commit"):
            raise
        what = f"{release.name} was made from commit {release.commit[:12]}, which is not here"
        raise TaxonomyError(what, where=error.where, fix="fetch it, or name a BASE") from error
