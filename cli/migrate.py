"""`tilth migrate`: leaves of older versions brought to the newest."""

from __future__ import annotations

import os
from collections.abc import Sized
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import TaxonomyError
from ..taxonomy.attribution import ATTRIBUTION_NAME
from ..taxonomy.migrate import migrated
from ..taxonomy.qna import LeafProblems
from ..taxonomy.schema import NEWEST_VERSION, QNA_NAME
from ..taxonomy.source import WorkingTree
from ..taxonomy.tree import leaf_ids
from .leaf_files import open_taxonomy, unified_diff, write_leaf_file
from .terminal import printable

_SHOWN = 3
"""Problems told of one leaf; who sets its version sees all of them with `tilth lint`."""


def migrate(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Leaves or folders; default: all.")] = None,
    *,
    diff: Annotated[bool, typer.Option("--diff", help="Show what would change; write nothing.")] = False,
) -> None:
    """Bring leaves of older versions to the newest. What a leaf says stays, so no sample is made again.

    Exit code 1 when a leaf lacks something that the newest version wants. Where its qna.yaml does, it stays as it is.
    """
    taxonomy = open_taxonomy()
    source = WorkingTree(taxonomy.root)
    changed: list[str] = []
    refused: list[TaxonomyError] = []
    for leaf_id in taxonomy.leaf_ids(source, paths) or leaf_ids(source):
        path = f"{leaf_id}/{QNA_NAME}"
        try:
            before = source.read(path)
            after = migrated(before, path)
        except TaxonomyError as error:
            refused.append(error)
            continue
        if after != before:
            changed.append(leaf_id)
            print(unified_diff(path, before, after))
            if not diff:
                write_leaf_file(taxonomy.root, path, after)
    for error in refused:
        _print_problems(error, taxonomy.root)
    files = set(source.files())
    bare = [leaf_id for leaf_id in changed if f"{leaf_id}/{ATTRIBUTION_NAME}" not in files]
    print(f"{_leaves(changed)} {'would be brought' if diff else 'brought'} to version {NEWEST_VERSION}", end="")
    print(f", which wants an {ATTRIBUTION_NAME}: {_leaves(bare)} without" if bare else "")
    if refused:
        print(f"{_leaves(refused)} left as before: the lines above say what is missing")
    if refused or bare:
        raise typer.Exit(1)


def _print_problems(error: TaxonomyError, root: Path) -> None:
    if not isinstance(error, LeafProblems):
        print(printable(str(error)))
        return
    name = os.path.relpath(root / error.name)
    for problem in error.problems[:_SHOWN]:
        print(printable(f"{problem.where(name)}: {problem.message}"))
    if len(error.problems) > _SHOWN:
        print(printable(f"{name}: and {len(error.problems) - _SHOWN} more"))


def _leaves(items: Sized) -> str:
    return "1 leaf" if len(items) == 1 else f"{len(items)} leaves"
