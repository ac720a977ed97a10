"""`tilth init`: a workspace, with a starter taxonomy or around the one that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..cycle.new_workspace import (
    absolute,
    add_starter_leaves,
    git_lists,
    has_unfinished_starter,
    make_workspace,
    outer_repository,
)
from ..taxonomy.source import WorkingTree
from ..taxonomy.starter_taxonomy import STARTER_LEAVES
from ..taxonomy.tree import leaf_ids
from .options import count_leaves, shown_path


def init(
    name: Annotated[str, typer.Argument(metavar="DIR", help="Where; made if it is not there.")] = ".",
    *,
    empty: Annotated[bool, typer.Option("--empty", help="No starter leaves in a new taxonomy.")] = False,
) -> None:
    """Make a workspace: a git repository with a taxonomy and tilth.yaml. A taxonomy that is there is adopted."""
    outer = outer_repository(absolute(name))
    folder = make_workspace(name)
    leaves = leaf_ids(WorkingTree(folder))
    if leaves and not has_unfinished_starter(folder):
        print(f"adopted {count_leaves(len(leaves))} in {shown_path(folder)}")
    elif leaves or not empty:
        add_starter_leaves(folder)
        print(
            f"made {shown_path(folder)} with {len(STARTER_LEAVES)} starter leaves: read them, change them, remove them"
        )
    else:
        print(f"made {shown_path(folder)}")
    if outer and _sees(outer, folder):
        print(f"note: it is a repository of its own inside that of {outer}: have that one ignore it (.gitignore)")
    here = "" if folder == Path.cwd() else f"cd {shown_path(folder)}, then "
    print(f"next: {here}tilth add knowledge PATH --from FILE, tilth lint, git commit, tilth cycle")


def _sees(outer: Path, folder: Path) -> bool:
    """Whether git in `outer` will tell of the new repository, and not ignore it."""
    return git_lists(outer, folder, "--others", "--exclude-standard", "--directory")
