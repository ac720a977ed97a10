"""`tilth ledger`: every answer that was paid for: how many, what they cost, and to take along or bring in."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..core.config import Config, Prices
from ..core.errors import CheckFailed, TilthError
from ..core.workspace import Workspace
from ..cycle.basis import read_basis
from ..llm.endpoint import identity
from ..llm.ledger import Ledger
from ..llm.ledger_file import merge_ledger_file, write_ledger_file
from ..llm.ledger_report import Usage, faults, usage
from ..llm.rescue import is_damaged, rescue
from ..sdg.rebuild import Obstacle, Origin, basis_of, in_store, obstacles, read_origins
from ..sdg.store import open_entry
from .options import Json, LeafText, Set, count_leaves, open_workspace, print_json, refuse_no_leaf, shown_path
from .terminal import printable, room, table

_MOST_ROWS = 20
"""Of a table; `--json` has all."""

Cost = Callable[[Iterable[Usage]], float | None]

ledger = typer.Typer(add_completion=False, rich_markup_mode=None, subcommand_metavar="[export|import|rescue]")


@ledger.callback(invoke_without_command=True)
def show(context: typer.Context, overrides: Set = [], *, as_json: Json = False) -> None:  # noqa: B006
    """Show what was asked of models and what it cost; export answers, import them. Prices are those of tilth.yaml."""
    if context.invoked_subcommand:
        return
    workspace = open_workspace(overrides)
    used: list[Usage] = []
    found: list[str] = []
    if workspace.ledger.exists():
        with Ledger(workspace.ledger, reading=True) as opened:
            used, found = usage(opened), faults(opened)
    prices, size = _prices(workspace.config), _bytes(workspace.ledger)
    if as_json:
        rows = [asdict(use) | {"cost": _cost([use], prices)} for use in used]
        print_json({"bytes": size, "faults": found, "cost": _cost(used, prices), "usage": rows})
    elif used:
        _print(used, prices, size)
    else:
        print("no model was asked yet: `tilth generate` does")
    if found:
        fix = "bring a copy back, or run `tilth ledger rescue`: what is lost is asked again"
        raise CheckFailed(f"the ledger is damaged ({'; '.join(found)})", where=str(workspace.ledger), fix=fix)
    if used and not as_json:
        print("it is whole: every key is the hash of its request")


@ledger.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; gzipped if its name ends in .gz.")],
    leaf: LeafText = "",
    overrides: Set = [],  # noqa: B006
) -> None:
    """Write the answers that the samples of committed leaves rest on, as JSON lines, for others to import."""
    workspace = open_workspace(overrides)
    planned = read_basis(workspace).planned
    refuse_no_leaf(leaf, (each.leaf.id for each in planned))
    chosen = [each for each in planned if leaf in each.leaf.id]
    entries = [open_entry(each.folder, each.leaf.id, reused=True) for each in chosen if each.complete]
    if not entries:
        raise TilthError("there are no samples whose answers could be exported", fix="run `tilth generate` first")
    with Ledger(workspace.ledger, reading=True) as opened:
        basis = basis_of(entries, opened)
        made = [origin.model_dump(mode="json") for origin in basis.origins]
        write_ledger_file(file, opened, basis.keys, made)
    print(f"wrote {len(basis.keys):,} answers, those of {count_leaves(len(entries))}, to {shown_path(file)}")
    if left := len(chosen) - len(entries):
        print(f"{count_leaves(left)} without samples left out: run `tilth generate` first")
    if refused := sum(origin.refused for origin in basis.origins):
        print(f"{refused:,} requests that the model refused have no answer, and will be asked again")


@ledger.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `tilth ledger export` wrote.")],
    overrides: Set = [],  # noqa: B006
) -> None:
    """Add the answers of FILE, all or none, and say what keeps the samples from being made again just so.

    What the ledger has stays. Whoever wrote the answers writes the samples: import from whom you trust.
    """
    workspace = open_workspace(overrides)
    with workspace.lock(), Ledger(workspace.ledger) as opened:
        merged, header = merge_ledger_file(file, opened)
    print(f"imported {merged.added:,} answers, {merged.there + merged.differing:,} were there already")
    if merged.differing:
        print(f"{merged.differing:,} of these are others than in the file, and stay: samples made of them differ")
    _print_what_can_be_made(read_origins(header.made, str(file)), workspace, differing=merged.differing > 0)


@ledger.command("rescue")
def rescue_() -> None:
    """Put all answers that can be read of a damaged ledger into a new one; the damaged file stays beside it."""
    workspace = open_workspace()
    if not workspace.ledger.exists():
        raise TilthError("there is no ledger", where=str(workspace.ledger), fix="`tilth generate` makes one")
    with workspace.lock():
        if not is_damaged(workspace.ledger):
            print("the ledger is whole: there is nothing to rescue")
            return
        saved = rescue(workspace.ledger)
    print(f"saved {saved.answers:,} answers; what is lost is asked again where a leaf still needs it")
    print(f"the damaged ledger is {shown_path(saved.aside)}: remove it when nothing is missed")


def _print_what_can_be_made(origins: list[Origin], workspace: Workspace, *, differing: bool) -> None:
    """Which leaves of a file the store has, which can be made again, and what hinders the others."""
    basis = read_basis(workspace)
    there = in_store(origins, basis.planned)
    same = [leaf for leaf, is_same in there.items() if is_same]
    left = [origin for origin in origins if origin.leaf not in same]
    found = obstacles(left, basis.planned, workspace.config, basis.source.commit)
    if other := tuple(leaf for leaf, is_same in there.items() if not is_same):
        fix = "remove their folders in .tilth/store to make them again"
        found.append(Obstacle("the store has other samples, and they stay", fix, other))
    for obstacle in found:
        named = ", ".join(obstacle.leaves[:3]) + (", …" if len(obstacle.leaves) > 3 else "")
        print(printable(f"{count_leaves(len(obstacle.leaves))} ({named}): {obstacle.what}; {obstacle.fix}"))
    hindered = {leaf for obstacle in found for leaf in obstacle.leaves}
    if free := sum(origin.leaf not in hindered for origin in left):
        to_the_byte = "" if differing else " to the byte,"
        print(f"{count_leaves(free)} can be made again{to_the_byte} without a request: `tilth generate`")
    if same:
        print(f"{count_leaves(len(same))} {'is' if len(same) == 1 else 'are'} in the store already, to the byte")


def _print(used: list[Usage], prices: Mapping[str, Prices], size: int) -> None:
    priced = any(price != Prices() for price in prices.values())
    cost = functools.partial(_cost, prices=prices) if priced else None
    first, last = min(use.first for use in used), max(use.last for use in used)
    answers = f"{sum(use.requests for use in used):,} answers, {size / 1e6:,.1f} MB"
    print(f"{answers}, from {_time(first)} to {_time(last)} UTC" + (f", cost {_money(cost(used))}" if cost else ""))
    print(f"\n{_table(used, ('model', 'step'), cost)}\n\n{_table(used, ('leaf',), cost)}\n")


def _table(used: Iterable[Usage], names: tuple[str, ...], cost: Cost | None) -> str:
    """Usage added up by fields, a row for each value; of many rows those with the most requests."""
    groups: defaultdict[tuple[str, ...], list[Usage]] = defaultdict(list)
    for use in used:
        groups[tuple(getattr(use, name) for name in names)].append(use)
    largest = sorted(groups.items(), key=lambda group: -sum(use.requests for use in group[1]))[:_MOST_ROWS]
    rows = [
        [
            *group,
            *(sum(getattr(use, count) for use in uses) for count in _COUNTS),
            *([_money(cost(uses)).rjust(10)] if cost else []),
        ]
        for group, uses in sorted(largest)
    ]
    headers = [*_COUNTS.values(), *(["cost".rjust(10)] if cost else [])]
    left = len(groups) - len(rows)
    return table(rows, [*names, *headers], cells=room()) + (f"\nand {left:,} more: `--json` has all" if left else "")


_COUNTS = {"requests": "requests", "prompt_tokens": "prompt tokens", "completion_tokens": "completion tokens"}


def _prices(config: Config) -> dict[str, Prices]:
    """Model -> what it costs, as far as `tilth.yaml` knows it."""
    return {identity(server): server.prices for server in (config.judge, config.teacher) if server}


def _cost(used: Iterable[Usage], prices: Mapping[str, Prices]) -> float | None:
    """What it cost at today's prices; None where the price of a model is not known."""
    costs = [
        prices[use.model].of(use.prompt_tokens, use.completion_tokens) if use.model in prices else None for use in used
    ]
    return None if None in costs else sum(cost for cost in costs if cost is not None)


def _money(cost: float | None) -> str:
    return "not known" if cost is None else f"{cost:,.4f}"


def _bytes(path: Path) -> int:
    """With the log that SQLite keeps beside it."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


def _time(when: str) -> str:
    return when[:16].replace("T", " ")
