"""`metrics.jsonl`: a line per optimizer step, written as the step ends by the process that also writes checkpoints.

So no checkpoint is ahead of the lines of its steps; they are on the disk before it has its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from ..core.errors import DataError
from ..core.jsonl import read_records
from ..core.records import Record


class Step(Record):
    """One optimizer step: a line of `metrics.jsonl`."""

    step: int
    """From 1."""
    epoch: float
    """How many passes over the data are done after this step."""
    loss: float
    """Mean over the step's trained tokens (or its pairs, or answers), before the update; of tokens in nats."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    tokens: int
    """Of all rows of the step, padding left out; what rows share counts in each, though it may go through once."""
    trained_tokens: int
    seconds: float
    """Wall clock since the step before (or since training began)."""
    tokens_per_s: float = 0.0
    """Useful tokens: padding left out."""
    mfu: float | None = None
    """The share of the devices' arithmetic that was of use (see `flops`): one pass over the tokens forward and back.
    To draw answers, to ask other models and to pass over answers again counts as of no use. None in older files."""
    more: Mapping[str, float] = Field(default_factory=dict)
    """What the method says of the step besides, by the library's names (`rewards/margins`, `kl`)."""


def add_step(file: Path, step: Step) -> None:
    """One more line. Raises OSError."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(step.model_dump_json() + "\n")


def read_steps(file: Path) -> list[Step]:
    """The steps from the first on, as far as they are there: a kill may have torn the last line."""
    steps: list[Step] = []
    with contextlib.suppress(DataError):
        for step in read_records(file, Step):
            if step.step != len(steps) + 1:
                break
            steps.append(step)
    return steps
