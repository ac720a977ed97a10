"""`tilth generate`: bring the store up to date with the taxonomy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..core.config import Config, Prices
from ..core.errors import ConfigError, TilthError
from ..core.workspace import Workspace
from ..cycle.basis import documents_cache
from ..cycle.committed import Committed, foresee_samples, make_samples
from ..llm.budget import Budget
from ..sdg.coverage import coverage_of
from ..sdg.forecast import Forecast
from ..sdg.store import Entry, read_manifest
from ..sdg.unmade import NotComplete, Unmade
from .committed import committed_leaves, say_uncommitted
from .options import Json, Set, count_leaves, open_workspace, print_json
from .terminal import TerminalProgress, printable, room, table
from .yields import print_made_otherwise, print_yield, row_of


def generate(  # noqa: PLR0913  the verb's options
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Leaves or folders; default: all.")] = None,
    max_calls: Annotated[int | None, typer.Option(min=0, metavar="N", help="Send at most N requests.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Send nothing more after N tokens, prompts included.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, metavar="X", help="Send nothing more after X, by the prices in tilth.yaml.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="Work on a Ray cluster: its address, or `local` for one here."),
    ] = None,
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what there is to do and what it costs, and ask no model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Have the teacher write samples for the committed leaves that have none yet; nothing is paid for twice.

    A leaf whose documents cannot be read, or that lacks answers which may still come, harms no other: it is told, and
    the exit code is 2. A budget that is spent stops with exit code 1: what is done is kept, and so are all answers.
    """
    limited = (max_calls, max_tokens, max_cost) != (None, None, None)
    if ray == "":  # a variable of the shell that is not set, maybe: not one process here
        raise TilthError("--ray is empty", fix="name the cluster's address or `local`, or leave it out")
    if ray and limited:
        raise TilthError("a budget is watched by one process", fix="leave --ray out, or the --max- option")
    if dry_run and (limited or ray):
        what = "--dry-run sends nothing, so neither a limit nor --ray has an effect"
        raise TilthError(what, fix="leave it out, or the other option")
    workspace = open_workspace(overrides)
    if max_cost is not None:
        _refuse_no_prices(workspace.config)
    committed, progress = committed_leaves(workspace, paths), TerminalProgress()
    say_uncommitted(workspace, progress)
    if dry_run:
        _print_plan(workspace, committed, progress, as_json=as_json)
        return
    budget = Budget(max_calls, max_tokens, max_cost)
    entries, unmade = make_samples(workspace, committed, progress, budget=budget, ray=ray or "")
    _print_made(workspace, committed, entries, unmade, as_json=as_json)
    if unmade:
        raise NotComplete(entries, unmade)


def _print_made(
    workspace: Workspace, committed: Committed, entries: Sequence[Entry], unmade: Sequence[Unmade], *, as_json: bool
) -> None:
    manifests = [read_manifest(entry.folder) for entry in entries]
    leaves, cache = {leaf.id: leaf for leaf in committed.leaves}, documents_cache(workspace)
    covered = {
        entry.leaf: coverage_of(leaves[entry.leaf], entry, committed.source, workspace.config, cache)
        for entry in entries
        if not entry.reused
    }
    if as_json:
        rows = [
            row_of(entry, manifest, covered.get(entry.leaf, {}))
            for entry, manifest in zip(entries, manifests, strict=True)
        ]
        print_json([*rows, *({"leaf": leaf, "problem": reason} for leaf, reason in unmade)])
        return
    if entries:
        print_yield(entries, manifests, covered)
    print_made_otherwise(entries, manifests, workspace.config)
    _print_unmade(unmade)


def _print_unmade(unmade: Sequence[Unmade]) -> None:
    for leaf, reason in unmade:
        print(printable(f"not complete: {leaf}: {reason}"))


def _refuse_no_prices(config: Config) -> None:
    """Raise ConfigError where no model has a price: then nothing costs anything, and the limit is never reached."""
    if all(server.prices == Prices() for server in (config.teacher, config.judge) if server):
        fix = "set `teacher: {prices: {prompt: X, completion: Y}}`, for a million tokens, or use --max-tokens"
        raise ConfigError("tilth.yaml has no prices, so no cost is ever reached", where="--max-cost", fix=fix)


def _print_plan(workspace: Workspace, committed: Committed, progress: TerminalProgress, *, as_json: bool) -> None:
    forecasts, unmade = foresee_samples(workspace, committed, progress)
    if as_json:
        print_json([*map(vars, forecasts), *({"leaf": leaf, "problem": reason} for leaf, reason in unmade)])
    else:
        _print_forecasts(forecasts, len(committed.leaves) + len(committed.unread) - len(forecasts) - len(unmade))
        _print_unmade(unmade)
    if unmade:
        raise NotComplete([], unmade)


def _print_forecasts(forecasts: list[Forecast], num_complete: int) -> None:
    if forecasts:
        rows = [[each.leaf, each.calls, each.cached, each.prompt_tokens + each.completion_tokens] for each in forecasts]
        print(table(rows, ["leaf", "requests", "in the ledger", "tokens"], cells=room()))
    print(f"{count_leaves(len(forecasts))} to make, {num_complete:,} complete; {_total(forecasts)}")


def _total(forecasts: list[Forecast]) -> str:
    calls = sum(each.calls - each.cached for each in forecasts)
    tokens = sum(each.prompt_tokens + each.completion_tokens for each in forecasts)
    parts = [f"about {calls:,} requests to pay for", f"{tokens:,} tokens"]
    if cost := sum(each.cost for each in forecasts):
        parts.append(f"{cost:,.2f} by the prices in tilth.yaml")
    seconds = [each.seconds for each in forecasts if each.seconds is not None]
    if seconds and len(seconds) == len(forecasts):
        minutes = math.ceil(sum(seconds) / 60)
        parts.append(f"{minutes:,} {'minute' if minutes == 1 else 'minutes'} at the speed so far")
    return ", ".join(parts)
