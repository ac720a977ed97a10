"""The committed leaves, those of them that cannot be read, and the store brought up to date with the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import TaxonomyError
from ..core.progress import Progress
from ..core.workspace import Workspace
from ..llm.budget import Budget
from ..sdg.forecast import Forecast
from ..sdg.generate import bring_up_to_date, foresee
from ..sdg.store import Entry
from ..sdg.unmade import NotComplete, Unmade, first_of
from ..taxonomy.leaf import Leaf, read_leaf
from ..taxonomy.source import CommitTree, WorkingTree
from ..taxonomy.tree import leaf_ids, leaf_ids_under
from .basis import training_start
from .generating import setup_of


@dataclass(frozen=True)
class Committed:
    """The leaves of the last commit, and those of them that cannot be read."""

    source: CommitTree
    leaves: list[Leaf]
    unread: list[Unmade]


def committed_leaves(workspace: Workspace, paths: Sequence[str] = ()) -> Committed:
    """The leaves that `paths` from the root name, by default all. Raises TaxonomyError where there are none."""
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


def make_samples(
    workspace: Workspace, committed: Committed, progress: Progress, *, budget: Budget | None = None, ray: str = ""
) -> tuple[Sequence[Entry], Sequence[Unmade]]:
    """Bring the store up to date: the entries of the leaves that are complete now, and those that are not.

    Raises as `bring_up_to_date`, but for NotComplete.
    """
    if committed.unread:
        progress.say(f"cannot be read, and left out: {first_of(committed.unread)}")
    with workspace.lock():
        try:
            setup = setup_of(workspace, committed.source, training_start(workspace), progress)
            entries = bring_up_to_date(committed.leaves, setup, progress, budget=budget, ray=ray)
        except NotComplete as error:
            return error.entries, sorted([*committed.unread, *error.unmade])
    return entries, committed.unread


def foresee_samples(
    workspace: Workspace, committed: Committed, progress: Progress
) -> tuple[list[Forecast], list[Unmade]]:
    """What that would ask and cost, leaf by leaf, and the leaves that cannot be read; nothing is sent."""
    setup = setup_of(workspace, committed.source, training_start(workspace), progress)
    forecasts, unread = foresee(committed.leaves, setup)
    return forecasts, sorted([*committed.unread, *unread])


def _named(workspace: Workspace, source: CommitTree, paths: Sequence[str]) -> list[str]:
    try:
        return leaf_ids_under(source, paths)
    except TaxonomyError as error:
        leaf_ids_under(WorkingTree(workspace.root), paths)  # raises the same where it is nowhere
        raise TaxonomyError(f"{error.what} in the last commit", fix="commit it first") from error
