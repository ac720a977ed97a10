"""`tilth diff`: which leaves changed."""

from __future__ import annotations

from typing import Annotated

import typer

from ..cycle.releases import current_release
from ..taxonomy.changes import Changes, changes
from ..taxonomy.source import CommitTree, WorkingTree
from .options import Json, open_workspace, print_json


def diff(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help="A git revision; default: the current release's commit.")
    ] = "",
    *,
    as_json: Json = False,
) -> None:
    """Show which leaves changed since a release or a commit.

    Leaves of the working tree are compared by content: reformatting a file is no change.
    """
    workspace = open_workspace()
    release = current_release(workspace)
    revision = base or (release.commit if release else "")
    source = CommitTree(workspace.root, revision) if revision else None
    found = changes(source, WorkingTree(workspace.root))
    if as_json:
        print_json({"base": source.commit if source else None, **found.model_dump(mode="json")})
        return
    named = base or (f"{release.name} ({release.commit[:8]})" if release else "nothing: there is no release yet")
    print(f"against {named}:")
    print_changes(found)


def print_changes(found: Changes) -> None:
    """A line per changed leaf, and how many did not change."""
    for word, leaves in (("added", found.added), ("modified", found.modified), ("removed", found.removed)):
        for leaf in leaves:
            print(f"  {word:9} {leaf}")
    for old, new in found.moved:
        print(f"  moved     {old} -> {new}")
    print(f"  {len(found.unchanged)} unchanged")
