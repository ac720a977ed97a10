"""`metrics.jsonl`: a line per optimizer step, written as the step ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from ..core.errors import DataError
from ..core.jsonl import read_records, write_records
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
    """Tokens that went through the model, padding left out."""
    trained_tokens: int
    seconds: float
    """Wall clock since the step before (or since training began)."""
    tokens_per_s: float = 0.0
    """Useful tokens: padding left out."""
    mfu: float | None = None
    """The share of the devices' arithmetic that was of use (see `flops`); None where the method does not count it."""
    more: Mapping[str, float] = Field(default_factory=dict)
    """What the method says of the step besides, by the library's names (`rewards/margins`, `kl`)."""


class StepLog:
    """The steps of a phase, in memory and on disk. The first `keep` of an interrupted run stay, the rest goes."""

    def __init__(self, path: Path, *, keep: int) -> None:
        self._path = path
        self.steps = _read(path, keep) if keep else []
        write_records(path, self.steps)

    def add(self, step: Step) -> None:
        """One more step. Raises OSError."""
        self.steps.append(step)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(step.model_dump_json() + "\n")


def _read(path: Path, keep: int) -> list[Step]:
    """The steps 1 to `keep`, as far as they are there: a kill may have torn a line, but none before a checkpoint."""
    steps: list[Step] = []
    try:
        for step in read_records(path, Step):
            if step.step > keep:
                break
            steps.append(step)
    except DataError:
        return steps
    return steps
