"""The longest micro-batch, once through the model before the first step: too little memory shows in the first minute.

The library trains in an order that is shuffled, so that the batch which does not fit may come hours later.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError
from ..llm.precision import device
from .fits import is_rehearsed, what_fits
from .memory import FLOAT, MOMENTS, longest_batch, read_shape

if TYPE_CHECKING:
    from .methods.setup import Setup
    from .mix import Mix


def rehearse_first(trainer: Any, setup: Setup, mix: Mix) -> None:
    """Let the trainer rehearse when it begins; then too little memory is a ModelError that says what would fit.

    Weights, random states and counts are afterwards what they were before. Nothing is done where it cannot be
    rehearsed (`fits.is_rehearsed`).
    """
    from transformers import TrainerCallback

    class Rehearsal(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            _rehearse(trainer, setup, mix)

    if is_rehearsed(setup.phase, setup.config.train):
        trainer.add_callback(Rehearsal())


def _rehearse(trainer: Any, setup: Setup, mix: Mix) -> None:
    import torch

    count = trainer.args.per_device_train_batch_size
    rows = sorted(range(len(trainer.lengths)), key=lambda row: -trainer.lengths[row])[:count]
    try:
        with _random_states_kept(), _optimizer_held(trainer):
            trainer.rehearse(rows)
    except torch.OutOfMemoryError as error:
        shape, where = read_shape(setup.parent), f"phase {setup.phase.name!r}"
        batch = longest_batch(setup.phase, mix, shape)
        what = f"its longest micro-batch ({batch.rows} x {batch.length:,} tokens) does not fit into the device's memory"
        free = torch.cuda.mem_get_info()[1]
        fix = what_fits(setup.phase, mix, shape, setup.config.train, free)
        raise ModelError(what, where=where, fix=fix) from error


@contextlib.contextmanager
def _optimizer_held(trainer: Any) -> Generator[None]:
    """Take the memory on a GPU that gradients and moments will have from the second step on."""
    import torch

    held: list[Any] = []
    if device() == "cuda" and not trainer.optimizer.state:
        trained = sum(_numel_here(parameter) for parameter in trainer.model.parameters() if parameter.requires_grad)
        gradients = FLOAT if trainer.args.gradient_accumulation_steps > 1 else 0
        held.append(torch.empty(trained * (MOMENTS + gradients), dtype=torch.uint8, device="cuda"))
    yield
    held.clear()


def _numel_here(parameter: Any) -> int:
    """The values of a parameter on this GPU: with FSDP a part of them, and none where they are offloaded."""
    if parameter.device.type != "cuda":
        return 0
    return (parameter.to_local() if hasattr(parameter, "to_local") else parameter).numel()


@contextlib.contextmanager
def _random_states_kept() -> Generator[None]:
    import numpy as np
    import torch

    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numbers)
