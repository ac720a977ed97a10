"""The order in which samples are trained: a function of the seed and the epoch alone, so that a resumed run repeats it.

Samples of similar length share a batch, which saves padding: the shuffled samples are taken in pools of a few batches,
each pool is sorted by length and cut, and the batches are shuffled again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_POOL_BATCHES = 8
"""Batches per pool: more saves more padding, fewer makes batches more random (a batch's mates change each epoch)."""


def epoch_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[int]:
    """Indices of all samples for one epoch. A last batch that is not full stays last, so accumulation never shifts."""
    rng = random.Random(f"{seed}/{epoch}")  # noqa: S311 (a reproducible order, not a secret)
    shuffled = rng.sample(range(len(lengths)), len(lengths))
    full = len(shuffled) - len(shuffled) % batch_size
    batches: list[list[int]] = []
    for start in range(0, full, batch_size * _POOL_BATCHES):
        pool = sorted(shuffled[start : min(start + batch_size * _POOL_BATCHES, full)], key=lambda index: lengths[index])
        batches += [pool[place : place + batch_size] for place in range(0, len(pool), batch_size)]
    rng.shuffle(batches)
    return [index for batch in (*batches, shuffled[full:]) for index in batch]


class EpochSampler:
    """`epoch_order` as the sampler of a data loader, which tells it the epoch before each pass."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The next pass is pass `epoch`, from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(epoch_order(self._lengths, self._batch_size, self._seed, self._epoch))
