"""`tilth releases`: what passed the gate, where it came from, and which one is current."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import TilthError
from ..cycle.export import Format, export_release
from ..cycle.releases import Release, current_release, find_release, set_current
from ..cycle.releases import releases as all_releases
from ..llm.gguf_write import NumberFormat
from .options import Json, open_workspace, print_json, shown_path
from .scores import rate_text
from .terminal import TerminalProgress, table

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
def export(
    number: Number,
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    form: Annotated[
        Format,
        typer.Option(
            "--format", help="safetensors, as it is; hub, with a card; gguf for llama.cpp; ollama: with a Modelfile."
        ),
    ] = "safetensors",
    numbers: Annotated[
        NumberFormat | None, typer.Option("--type", help="Of a GGUF file's weights; by default f16.")
    ] = None,
) -> None:
    """Write a release's model and its record to DIR, in the form that other programs take."""
    if numbers and form in {"safetensors", "hub"}:
        raise TilthError(f"--type has no effect with --format {form}", fix="leave it out, or write --format gguf")
    workspace, progress = open_workspace(), TerminalProgress()
    remark = export_release(workspace, number, target.absolute(), progress, form=form, numbers=numbers or "f16")
    print(f"exported to {shown_path(target)}" + (f"; {remark}" if remark else ""))


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
