"""The committed leaves that paths of the command line name, and what is left out because it is not committed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.first_few import first_few
from ..core.progress import Progress
from ..core.workspace import Workspace
from ..cycle.committed import Committed
from ..cycle.committed import committed_leaves as leaves_at
from ..taxonomy.changes import changes
from ..taxonomy.source import CommitTree, WorkingTree
from .leaf_files import Taxonomy


def committed_leaves(workspace: Workspace, paths: Sequence[Path] | None = None) -> Committed:
    """The leaves that paths of the command line name, by default all. Raises TaxonomyError where there are none."""
    return leaves_at(workspace, Taxonomy(workspace.root, workspace.config, workspace.state).named(paths))


def say_uncommitted(workspace: Workspace, progress: Progress) -> None:
    """Say in one line which leaves differ from the last commit, if any do: what is not committed is not looked at."""
    found = changes(CommitTree(workspace.root, "HEAD"), WorkingTree(workspace.root))
    modified, unreadable = (each.leaf for each in found.modified), (each.leaf for each in found.unreadable)
    leaves = sorted({*found.added, *modified, *unreadable, *(f"{leaf} (removed)" for leaf in found.removed)})
    if leaves:
        progress.say(f"not committed, and left out: {first_few(leaves)}")
