"""Options and small things that several verbs share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import TilthError
from ..core.workspace import STATE_NAME, Workspace
from ..taxonomy.repository import refuse_tracked
from .streams import shown_json

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Set = Annotated[list[str], typer.Option("--set", metavar="A.B=C", help="Override a setting of tilth.yaml; repeatable.")]
LeafText = Annotated[str, typer.Option("--leaf", metavar="TEXT", help="Only leaves whose path contains TEXT.")]
KindText = Annotated[str, typer.Option("--kind", metavar="KIND", help="Only this kind, such as knowledge_short.")]


def open_workspace(overrides: list[str] | None = None) -> Workspace:
    """The workspace that the current folder is in. Raises ConfigError when it is in none, TaxonomyError."""
    workspace = Workspace.open(Path.cwd(), tuple(overrides or ()))
    refuse_tracked(workspace.root, STATE_NAME)
    return workspace


def refuse_no_leaf(text: str, leaves: Iterable[str]) -> None:
    """Raise TilthError when `--leaf` is in the path of no committed leaf, so that nothing could be shown."""
    if text and not any(text in leaf for leaf in leaves):
        what = f"no committed leaf has {text!r} in its path"
        raise TilthError(what, where="--leaf", fix="`tilth tree` shows the leaves; commit a new one first")


def print_json(value: Any) -> None:
    """Print a JSON-able value."""
    print(shown_json(value, indent=2))


def shown_path(path: Path) -> str:
    """A path as a person would type it from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith(f"..{os.sep}..{os.sep}..") else str(path)


def count_leaves(number: int) -> str:
    """`1 leaf`, `1,200 leaves`."""
    return f"{number:,} {'leaf' if number == 1 else 'leaves'}"
