"""Options and small things that several verbs share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.workspace import Workspace

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Set = Annotated[list[str], typer.Option("--set", metavar="A.B=C", help="Override a setting of tilth.yaml; repeatable.")]
LeafText = Annotated[str, typer.Option("--leaf", metavar="TEXT", help="Only leaves whose path contains TEXT.")]
KindText = Annotated[str, typer.Option("--kind", metavar="KIND", help="Only this kind, such as knowledge_short.")]


def open_workspace(overrides: list[str] | None = None) -> Workspace:
    """The workspace that the current folder is in. Raises ConfigError when it is in none."""
    return Workspace.open(Path.cwd(), tuple(overrides or ()))


def print_json(value: Any) -> None:
    """Print a JSON-able value."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def shown_path(path: Path) -> str:
    """A path as a person would type it from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith(f"..{os.sep}..{os.sep}..") else str(path)
