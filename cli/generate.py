"""`tilth generate`: bring the store up to date with the taxonomy."""

from __future__ import annotations

from typing import Annotated

import typer

from ..cycle.basis import documents_cache, read_basis
from ..sdg.generate import bring_up_to_date, estimate_calls
from ..sdg.store import read_manifest
from .options import Json, Set, open_workspace, print_json
from .terminal import TerminalProgress, table


def generate(
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is to do, and ask no model.")] = False,
    as_json: Json = False,
) -> None:
    """Have the teacher write samples for the committed leaves that have none yet; nothing is paid for twice."""
    workspace = open_workspace(overrides)
    basis, cache = read_basis(workspace), documents_cache(workspace)
    if dry_run:
        calls = {
            each.leaf.id: 0 if each.complete else estimate_calls(each, basis.source, workspace.config, cache)
            for each in basis.planned
        }
        _print_plan(calls, as_json=as_json)
        return
    with workspace.lock():
        entries = bring_up_to_date(
            basis.leaves,
            basis.source,
            config=workspace.config,
            store=workspace.store,
            ledger=workspace.ledger,
            cache=cache,
            progress=TerminalProgress(),
        )
    rows = [
        {
            "leaf": entry.leaf,
            "samples": entry.samples,
            "rejects": entry.rejects,
            "reused": entry.reused,
            "paid": 0 if entry.reused else read_manifest(entry.folder).requests.paid,
            "folder": str(entry.folder),
        }
        for entry in entries
    ]
    if as_json:
        print_json(rows)
        return
    headers = ["leaf", "samples", "rejects", "requests paid", ""]
    shown = [
        [row["leaf"], row["samples"], row["rejects"], row["paid"], "reused" if row["reused"] else ""] for row in rows
    ]
    print(table(shown, headers))


def _print_plan(calls: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json([{"leaf": leaf, "calls": number} for leaf, number in calls.items()])
        return
    print(table([[leaf, number or "complete"] for leaf, number in calls.items()], ["leaf", "requests, about"]))
    print(f"about {sum(calls.values())} requests in all; those the ledger has answers to cost nothing")
