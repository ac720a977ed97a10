"""The committed leaves that a verb works on, and those that it leaves out: broken ones, and what is not committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import TaxonomyError
from ..core.progress import Progress
from ..core.workspace import Workspace
from ..sdg.unmade import Unmade
from ..taxonomy.changes import changes
from ..taxonomy.leaf import Leaf, read_leaf
from ..taxonomy.source import CommitTree, WorkingTree
from ..taxonomy.tree import leaf_ids, leaf_ids_under
from .leaf_files import Taxonomy

_MOST_NAMED = 5


@dataclass(frozen=True)
class Committed:
    """The leaves of the last commit, and those of them that cannot be read."""

    source: CommitTree
    leaves: list[Leaf]
    unread: list[Unmade]


def committed_leaves(workspace: Workspace, paths: Sequence[Path] | None = None) -> Committed:
    """The leaves that paths of the command line name, by default all. Raises TaxonomyError where there are none."""
    source = CommitTree(workspace.root, "HEAD")
    ids = _named(workspace, source, paths) if paths else leaf_ids(source)
    if not ids:
        raise TaxonomyError("the taxonomy has no committed leaf", where=str(workspace.root), fix="run `tilth add`")
    leaves, unread = list[Leaf](), list[Unmade]()
    for leaf_id in ids:
        try:
            leaves.append(read_leaf(source, leaf_id))
        except TaxonomyError as error:
            unread.append(Unmade.of(leaf_id, error))
    return Committed(source, leaves, unread)


def _named(workspace: Workspace, source: CommitTree, paths: Sequence[Path]) -> list[str]:
    names = Taxonomy(workspace.root, workspace.config, workspace.state).named(paths)
    try:
        return leaf_ids_under(source, names)
    except TaxonomyError as error:
        leaf_ids_under(WorkingTree(workspace.root), names)  # raises the same where it is nowhere
        raise TaxonomyError(f"{error.what} in the last commit", fix="commit it first") from error


def say_uncommitted(workspace: Workspace, progress: Progress) -> None:
    """Say in one line which leaves differ from the last commit, if any do: what is not committed is not looked at."""
    found = changes(CommitTree(workspace.root, "HEAD"), WorkingTree(workspace.root))
    modified, unreadable = (each.leaf for each in found.modified), (each.leaf for each in found.unreadable)
    leaves = sorted({*found.added, *modified, *unreadable, *(f"{leaf} (removed)" for leaf in found.removed)})
    if leaves:
        more = f" and {len(leaves) - _MOST_NAMED:,} more" if len(leaves) > _MOST_NAMED else ""
        progress.say(f"not committed, and left out: {', '.join(leaves[:_MOST_NAMED])}{more}")
