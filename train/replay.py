"""Replay: which older samples a phase sees again, so that the student does not forget.

A share s of a phase's samples is replayed: beside n new samples and shares s1, s2 stand n * s1 / (1 - s1 - s2) and
n * s2 / (1 - s1 - s2) older ones, or as many as there are; none is repeated.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from .data import Item


def replay_count(new: int, share: float, all_shares: float) -> int:
    """How many samples of one source are replayed beside `new` new ones; `all_shares` is the sum over the sources."""
    return round(new * share / (1 - all_shares))


def draw(pool: Sequence[Item], count: int, seed: str) -> list[Item]:
    """`count` samples of the pool (all of it if that is fewer), each leaf in proportion to what it has there.

    Inside a leaf the facts take turns, so that a small draw still touches as many of them as it can. The same pool
    and seed give the same samples, whatever the pool's order.
    """
    leaves: defaultdict[str, list[Item]] = defaultdict(list)
    for sample in sorted(pool, key=lambda sample: sample.id):
        leaves[sample.source.leaf].append(sample)
    quotas = _quotas({leaf: len(samples) for leaf, samples in leaves.items()}, count)
    rng = random.Random(seed)  # noqa: S311 (a reproducible choice, not a secret)
    drawn = [sample for leaf in sorted(leaves) for sample in _by_turns(leaves[leaf], rng)[: quotas[leaf]]]
    return sorted(drawn, key=lambda sample: sample.id)


def _quotas(sizes: dict[str, int], count: int) -> dict[str, int]:
    """Whole numbers in proportion to `sizes`, `count` in all: the largest remainders get what rounding down left."""
    total = sum(sizes.values())
    count = min(count, total)
    quotas = {leaf: count * size // total for leaf, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda leaf: (-(count * sizes[leaf] % total), leaf))
    for leaf in by_remainder[: count - sum(quotas.values())]:
        quotas[leaf] += 1
    return quotas


def _by_turns(samples: list[Item], rng: random.Random) -> list[Item]:
    """The samples in random order, but the n-th of any fact only after the (n-1)-th of every other that has one."""
    shuffled = rng.sample(samples, len(samples))
    turns: Counter[str] = Counter()
    turn_of: dict[str, int] = {}
    for sample in shuffled:
        turn_of[sample.id] = turns[sample.source.fact]
        turns[sample.source.fact] += 1
    return sorted(shuffled, key=lambda sample: turn_of[sample.id])
