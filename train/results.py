"""The records that training leaves behind: what each optimizer step did, each phase, and the whole run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ..core.records import Record
from .mix import Mix
from .plan import Phase


class Step(Record):
    """One optimizer step: a line of `metrics.jsonl`."""

    step: int
    """From 1."""
    epoch: float
    """How many passes over the data are done after this step."""
    loss: float
    """Mean over the step's trained tokens, before the update, in nats."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    tokens: int
    """Tokens that went through the model, padding left out."""
    trained_tokens: int
    seconds: float
    """Wall clock since the step before (or since training began)."""


class PhaseResult(Record):
    """What a phase did (`result.json`, written last: a phase with one is done). A skipped phase has a reason only."""

    phase: str
    status: Literal["trained", "skipped"]
    reason: str = ""
    folder: str = ""
    """Under the run's folder; its `model/` is deleted once a later phase has one."""
    inputs: str = ""
    """Fingerprint of all that decides the weights: settings, data, tokens, parent, seed."""
    settings: Phase | None = None
    mix: Mix | None = None
    seed: int = 0
    steps: int = 0
    final_loss: float = 0.0
    """Mean over the trained tokens of the last epoch, in nats."""
    seconds: float = 0.0
    """In optimizer steps, over all runs that it took."""
    tokens_per_s: float = 0.0
    """Tokens (padding left out) per second of optimizer steps."""
    parent_sha256: str = ""
    weights_sha256: str = ""
    dtype: str = ""
    """What matrices are multiplied in; weights and optimizer are float32 whatever it says."""
    device: str = ""
    versions: Mapping[str, str] = {}


class TrainResult(Record):
    """What a plan did."""

    model: Path
    """The last phase's model: a plain Hugging Face folder."""
    phases: tuple[PhaseResult, ...]
    """In the plan's order, skipped ones too."""
