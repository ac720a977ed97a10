"""`tilth diff`: which leaves changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from ..core.errors import TilthError
from ..core.progress import SilentProgress
from ..cycle.compared import compared_with
from ..cycle.releases import Release, current_release
from ..taxonomy.changes import Changes, Modified, changes
from ..taxonomy.source import CommitTree, EmptyTree, WorkingTree
from .leaf_files import open_taxonomy
from .options import Json, open_workspace, print_json
from .terminal import TerminalProgress, printable


def diff(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help="A git revision; default: the current release's commit.")
    ] = "",
    *,
    from_fork: Annotated[
        bool, typer.Option("--merge-base", help="Compare with the newest commit that HEAD and BASE share.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Compare with nothing: every leaf is added.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing; exit code 1 if there is a change.")] = False,
    as_json: Json = False,
) -> None:
    """Show which leaves changed since a release or a commit.

    The working tree is compared, new files included, by what the leaves say: reformatting is no change, an edited
    document is one. Exit code 1 when a changed leaf cannot be read.
    """
    if everything and (base or from_fork):
        raise TilthError("--all compares with nothing", fix="leave BASE and --merge-base out")
    if quiet and as_json:
        raise TilthError("--quiet prints nothing", fix="leave it or --json out")
    taxonomy = open_taxonomy()
    release = current_release(open_workspace()) if taxonomy.state and not (base or everything) else None
    source = EmptyTree() if everything else compared_with(taxonomy.root, base, release, from_fork=from_fork)
    found = changes(source, WorkingTree(taxonomy.root), SilentProgress() if quiet else TerminalProgress())
    if as_json:
        print_json({"base": source.commit if isinstance(source, CommitTree) else None, **found.model_dump(mode="json")})
    elif not quiet:
        name = "nothing" if everything else _named(source, base, release, from_fork=from_fork)
        print(f"against {printable(name)}:")
        print_changes(found)
    if found.unreadable or (quiet and found):
        raise typer.Exit(1)


def print_changes(found: Changes) -> None:
    """A line per changed leaf, then how many there are of each sort."""
    for word, text in _lines(found):
        print(f"  {word:10} {printable(text)}")
    counts = (f"{len(leaves)} {word}" for word, leaves in found if leaves)
    print("  " + (", ".join(counts) or "there are no leaves"))


def _named(source: CommitTree | EmptyTree, base: str, release: Release | None, *, from_fork: bool) -> str:
    if isinstance(source, EmptyTree):
        return "nothing: there is no release yet"
    name = base or (release.name if release else "")
    return f"where HEAD left {name} ({source.commit[:8]})" if from_fork else f"{name} ({source.commit[:8]})"


def _lines(found: Changes) -> Iterator[tuple[str, str]]:
    yield from (("added", leaf) for leaf in found.added)
    yield from (("modified", _told(each)) for each in found.modified)
    yield from (("removed", leaf) for leaf in found.removed)
    yield from (("moved", f"{old} -> {new}") for old, new in found.moved)
    yield from (("attributed", leaf) for leaf in found.attributed)
    yield from (("unreadable", each.reason) for each in found.unreadable)


def _told(each: Modified) -> str:
    """The leaf, where it was, and which of its files differ."""
    leaf = f"{each.moved_from} -> {each.leaf}" if each.moved_from else each.leaf
    return f"{leaf} ({', '.join(each.files)})" if each.files else leaf
