"""How much disk a run will need at most, foreseen: a full one would stop it hours later, while a checkpoint is written.

A new checkpoint is whole before an old one goes, and so is a new best model; the models of all phases stay, and so do
those of other epochs that are kept. A mean with the parent is written beside each model that it takes the place of.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import CheckFailed
from .auto import Resolved
from .memory import FLOAT, MOMENTS, Shape, gigabytes
from .plan import LEARNS_FROM_ANSWERS


@dataclass(frozen=True)
class Disk:
    """Bytes that a phase writes."""

    checkpoint: int
    """The weights and AdamW's two moments of those that are trained, in float32; of an adapter its own alone.

    DeepSpeed writes the module and a master copy of what is trained too, with ZeRO-3 a copy only.
    """
    model: int
    """A whole model: the phase's result, and each that is kept aside as one of the best."""
    beside: int
    """The models of other epochs, which stay beside the result."""
    most: int
    """All that is there at once, at most."""


def disk_of(phase: Resolved, shape: Shape, *, keep_checkpoints: int, distributed: str = "none") -> Disk:
    """What a phase on a model of this shape will write."""
    trained = shape.trained(phase)
    held = trained if phase.adapter != "none" else shape.parameters  # beside an adapter its model is not written
    shared = "none" if phase.method in LEARNS_FROM_ANSWERS else distributed  # one process trains those
    master = FLOAT * (trained if shared in {"zero1", "zero2"} else held if shared == "zero3" else 0)
    module = FLOAT * held if shared in {"zero1", "zero2"} else 0
    checkpoint = FLOAT * held + MOMENTS * trained + master + module
    model = FLOAT * shape.parameters
    beside = (min(phase.select.keep, phase.epochs) - 1) * model
    aside = model + beside if phase.select.by != "last" else 0
    # A checkpoint or a better model while it trains; at its end what is aside is copied, and averaged.
    most = keep_checkpoints * checkpoint + aside + max(checkpoint, model + beside + (model if phase.average else 0))
    return Disk(checkpoint, model, beside, most)


def check_disk(
    phases: Sequence[tuple[Resolved, Path]], shape: Shape, *, keep_checkpoints: int, distributed: str = "none"
) -> None:
    """Raise CheckFailed if the phases to come, each with its folder, cannot have been written one after another.

    What an interrupted run has left in the folders is part of what is needed.
    """
    left = (path for _, folder in phases for path in folder.glob("checkpoints/**/*"))
    there = sum(path.stat().st_size for path in left if path.is_file())
    kept = 0
    for phase, folder in phases:
        disk = disk_of(phase, shape, keep_checkpoints=keep_checkpoints, distributed=distributed)
        need, free = kept + disk.most, there + shutil.disk_usage(_nearest(folder)).free
        if need > free:
            each = f"{keep_checkpoints + 1} checkpoints of {gigabytes(disk.checkpoint)}"
            models = 1 + disk.beside // disk.model
            parts = f"{each}, {models} {'models' if models > 1 else 'model'} of {gigabytes(disk.model)}"
            what = f"it needs up to {gigabytes(need)} of disk ({parts}), but only {gigabytes(free)} are free"
            instead = "" if phase.trainable == "all" else f" instead of `trainable: {phase.trainable}`"
            smaller = f", or train with `adapter: lora`{instead}" if phase.adapter == "none" else ""
            fix = f"free some (`tilth releases prune` shows what may go){smaller}"
            raise CheckFailed(what, where=f"phase {phase.name!r}", fix=fix)
        kept += disk.beside + disk.model


def _nearest(folder: Path) -> Path:
    """The folder, or the one it will be made in."""
    return folder if folder.exists() else _nearest(folder.parent)
