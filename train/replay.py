"""Replay: which older samples a phase sees again, so that the student does not forget.

A share s of a phase's samples is replayed: beside n new samples and shares s1, s2 stand n * s1 / (1 - s1 - s2) and
n * s2 / (1 - s1 - s2) older ones, or as many as there are; none is repeated. `at_most` bounds them all together, each
source in proportion to its share. What is drawn follows from the samples, the buffer and the seed alone.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.records import Sample
from .data import Item, Origin, Pool
from .general import read_general
from .plan import TRAINS_ON, Plan
from .self_generated import AnswerOwn
from .settings import Replay


def _alike(_item: Item) -> float:
    return 1.0


@dataclass(frozen=True)
class Source:
    """Where replayed samples come from."""

    origin: Origin
    share: float
    items: Sequence[Item]
    weights: Mapping[str, float]
    """Of each leaf: the sum over its items."""


@dataclass(frozen=True)
class Drawn:
    """What a phase replays of one source."""

    source: Source
    items: list[Item]


def replayed(  # noqa: PLR0913 (what decides it)
    plan: Plan,
    index: int,
    pool: Pool,
    *,
    new: int,
    seed: int,
    own: AnswerOwn,
    tokens_of: Callable[[Item], int],
) -> list[Drawn]:
    """What phase `index` replays beside `new` new samples, source by source. Raises DataError, ModelError."""
    phase, drawn = plan.phases[index], list[Drawn]()
    replay = phase.replay
    for source in _sources(plan, index, pool):
        count, tokens = _amount(replay, source.share, new)
        taken = {item.id for each in drawn for item in each.items}
        free = [item for item in source.items if item.id not in taken]
        order = ordered(
            free, f"{seed}/{phase.name}/{source.origin}", lambda item: pool.past.weight(item, replay.weight)
        )
        per_leaf = None if source.origin == "general" else replay.per_leaf
        items = _first(order, count, per_leaf, tokens, tokens_of)
        if source.origin == "self_generated":
            items = list[Item](own([item for item in items if isinstance(item, Sample)]))
        drawn.append(Drawn(source, sorted(items, key=lambda item: item.id)))
    return drawn


def replay_count(new: int, share: float, all_shares: float) -> int:
    """How many samples of one source are replayed beside `new` new ones; `all_shares` is the sum over the sources."""
    return round(new * share / (1 - all_shares))


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


def _sources(plan: Plan, index: int, pool: Pool) -> list[Source]:
    """Those that the phase replays from, and what they have that its method can use."""
    phase, shares = plan.phases[index], plan.phases[index].replay
    usable = TRAINS_ON[phase.method]
    before = {kind for earlier in plan.phases[:index] for kind in earlier.kinds} - set(phase.kinds)
    older = [item for item in pool.earlier if item.kind in plan.kinds & usable]
    asked: list[Item] = [item for item in older if isinstance(item, Sample) and item.kind != "document"]
    found: list[tuple[Origin, float, list[Item]]] = [
        ("earlier_phase", shares.earlier_phases, [item for item in pool.new if item.kind in before & usable]),
        ("earlier_cycle", shares.earlier_cycles, older),
        ("general", shares.general, [*read_general(Path(shares.general_file))] if shares.general else []),
        ("self_generated", shares.self_generated, asked),
    ]
    return [Source(origin, share, items, _weights(items, pool, shares)) for origin, share, items in found if share]


def _weights(items: Sequence[Item], pool: Pool, replay: Replay) -> dict[str, float]:
    weights: defaultdict[str, float] = defaultdict(float)
    for item in items:
        weights[item.source.leaf] += pool.past.weight(item, replay.weight)
    return weights


def _amount(replay: Replay, share: float, new: int) -> tuple[int, int | None]:
    """How many samples of a source with this share, and how many tokens at most."""
    count = replay_count(new, share, replay.shares)
    if not replay.at_most:
        return count, None
    number, unit = replay.at_most.split()
    most = round(int(number) * share / replay.shares)
    return (count, most) if unit == "tokens" else (min(count, most), None)


def _first(
    order: Sequence[Item],
    count: int,
    per_leaf: int | None,
    tokens: int | None,
    tokens_of: Callable[[Item], int],
) -> list[Item]:
    """The first items of an order, within all three bounds."""
    taken, of_leaf, used = list[Item](), Counter[str](), 0
    for item in order:
        if len(taken) == count:
            break
        if of_leaf[item.source.leaf] == per_leaf:
            continue
        if tokens is not None:
            used += tokens_of(item)
            if used > tokens:
                break
        of_leaf[item.source.leaf] += 1
        taken.append(item)
    return taken
