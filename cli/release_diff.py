"""How `tilth releases diff` shows two releases side by side."""

from __future__ import annotations

from collections.abc import Iterator

from ..cycle.release_diff import LeafScores, ReleaseDiff
from .scores import rate_text
from .terminal import printable, table


def print_diff(found: ReleaseDiff, *, both_there: bool) -> None:
    """Leaves, then settings, then scores. `both_there`: whether both models can still be asked."""
    names = [f"release {found.first}", f"release {found.second}"]
    print(f"{names[1]} against {names[0]}:")
    for word, text in _leaves(found):
        print(f"  {word:10} {printable(text)}")
    counts = ((len(leaves), word) for word, leaves in found.leaves if leaves)
    print("  " + (", ".join(f"{count:,} {word}" for count, word in counts) or "there are no leaves"))
    for name, (first, second) in found.settings.items():
        print(f"  {name:10} {printable(first)} -> {printable(second)}")
    print(table([_scores(each) for each in found.scores], ["leaf", *names, ""]))
    print("right answers to held-out questions, with 95 % Wilson intervals")
    print(_what_is_told(found, both_there=both_there))


def _leaves(found: ReleaseDiff) -> Iterator[tuple[str, str]]:
    leaves = found.leaves
    yield from (("added", leaf) for leaf in leaves.added)
    yield from (("modified", leaf) for leaf in leaves.modified)
    yield from (("removed", leaf) for leaf in leaves.removed)
    yield from (("moved", f"{old} -> {new}") for old, new in leaves.moved)
    yield from (("remade", f"{leaf} (the same leaf, other samples)") for leaf in found.remade)


def _scores(each: LeafScores) -> list[str]:
    told = "" if each.told == "not compared" else each.told
    return [each.leaf, *("not asked" if rate is None else rate_text(rate) for rate in (each.first, each.second)), told]


def _what_is_told(found: ReleaseDiff, *, both_there: bool) -> str:
    if found.compared_in:
        asked = f"cycle {found.compared_in} asked both the same questions"
        return f"{asked}; better and worse are what the paired test says, over all leaves"
    each = "each was asked in its own cycle, so the questions may differ"
    if found.unlike:
        each = f"not to be compared, for each was scored in its own cycle and otherwise: {printable(found.unlike)}"
    again = f"; `tilth eval {found.first} {found.second}` asks both those of today"
    return each + (again if both_there else "")
