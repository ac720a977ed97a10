"""`python -m tilth.cli.reference`: writes docs/reference/cli.md, the help of every verb, from the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ..core.atomic import write_text
from .main import app

PATH = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"

_HEAD = "<!-- Written by `make docs` from the code: changes made here are lost. -->\n\n# The command line\n"


def reference() -> str:
    """The page: the help of `tilth`, of its verbs in their order, and of their own verbs."""
    command: Any = typer.main.get_command(app)
    return "\n".join([_HEAD, *_sections(command, command.make_context("tilth", [], terminal_width=100), level=2)])


def _sections(command: Any, context: Any, level: int) -> list[str]:
    """A section for a command, and those of the commands below it."""
    sections = [f"{'#' * level} {context.command_path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"]
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        inner = command.get_command(context, name)
        sections += _sections(inner, type(context)(inner, info_name=name, parent=context), level=3)
    return sections


if __name__ == "__main__":
    write_text(PATH, reference())
