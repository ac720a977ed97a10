from __future__ import annotations

import math

import pytest
from tilth.train.order import EpochBatches, epoch_order


@pytest.mark.parametrize("samples", [1, 7, 16, 21, 24])
@pytest.mark.parametrize(("batch_size", "micro_batch_size", "processes"), [(8, 2, 1), (8, 2, 2), (8, 1, 4), (6, 2, 3)])
def test_a_step_has_the_same_samples_however_many_processes_share_it(
    samples: int, batch_size: int, micro_batch_size: int, processes: int
) -> None:
    lengths = [index % 5 for index in range(samples)]
    shares = [
        EpochBatches(lengths, batch_size, 3, micro_batch_size=micro_batch_size, process=process, processes=processes)
        for process in range(processes)
    ]
    for epoch in (0, 2):
        order = epoch_order(lengths, batch_size, 3, epoch)
        dealt = []
        for share in shares:
            share.set_epoch(epoch)
            dealt.append(list(share))
        assert {len(batches) for batches in dealt} == {len(share) for share in shares}
        passes = batch_size // micro_batch_size // processes
        for step in range(math.ceil(samples / batch_size)):
            own = [batches[step * passes : (step + 1) * passes] for batches in dealt]
            assert len({len(batches) for batches in own}) == 1
            counted = [batches[: share.counted(step)] for batches, share in zip(own, shares, strict=True)]
            seen = [index for batches in counted for batch in batches for index in batch]
            assert sorted(seen) == sorted(order[step * batch_size : (step + 1) * batch_size])
            fillers = [batch for all_, real in zip(own, counted, strict=True) for batch in all_[len(real) :]]
            assert all(len(batch) == 1 for batch in fillers)
            assert all(len(batches) <= math.ceil(samples / micro_batch_size) for batches in own)


def test_rows_that_take_turns_are_trained_in_their_epochs_alone() -> None:
    epochs_of = [(), (1,), (2,), (), (1, 2)]
    batches = EpochBatches([1] * 5, 2, 7, micro_batch_size=2, epochs_of=epochs_of)
    for epoch, rows in ((0, {0, 1, 3, 4}), (1, {0, 2, 3, 4})):
        batches.set_epoch(epoch)
        seen = [row for batch in batches for row in batch]
        assert (set(seen), len(seen), len(batches)) == (rows, 4, 2)


def test_one_process_has_the_order_itself() -> None:
    batches = EpochBatches([5, 1, 2], 2, 7, micro_batch_size=1)
    assert [index for batch in batches for index in batch] == epoch_order([5, 1, 2], 2, 7, 0)
    assert [batches.counted(0), batches.counted(1)] == [2, 1]
