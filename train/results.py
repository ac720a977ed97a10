"""The records that training leaves behind: what each phase did, and the whole run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ..core.records import Record
from .auto import Resolved
from .mix import Mix


class PhaseResult(Record):
    """What a phase did (`result.json`, written last: a phase with one is done). A skipped phase has a reason only."""

    phase: str
    status: Literal["trained", "skipped"]
    reason: str = ""
    folder: str = ""
    """Under the run's folder."""
    inputs: str = ""
    """Fingerprint of all that decides the weights: settings, data, tokens, parent, seed."""
    makes: Literal["policy", "reward_model"] = "policy"
    """Whether the phase trained the model itself, or a reward model that later phases may name."""
    settings: Resolved | None = None
    auto: Mapping[str, str] = {}
    """What each `auto` of the plan became, and each number of it that was lowered, and why."""
    mix: Mix | None = None
    seed: int = 0
    steps: int = 0
    epoch: int = 0
    """The epoch whose model this is: the last one trained, or the best by the phase's `select`."""
    final_loss: float = 0.0
    """Mean over the last epoch's steps, each weighing as much as it trained tokens; of `sft` and `pretrain` in nats."""
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

    @property
    def weights_sha256(self) -> str:
        """Of the model."""
        policies = [phase for phase in self.phases if phase.status == "trained" and phase.makes == "policy"]
        return policies[-1].weights_sha256
