"""`tilth releases`: what passed the gate, where it came from, whether it is whole, and how much disk it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import TilthError
from ..core.rate import wilson
from ..core.workspace import Workspace
from ..cycle.export import Format, export_release
from ..cycle.prune import freed_bytes, prunable
from ..cycle.prune import prune as delete
from ..cycle.release_diff import release_diff
from ..cycle.releases import (
    Release,
    ancestors,
    current_release,
    disk_bytes,
    find_release,
    is_pruned,
    pinned,
)
from ..cycle.releases import pin as set_pinned
from ..cycle.releases import releases as all_releases
from ..cycle.run import roll_back
from ..cycle.verify import Verified
from ..cycle.verify import verify as verify_releases
from ..llm.gguf_write import NumberFormat
from ..train.memory import gigabytes
from .options import Json, open_workspace, print_json, shown_path
from .release_diff import print_diff
from .scores import rate_text
from .terminal import TerminalProgress, printable, table

releases = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    subcommand_metavar="[list|show|diff|verify|rollback|pin|unpin|prune|export]",
)

Number = Annotated[int, typer.Argument(metavar="N", help="The release's number.", min=1)]


@releases.callback(invoke_without_command=True)
def without_command(context: typer.Context, *, as_json: Json = False) -> None:
    """List releases, show and compare them, check their hashes, roll back, pin, prune, export."""
    if not context.invoked_subcommand:
        list_releases(as_json=as_json)


@releases.command("list")
def list_releases(*, as_json: Json = False) -> None:
    """List releases with their scores, their disk, and which are current, pinned or pruned."""
    workspace = open_workspace()
    found = all_releases(workspace)
    if as_json:
        print_json([release.model_dump(mode="json") | _marks(workspace, release) for release in found])
    elif not found:
        print("no release yet: run `tilth cycle`")
    else:
        print(
            table(
                [_row(workspace, release) for release in found],
                ["release", "from", "made", "commit", "right answers", "disk", ""],
            )
        )


@releases.command()
def show(number: Number, *, as_json: Json = False) -> None:
    """Show a release's lineage: ancestors, commit, datasets, plan, weights, scores, the gate's verdict."""
    workspace = open_workspace()
    release = find_release(workspace, number)
    line = ancestors(workspace, release)
    if as_json:
        names = {"number", "created_at", "commit", "verdict", "forced"}
        older = [each.model_dump(mode="json", include=names) for each in line]
        print_json(release.model_dump(mode="json") | _marks(workspace, release) | {"ancestors": older})
        return
    made = f"made {release.created_at:%Y-%m-%d %H:%M} UTC in cycle {release.cycle}"
    marks = _marks_text(workspace, release)
    print(f"{release.name} from {_parent(release)}, {made}" + (f" ({marks})" if marks else ""))
    for name in ("commit", "student", "teacher", "plan", "seed", "weights_sha256", "tilth"):
        print(f"  {name.replace('_', ' '):15} {printable(str(getattr(release, name)))}")
    print(table([*map(_line, line), *_origin([release, *line])], ["grown from", "made", "commit", "gate"]))
    print(
        table(
            [[each.leaf, each.samples, each.sha256[:16]] for each in release.datasets], ["dataset", "samples", "sha256"]
        )
    )
    print(table([[leaf, rate_text(rate)] for leaf, rate in release.scores.items()], ["leaf", "right answers"]))
    print(f"the gate said {_verdict(release)}")
    for reason in release.verdict.reasons:
        print(f"  {reason}")


@releases.command()
def diff(
    first: Annotated[int, typer.Argument(metavar="A", help="A release's number.", min=1)],
    second: Annotated[int, typer.Argument(metavar="B", help="Another one's.", min=1)],
    *,
    as_json: Json = False,
) -> None:
    """Show what release B has that A has not: leaves, settings, scores.

    "Better" and "worse" are said where B's cycle compared it with A on the same questions, and the paired test says so.
    """
    workspace = open_workspace()
    found = release_diff(workspace, first, second)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_diff(found, both_there=not (is_pruned(workspace, first) or is_pruned(workspace, second)))


@releases.command()
def verify(
    numbers: Annotated[list[int] | None, typer.Argument(metavar="N", help="Releases; default: all.", min=1)] = None,
    *,
    as_json: Json = False,
) -> None:
    """Check all hashes of releases: model, cards, samples, replay buffer. Exit code 1 when something is wrong."""
    found = verify_releases(open_workspace(), numbers or [], TerminalProgress())
    if as_json:
        print_json([each.model_dump(mode="json") for each in found])
    elif not found:
        print("no release yet: run `tilth cycle`")
    else:
        for each in found:
            _print_verified(each)
    if any(each.faults for each in found):
        raise typer.Exit(1)


@releases.command()
def rollback(number: Number) -> None:
    """Make release N the current one: the next cycle starts from it. No release is deleted."""
    release = roll_back(open_workspace(), number, TerminalProgress())
    print(f"{release.name} is the current one")


@releases.command()
def pin(number: Number) -> None:
    """Have release N never pruned."""
    workspace = open_workspace()
    with workspace.lock():
        release = set_pinned(workspace, number)
    print(f"{release.name} is pinned")


@releases.command()
def unpin(number: Number) -> None:
    """Let release N be pruned again."""
    workspace = open_workspace()
    with workspace.lock():
        release = set_pinned(workspace, number, wanted=False)
    print(f"{release.name} is not pinned")


@releases.command()
def prune(
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            metavar="N",
            min=1,
            help="Releases to keep, the newest; default: releases.keep of tilth.yaml, or all.",
        ),
    ] = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it.")] = False,
) -> None:
    """Show what may be deleted and how much disk that frees; with --yes, delete it.

    It is the models of releases older than the newest N, what refused and abandoned cycles trained, and the files that
    finished ones trained on. The current release, pinned ones, and cycles that may yet become a release, with their
    parents, stay whole; records, cards, reports, the store's samples and replay buffers always stay.
    """
    workspace = open_workspace()
    kept = keep or workspace.config.releases.keep
    if not yes:
        print(_foreseen(workspace, kept, again=f" --keep {keep}" if keep else ""))
        return
    with workspace.lock():
        found = prunable(workspace, kept)
        freed = gigabytes(freed_bytes(found))
        delete(workspace, found)
    for each in found:
        print(f"deleted: {each.name}")
    print(f"freed {freed}" if found else "nothing to prune")


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


def _marks(workspace: Workspace, release: Release) -> dict[str, Any]:
    """What may be said of a release besides its record."""
    current = current_release(workspace)
    return {
        "current": release == current,
        "pinned": release.number in pinned(workspace),
        "pruned": is_pruned(workspace, release.number),
        "bytes": disk_bytes(workspace, release.number),
    }


def _marks_text(workspace: Workspace, release: Release) -> str:
    """Such as `pinned, current`; empty: there is nothing to say."""
    marks = _marks(workspace, release)
    return ", ".join(name for name in ("pruned", "pinned", "current") if marks[name])


def _row(workspace: Workspace, release: Release) -> list[str | int]:
    correct, total = (sum(getattr(rate, name) for rate in release.scores.values()) for name in ("correct", "total"))
    return [
        release.number,
        _parent(release),
        f"{release.created_at:%Y-%m-%d %H:%M}",
        release.commit[:8],
        rate_text(wilson(correct, total)),
        gigabytes(disk_bytes(workspace, release.number)),
        _marks_text(workspace, release),
    ]


def _parent(release: Release) -> str:
    return f"release {release.parent}" if release.parent else printable(release.student)


def _line(release: Release) -> list[str]:
    return [release.name, f"{release.created_at:%Y-%m-%d %H:%M}", release.commit[:8], _verdict(release)]


def _origin(line: list[Release]) -> list[list[str]]:
    """What the oldest of a line of releases grew from."""
    last = line[-1]
    gone = f"release {last.parent}, whose record is gone" if last.parent else last.student
    return [[gone, "", "", ""]]


def _verdict(release: Release) -> str:
    return f"{release.verdict.outcome}, released all the same" if release.forced else release.verdict.outcome


def _print_verified(found: Verified) -> None:
    if not found.faults:
        old = "" if found.listed else " (an older record: of its own files the weights alone)"
        print(f"release {found.release}: ok, {found.files} files" + (" (pruned)" if found.pruned else old))
        return
    print(f"release {found.release}: {len(found.faults)} {'fault' if len(found.faults) == 1 else 'faults'}")
    for fault in found.faults:
        print(printable(f"  {fault.where}: {fault.what}; {fault.fix}"))


def _foreseen(workspace: Workspace, keep: int | None, *, again: str) -> str:
    found = prunable(workspace, keep)
    if not found:
        hint = "" if keep else "; all releases are kept: `--keep N` lets older ones go"
        return f"nothing to prune{hint}"
    rows = [[each.name, gigabytes(freed_bytes([each]))] for each in found]
    freed = gigabytes(freed_bytes(found))
    command = f"`tilth releases prune{again} --yes`"
    return (
        f"{table(rows, ['to be deleted', 'disk'])}\n{freed} would be free; nothing is deleted yet: {command} deletes it"
    )
