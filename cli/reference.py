"""`python -m tilth.cli.reference`: writes docs/reference/ from the code: verbs, codes of lint, settings, plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ..core.atomic import write_text
from ..taxonomy.lint import load_rules
from .lint_formats import rule_text
from .main import app
from .settings_reference import plans_reference, settings_reference

_FOLDER = Path(__file__).parents[1] / "docs" / "reference"
_WRITTEN = "<!-- Written by `make docs` from the code: changes made here are lost. -->\n\n"
_HEAD = f"{_WRITTEN}# The command line\n"
_LINT_HEAD = f"""\
{_WRITTEN}# What `tilth lint` finds

A finding is one line: the file, the line and the column, a code, what is wrong and what to do. Errors (E) make the
command end with exit code 1. With one up to E129 a leaf is refused by `tilth generate` too (but E113: what is no plain
file is no leaf to it, and is passed over); E13x are about whose words it holds. Warnings (W) are worth a look.

`tilth lint --fix` mends what is only form, keeps comments and order, and shows what it changed; `--diff` shows it
without writing, and ends with exit code 1 where there is something. What a leaf says never changes by it, but for
values that were meant as text (E105).
"""


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


def lint_reference() -> str:
    """The page about lint: a table of the codes, then a section for each."""
    rules = load_rules().values()
    rows = [f"| [{rule.code}](#{rule.code.lower()}) | {rule.what} | {_FIXED[rule.fixed]} |" for rule in rules]
    table = "\n".join(["| code | what | `--fix` |", "|---|---|---|", *rows])
    return "\n".join([_LINT_HEAD, table + "\n", *(f"## {rule.code}\n\n{rule_text(rule)}\n" for rule in rules)])


_FIXED = {"never": "", "sometimes": "sometimes", "always": "mends it"}


def pages() -> dict[Path, str]:
    """All pages, by their files."""
    return {
        _FOLDER / "cli.md": reference(),
        _FOLDER / "lint.md": lint_reference(),
        _FOLDER / "settings.md": _WRITTEN + settings_reference(),
        _FOLDER / "plans.md": _WRITTEN + plans_reference(),
    }


if __name__ == "__main__":
    for file, text in pages().items():
        write_text(file, text)
