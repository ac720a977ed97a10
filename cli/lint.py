"""`tilth lint`: what is wrong in the leaves, each finding with its place; mends what is only form."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..core.config import Config
from ..core.errors import TilthError
from ..core.workspace import CONFIG_NAME
from ..core.yaml_source import parse_yaml
from ..taxonomy.lint import Finding, mended, touched
from ..taxonomy.lint import lint as lint_leaves
from ..taxonomy.repository import has_commit
from ..taxonomy.source import CommitTree, EmptyTree, IndexTree, Source, WorkingTree
from . import lint_formats as formats
from .leaf_files import Taxonomy, open_taxonomy, unified_diff, write_leaf_file
from .options import Json


class Format(StrEnum):
    """How findings are printed."""

    text = "text"
    json = "json"
    github = "github"
    sarif = "sarif"


def lint(  # noqa: PLR0913  the verb's options
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Leaves or folders; default: all.")] = None,
    form: Annotated[
        Format, typer.Option("--format", help="github: annotations for pull requests; sarif: for code scanners.")
    ] = Format.text,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, metavar="N", help="Processes that read files; default: as many as help."),
    ] = None,
    *,
    staged: Annotated[
        bool, typer.Option("--staged", help="Check what git would commit; without PATH, only what that changes.")
    ] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is only form, and show what changed.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show what --fix would change; write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Check leaves as they are in the working tree. Exit code 1 when there are errors; warnings alone are no error.

    With --diff it is 1 when --fix would change something, whatever else is wrong. Works in any git repository or folder
    that holds leaves; docs/reference/lint.md explains each code.
    """
    if staged and (fix or diff):
        raise TilthError("--staged only looks", fix="run --fix without it, then `git add` what changed")
    if as_json and form not in {Format.text, Format.json}:
        raise TilthError(f"--json and --format {form} are two forms", fix="leave one of them out")
    taxonomy = open_taxonomy()
    form = Format.json if as_json else form
    findings = _staged_findings(taxonomy, paths, workers) if staged else _findings(taxonomy, paths, workers)
    if fix or diff:
        num_mended = _mend(taxonomy, findings, write=not diff, quiet=form is not Format.text)
        if diff:
            raise typer.Exit(1 if num_mended else 0)
        if num_mended:
            findings = _findings(taxonomy, paths, workers)
    _print(findings, form, taxonomy.root)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


def _staged_findings(taxonomy: Taxonomy, paths: list[Path] | None, workers: int | None) -> list[Finding]:
    """Of what a commit would hold, judged by the settings that it would hold."""
    source, root = IndexTree(taxonomy.root), taxonomy.root
    names = taxonomy.named(paths) or touched(CommitTree(root, "HEAD") if has_commit(root) else EmptyTree(), source)
    if CONFIG_NAME in source.files():
        config = parse_yaml(source.read(CONFIG_NAME), CONFIG_NAME).validate(Config)
        taxonomy = replace(taxonomy, config=config)
    return _findings_in(source, names, taxonomy, workers) if names else []


def _findings(taxonomy: Taxonomy, paths: list[Path] | None, workers: int | None) -> list[Finding]:
    return _findings_in(WorkingTree(taxonomy.root), taxonomy.named(paths), taxonomy, workers)


def _findings_in(source: Source, names: list[str], taxonomy: Taxonomy, workers: int | None) -> list[Finding]:
    return lint_leaves(
        source,
        names,
        taxonomy.config,
        cache_file=taxonomy.state / "lint.db" if taxonomy.state else None,
        mirrors=taxonomy.state / "documents" if taxonomy.state else None,
        workers=workers,
    )


def _mend(taxonomy: Taxonomy, findings: list[Finding], *, write: bool, quiet: bool) -> int:
    """Show, and write if asked to, what mending changes. Returns in how many files."""
    source = WorkingTree(taxonomy.root)
    paths = sorted({finding.path for finding in findings if finding.fixable})
    out = sys.stderr if quiet else sys.stdout
    for path in paths:
        before = source.read(path)
        after = mended(before, path.split("/", 1)[0])
        print(unified_diff(path, before, after), file=out)
        if write:
            write_leaf_file(taxonomy.root, path, after)
    if paths:
        print(f"{'mended' if write else '--fix would mend'} {len(paths)} file{'s' if len(paths) > 1 else ''}", file=out)
    return len(paths)


def _print(findings: list[Finding], form: Format, root: Path) -> None:
    match form:
        case Format.text:
            print(formats.as_text(findings, root))
        case Format.json:
            print(formats.as_json(findings))
        case Format.sarif:
            print(formats.as_sarif(findings))
        case Format.github if findings:
            print(formats.as_github(findings))
        case Format.github:
            pass
