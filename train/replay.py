"""Replay: which older samples a phase sees again, so that the student does not forget.

A share s of a phase's samples is replayed: beside n new samples and shares s1, s2 stand n * s1 / (1 - s1 - s2) and
n * s2 / (1 - s1 - s2) older ones, or as many as there are; none is repeated. A source that has too few is not made up
for: what one source gives does not hang on what the others have, so its part of the whole is then above its share, and
that of all replay together below theirs. `at_most` bounds them all together, each source in proportion to its share;
where that is all that is said, earlier phases and earlier cycles have half of it each, or one all of it where the other
has nothing. What is drawn follows from the samples, the buffer and the seed alone.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.records import Sample
from .data import Item, Origin, Pool
from .drawing import ordered
from .general import read_general
from .plan import TRAINS_ON, Plan
from .selection import new_items
from .self_generated import AnswerOwn
from .settings import Replay


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
    replay, sources = phase.replay, _sources(plan, index, pool, seed)
    for source, (count, tokens) in zip(sources, _amounts(replay, sources, new), strict=True):
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


def _sources(plan: Plan, index: int, pool: Pool, seed: int) -> list[Source]:
    """Those that the phase replays from, and what they have that its method can use.

    Where it has a budget and no shares, both of its own samples, with equal ones.
    """
    phase, shares = plan.phases[index], plan.phases[index].replay
    usable = TRAINS_ON[phase.method]
    before = [item for item in _trained_before(plan, index, pool, seed) if item.kind in usable]
    older = [item for item in pool.earlier if item.kind in plan.kinds & usable]
    asked: list[Item] = [item for item in older if isinstance(item, Sample) and item.kind != "document"]
    found: list[tuple[Origin, float, list[Item]]] = [
        ("earlier_phase", shares.earlier_phases, before),
        ("earlier_cycle", shares.earlier_cycles, older),
        ("general", shares.general, [*read_general(Path(shares.general_file))] if shares.general else []),
        ("self_generated", shares.self_generated, asked),
    ]
    if shares.at_most and not shares.shares:
        found = [(origin, 1.0, items) for origin, _, items in found[:2] if items]
    return [Source(origin, share, items, _weights(items, pool, shares)) for origin, share, items in found if share]


def _trained_before(plan: Plan, index: int, pool: Pool, seed: int) -> list[Item]:
    """What is new in the phases before it, those of reward models left out, and not in this one."""
    before = [phase for phase in plan.phases[:index] if phase.method != "reward"]
    items = {item.id: item for phase in before for item in new_items(phase, pool.new, seed)}
    own = {item.id for item in new_items(plan.phases[index], pool.new, seed)}
    return [item for id_, item in items.items() if id_ not in own]


def _weights(items: Sequence[Item], pool: Pool, replay: Replay) -> dict[str, float]:
    weights: defaultdict[str, float] = defaultdict(float)
    for item in items:
        weights[item.source.leaf] += pool.past.weight(item, replay.weight)
    return weights


def _amounts(replay: Replay, sources: Sequence[Source], new: int) -> list[tuple[int, int | None]]:
    """Of each source, how many samples, and how many tokens at most."""
    counts = [
        replay_count(new, source.share, replay.shares) if replay.shares else len(source.items) for source in sources
    ]
    if not replay.at_most:
        return [(count, None) for count in counts]
    number, unit = replay.at_most.split()
    parts = _parts(int(number), [source.share for source in sources])
    if unit == "tokens":
        return list(zip(counts, parts, strict=True))
    return [(min(count, part), None) for count, part in zip(counts, parts, strict=True)]


def _parts(number: int, shares: Sequence[float]) -> list[int]:
    """A number in parts in proportion to the shares, which add up to it."""
    ends = [round(number * end / sum(shares)) for end in itertools.accumulate(shares)]
    return [end - start for start, end in itertools.pairwise([0, *ends])]


def _first(
    order: Sequence[Item],
    count: int,
    per_leaf: int | None,
    tokens: int | None,
    tokens_of: Callable[[Item], int],
) -> list[Item]:
    """The first items of an order, within all three bounds: one that does not fit any more is passed over."""
    taken, of_leaf = list[Item](), Counter[str]()
    for item in order:
        if len(taken) == count or tokens == 0:
            break
        if of_leaf[item.source.leaf] == per_leaf:
            continue
        if tokens is not None:
            if (size := tokens_of(item)) > tokens:
                continue
            tokens -= size
        of_leaf[item.source.leaf] += 1
        taken.append(item)
    return taken
