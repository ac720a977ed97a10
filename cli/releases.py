"""`tilth releases`: what passed the gate, where it came from, and which one is current."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..cycle.releases import Release, current_release, export_release, find_release, set_current
from ..cycle.releases import releases as all_releases
from .options import Json, open_workspace, print_json, shown_path
from .scores import rate_text
from .terminal import table

releases = typer.Typer(add_completion=False, rich_markup_mode=None, subcommand_metavar="[show|rollback|export]")

Number = Annotated[int, typer.Argument(metavar="N", help="The release's number.", min=1)]


@releases.callback(invoke_without_command=True)
def list_releases(context: typer.Context, *, as_json: Json = False) -> None:
    """List releases, show where one came from, roll back, export."""
    if context.invoked_subcommand:
        return
    workspace = open_workspace()
    found, current = all_releases(workspace), current_release(workspace)
    if as_json:
        print_json([release.model_dump(mode="json") for release in found])
    elif not found:
        print("no release yet: run `tilth cycle`")
    else:
        rows = [_row(release, is_current=current is not None and release.number == current.number) for release in found]
        print(table(rows, ["release", "from", "made", "commit", "right answers", ""]))


@releases.command()
def show(number: Number, *, as_json: Json = False) -> None:
    """Show a release's lineage: parent, commit, datasets, plan, weights, scores."""
    release = find_release(open_workspace(), number)
    if as_json:
        print_json(release.model_dump(mode="json"))
        return
    print(
        f"{release.name} from {_parent(release)}, made {release.created_at:%Y-%m-%d %H:%M} UTC in cycle {release.cycle}"
    )
    for name in ("commit", "student", "teacher", "plan", "seed", "weights_sha256", "tilth"):
        print(f"  {name.replace('_', ' '):15} {getattr(release, name)}")
    print(
        table(
            [[each.leaf, each.samples, each.sha256[:16]] for each in release.datasets], ["dataset", "samples", "sha256"]
        )
    )
    print(table([[leaf, rate_text(rate)] for leaf, rate in release.scores.items()], ["leaf", "right answers"]))
    for reason in release.verdict.reasons:
        print(f"  {reason}")


@releases.command()
def rollback(number: Number) -> None:
    """Make release N the current one: the next cycle starts from it. No release is deleted."""
    workspace = open_workspace()
    with workspace.lock():
        release = set_current(workspace, number)
    print(f"{release.name} is the current one")


@releases.command()
def export(number: Number, target: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")]) -> None:
    """Copy a release's model (safetensors, tokenizer) and its record to DIR."""
    print(f"exported to {shown_path(export_release(open_workspace(), number, target.absolute()))}")


def _row(release: Release, *, is_current: bool) -> list[str | int]:
    correct, total = (sum(getattr(rate, name) for rate in release.scores.values()) for name in ("correct", "total"))
    made = f"{release.created_at:%Y-%m-%d %H:%M}"
    return [
        release.number,
        _parent(release),
        made,
        release.commit[:8],
        f"{correct}/{total}",
        "current" if is_current else "",
    ]


def _parent(release: Release) -> str:
    return f"release {release.parent}" if release.parent else release.student
