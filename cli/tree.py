"""`tilth tree`: the taxonomy as a tree, with what there is for each leaf and what the current release knows of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import TaxonomyError
from ..core.rate import wilson
from ..cycle.overview import LeafState, leaf_states
from .options import Json, Set, open_workspace, print_json
from .scores import rate_text
from .terminal import TerminalProgress, cut, room, table

_MOST_LINES = 100
"""A tree that has more lines is shown to the depth at which it has fewer, unless a depth is given."""

_ALL = "all of it"
_HEADERS = ["", "leaves", "seeds", "held out", "samples", "trained", "right answers"]


def tree(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Leaves or folders; default: all.")] = None,
    depth: Annotated[
        int | None, typer.Option("--depth", metavar="N", min=1, help="Levels to show; default: what fits a screen.")
    ] = None,
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    as_json: Json = False,
) -> None:
    """Show the taxonomy with its counts: what is there, what is generated, what the current release was trained on.

    Leaves are those of the working tree. Scores are the current release's, with 95 % Wilson intervals.
    """
    workspace = open_workspace(overrides)
    wanted = [path_in_taxonomy(path, workspace.root) for path in paths or []]
    states = leaf_states(workspace, wanted, TerminalProgress())
    if as_json:
        print_json([_as_json(state) for state in states])
    elif not states:
        print("the taxonomy has no leaves yet: `tilth add` makes one")
    else:
        print_tree(states, depth)


def print_tree(states: Sequence[LeafState], depth: int | None) -> None:
    """The table, and what it leaves out."""
    top = _grown(states)
    deepest = max(row.level for row in _rows(top)) + 1
    shown = depth or next((level for level in range(deepest, 1, -1) if _num_rows(top, level) <= _MOST_LINES), 1)
    rows = [_cells(row.node, "  " * row.level) for row in _rows(top) if row.level < shown]
    total = [] if len(top.children) == 1 else [_cells(top, "")]
    headers, *texts = _aligned([_HEADERS, *rows, *total])
    if (cells := room()) is not None:
        others = sum(len(text) + 2 for text in headers[1:6]) + max(len(row[6]) for row in [headers, *texts]) + 2
        texts = [[_shortened(row[0], max(16, cells - others)), *row[1:]] for row in texts]
    print(table(texts, headers))
    if shown < deepest:
        print(f"{shown} of {deepest} levels; `--depth {shown + 1}` shows more, `tilth tree PATH` a part")
    if faults := [state for state in states if state.summary.fault]:
        print(f"{len(faults)} cannot be read: `tilth lint` says why")


def path_in_taxonomy(path: Path, root: Path) -> str:
    """A path from the current folder as one from the taxonomy's root. Raises TaxonomyError when it is outside."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  resolves `..`, follows no link
    if not absolute.is_relative_to(root):
        raise TaxonomyError("this is outside the taxonomy", where=str(path), fix=f"name something below {root}")
    return absolute.relative_to(root).as_posix()


@dataclass
class _Node:
    """A folder, or a leaf where `leaf` is given; folders of one folder only are one."""

    name: str
    leaf: LeafState | None = None
    children: dict[str, _Node] = field(default_factory=dict[str, "_Node"])

    @property
    def leaves(self) -> list[LeafState]:
        own = [self.leaf] if self.leaf else []
        return own + [leaf for child in self.children.values() for leaf in child.leaves]


@dataclass(frozen=True)
class _Row:
    node: _Node
    level: int


def _grown(states: Sequence[LeafState]) -> _Node:
    top = _Node(_ALL)
    for state in states:
        node = top
        for name in state.summary.id.split("/"):
            node = node.children.setdefault(name, _Node(name))
        node.leaf = state
    top.children = {name: _joined(child) for name, child in top.children.items()}
    return top


def _joined(node: _Node) -> _Node:
    node.children = {name: _joined(child) for name, child in node.children.items()}
    if len(node.children) == 1 and node.leaf is None:
        [child] = node.children.values()
        return _Node(f"{node.name}/{child.name}", child.leaf, child.children)
    return node


def _rows(top: _Node, level: int = 0) -> Iterator[_Row]:
    for child in top.children.values():
        yield _Row(child, level)
        yield from _rows(child, level + 1)


def _num_rows(top: _Node, depth: int) -> int:
    return sum(row.level < depth for row in _rows(top))


def _cells(node: _Node, indent: str) -> list[str]:
    leaves = node.leaves
    folder = bool(node.children)
    made = [state.samples for state in leaves if state.samples is not None]
    samples = f"{sum(made):,}" if made else "-"
    trained = sum(state.trained for state in leaves)
    rates = [state.score for state in leaves if state.score]
    right = wilson(sum(rate.correct for rate in rates), sum(rate.total for rate in rates))
    broken = node.leaf is not None and node.leaf.summary.fault and not folder
    return [
        f"{indent}{node.name}{'/' if folder and node.name != _ALL else ''}",
        f"{len(leaves):,}" if folder else "",
        f"{sum(state.summary.seeds for state in leaves):,}",
        f"{sum(state.summary.held_out for state in leaves):,}",
        f"{samples} ({len(made)}/{len(leaves)})" if folder and 0 < len(made) < len(leaves) else samples,
        f"{trained:,}/{len(leaves):,}" if folder else "yes" if trained else "-",
        "cannot be read" if broken else rate_text(right) if right.total else "-",
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The counts to the right: what stands beside a number in brackets makes it no number to `table`."""
    widths = [max(len(text) for text in column) for column in zip(*rows, strict=True)]
    return [[row[0], *(row[index].rjust(widths[index]) for index in range(1, 6)), row[6]] for row in rows]


def _shortened(name: str, cells: int) -> str:
    """A name without its middle: its end tells most."""
    if len(name) <= cells:
        return name
    kept = len(name) - len(name.lstrip()) + 4
    return f"{name[:kept]}…{name[-(cells - kept - 1) :]}" if kept + 4 < cells else cut(name, cells)


def _as_json(state: LeafState) -> dict[str, object]:
    return {
        "leaf": state.summary.id,
        "kind": state.summary.kind,
        "seeds": state.summary.seeds,
        "held_out": state.summary.held_out,
        "fingerprint": state.summary.fingerprint,
        "samples": state.samples,
        "trained": state.trained,
        "score": state.score.model_dump() if state.score else None,
        "fault": state.summary.fault or None,
    }
