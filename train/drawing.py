"""In which order samples are drawn: each leaf in proportion, each fact in turn, whatever the order they come in."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from .data import Item


def _alike(_item: Item) -> float:
    return 1.0


def draw(pool: Sequence[Item], count: int, seed: str) -> list[Item]:
    """`count` samples of the pool (all of it if that is fewer), each leaf in proportion to what it has there.

    Inside a leaf the facts take turns, so that a small draw still touches as many of them as it can. The same pool
    and seed give the same samples, whatever the pool's order.
    """
    return sorted(ordered(pool, seed)[:count], key=lambda item: item.id)


def ordered(pool: Sequence[Item], seed: str, weight: Callable[[Item], float] = _alike) -> list[Item]:
    """The pool in the order in which it is drawn: any first part has each leaf in proportion to its items' weights.

    The leaves are interleaved by Sainte-Laguë's rule, as seats go to parties.
    """
    leaves: defaultdict[str, list[Item]] = defaultdict(list)
    for item in sorted(pool, key=lambda item: item.id):
        leaves[item.source.leaf].append(item)
    rng = random.Random(seed)  # noqa: S311 (a reproducible choice, not a secret)
    placed: list[tuple[float, str, int, Item]] = []
    for leaf in sorted(leaves):
        whole = sum(map(weight, leaves[leaf]))
        turns = enumerate(_by_turns(leaves[leaf], rng, weight))
        placed += [((place + 0.5) / whole, leaf, place, item) for place, item in turns]
    return [item for *_, item in sorted(placed, key=lambda each: each[:3])]


def _by_turns(items: list[Item], rng: random.Random, weight: Callable[[Item], float]) -> list[Item]:
    """The items in random order, but the n-th of any fact only after the (n-1)-th of every other that has one.

    Heavy ones rather come first (Efraimidis and Spirakis, Information Processing Letters 97, 2006).
    """
    waits = {item.id: rng.expovariate(weight(item)) for item in items}
    shuffled = sorted(items, key=lambda item: waits[item.id])
    turns: Counter[str] = Counter()
    turn_of: dict[str, int] = {}
    for item in shuffled:
        turn_of[item.id] = turns[item.source.fact]
        turns[item.source.fact] += 1
    return sorted(shuffled, key=lambda item: turn_of[item.id])
