"""`tilth samples`: look at samples and rejects."""

from __future__ import annotations

from typing import Annotated

import typer

from ..core.records import Sample
from ..cycle.basis import read_basis
from ..sdg.store import open_entry, read_rejects, read_samples
from .options import Json, KindText, LeafText, Set, open_workspace, print_json


def samples(
    leaf: LeafText = "",
    kind: KindText = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most N.")] = 20,
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    rejects: Annotated[bool, typer.Option("--rejects", help="What the filters dropped, with their reasons.")] = False,
    as_json: Json = False,
) -> None:
    """Look at samples, or at what the filters dropped. Shown is what the store holds for the committed leaves."""
    workspace = open_workspace(overrides)
    planned = [each for each in read_basis(workspace).planned if leaf in each.leaf.id and each.complete]
    entries = [open_entry(each.folder, each.leaf.id, reused=True) for each in planned]
    found: list[tuple[Sample, str]] = []
    for entry in entries:
        if rejects:
            found += [(each.sample, f"{each.step}: {each.reason} {each.score}") for each in read_rejects(entry)]
        else:
            found += [(sample, "") for sample in read_samples(entry)]
    found = [(sample, reason) for sample, reason in found if kind in {"", sample.kind}]
    if as_json:
        print_json(
            [sample.model_dump(mode="json") | ({"reason": reason} if reason else {}) for sample, reason in found]
        )
        return
    for sample, reason in found[:limit]:
        print(f"[{sample.kind}] {sample.source.leaf}{f'  ({reason.strip()})' if reason else ''}")
        print(f"  Q: {sample.question}\n  A: {sample.answer}")
    print(f"{min(limit, len(found))} of {len(found)} shown")
