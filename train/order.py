"""The order in which samples are trained: a function of the seed and the epoch alone, so that a resumed run repeats it.

Samples of similar length share a batch, which saves padding: the shuffled samples are taken in pools of a few batches,
each pool is sorted by length and cut, and the batches are shuffled again.

How many processes there are changes nothing of it: a step has the same samples, dealt out to them.
"""

from __future__ import annotations

import math
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


class EpochBatches:
    """The micro-batches of one of `processes` processes, as the batch sampler of a data loader.

    `epochs_of` says of each row in which epochs, from 1, it is trained (empty: in all); all epochs have as many rows.
    `batch_size` is that of a step, over all processes. A step's micro-batches go to the processes in turn; each process
    must make as many passes as the others, so where the last step of an epoch has too few samples for that, some end
    with fillers: micro-batches whose loss must not count (see `counted`).
    """

    drop_last = True
    """Nothing is dropped; it keeps accelerate, which would complete the last batch, from adding one."""

    def __init__(  # noqa: PLR0913 (what an order follows from)
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int,
        *,
        micro_batch_size: int,
        process: int = 0,
        processes: int = 1,
        epochs_of: Sequence[Sequence[int]] = (),
    ) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._epochs_of = epochs_of
        self._micro_batch_size, self._process, self._processes = micro_batch_size, process, processes
        self._epoch = 0
        self._an_epoch = len(self._rows())

    def _rows(self) -> list[int]:
        """Those of the epoch."""
        rests = {row for row, epochs in enumerate(self._epochs_of) if epochs and self._epoch + 1 not in epochs}
        return [row for row in range(len(self._lengths)) if row not in rests]

    def set_epoch(self, epoch: int) -> None:
        """The next pass is pass `epoch`, from 0."""
        self._epoch = epoch

    def counted(self, step: int) -> int:
        """How many of the micro-batches of a step of the epoch (from 0) are no fillers."""
        samples = min(self._batch_size, self._an_epoch - step * self._batch_size)
        return max(0, math.ceil((self._pieces(samples) - self._process) / self._processes))

    def __len__(self) -> int:
        full, rest = divmod(self._an_epoch, self._batch_size)
        return full * self._rounds(self._batch_size) + self._rounds(rest)

    def __iter__(self) -> Iterator[list[int]]:
        rows = self._rows()
        lengths = [self._lengths[row] for row in rows]
        order = [rows[place] for place in epoch_order(lengths, self._batch_size, self._seed, self._epoch)]
        for start in range(0, len(order), self._batch_size):
            yield from self._dealt(order[start : start + self._batch_size])

    def _dealt(self, step: list[int]) -> Iterator[list[int]]:
        for turn in range(self._rounds(len(step))):
            start = (turn * self._processes + self._process) * self._micro_batch_size
            yield step[start : start + self._micro_batch_size] or step[:1]

    def _pieces(self, samples: int) -> int:
        return math.ceil(samples / self._micro_batch_size)

    def _rounds(self, samples: int) -> int:
        return math.ceil(self._pieces(samples) / self._processes)
