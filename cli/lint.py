"""`tilth lint`: what is wrong in the leaves, each finding with its place."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import TaxonomyError
from ..taxonomy.lint import Finding
from ..taxonomy.lint import lint as lint_leaves
from ..taxonomy.source import WorkingTree
from ..taxonomy.tree import leaf_ids_under
from .options import Json, open_workspace, print_json


class Format(StrEnum):
    """How findings are printed."""

    text = "text"
    json = "json"
    github = "github"


def lint(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Leaves or folders; default: all.")] = None,
    form: Annotated[Format, typer.Option("--format", help="github: annotations for pull requests.")] = Format.text,
    *,
    as_json: Json = False,
) -> None:
    """Check leaves as they are in the working tree. Exit code 1 when there are errors; warnings alone are no error."""
    root = open_workspace().root
    source = WorkingTree(root)
    ids = leaf_ids_under(source, [_in_taxonomy(path, root) for path in paths]) if paths else None
    findings = lint_leaves(source, ids)
    _print(findings, Format.json if as_json else form)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


def _in_taxonomy(path: Path, root: Path) -> str:
    """The path from the taxonomy's root. Raises TaxonomyError when it is outside."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  resolves `..`, follows no link
    if not absolute.is_relative_to(root):
        raise TaxonomyError("this is outside the taxonomy", where=str(path), fix=f"name something below {root}")
    return absolute.relative_to(root).as_posix()


def _print(findings: list[Finding], form: Format) -> None:
    if form is Format.json:
        print_json([finding.model_dump() for finding in findings])
        return
    for finding in findings:
        print(_annotation(finding) if form is Format.github else finding)
    if form is Format.text:
        errors = sum(finding.severity == "error" for finding in findings)
        print(f"{errors} errors, {len(findings) - errors} warnings" if findings else "no findings")


def _annotation(finding: Finding) -> str:
    """A workflow command of GitHub Actions: shown beside the line in a pull request."""
    place = f"file={finding.path},line={finding.line},col={finding.column},title={finding.code}"
    return f"::{finding.severity} {place}::{finding.message.replace('%', '%25')}"
