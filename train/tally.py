"""How much of a phase's data there is: samples and tokens, by what they come from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ..core.records import Record
from .data import TrainingItem
from .methods.table import Row
from .replay import Drawn


class Tally(Record):
    """How much: samples, their tokens, and those of the tokens that are trained."""

    samples: int = 0
    tokens: int = 0
    trained_tokens: int = 0


class Replayed(Tally):
    """What was replayed of one leaf, and out of how many."""

    available: float = 0.0
    """The leaf's samples there, each counted by its weight: leaves are drawn from in proportion to it."""


def tally_of(rows: Sequence[Row]) -> Tally:
    """All rows together."""
    return Tally(
        samples=len(rows),
        tokens=sum(row.tokens for row in rows),
        trained_tokens=sum(row.trained for row in rows),
    )


def tallies_by_name(pairs: Iterable[tuple[str, Row]]) -> dict[str, Tally]:
    """Name -> the rows that are paired with it, in the order of the names."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for name, row in pairs:
        groups[name].append(row)
    return {name: tally_of(groups[name]) for name in sorted(groups)}


def epoch_tally(kept: Sequence[tuple[TrainingItem, Row]], epochs: int) -> Tally:
    """What an epoch trains of them, on average: of all together each the same number of samples."""
    shares = [(len(item.epochs or range(epochs)) / epochs, row) for item, row in kept]
    return Tally(
        samples=round(sum(share for share, _ in shares)),
        tokens=round(sum(share * row.tokens for share, row in shares)),
        trained_tokens=round(sum(share * row.trained for share, row in shares)),
    )


def replayed_by_leaf(drawn: Drawn, kept: Iterable[tuple[TrainingItem, Row]]) -> dict[str, Replayed]:
    """Every leaf that could be drawn from, with what of it is among the items."""
    source = drawn.source
    tallies = tallies_by_name((item.source.leaf, row) for item, row in kept if item.origin == source.origin)
    return {
        leaf: Replayed(available=round(weight, 6), **tallies.get(leaf, Tally()).model_dump())
        for leaf, weight in sorted(source.weights.items())
    }
