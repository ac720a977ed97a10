"""What a method is given to make its trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.config import Config
from ..auto import Resolved
from ..trainer import Watch
from .row import Row


@dataclass(frozen=True)
class Setup:
    """One phase, ready to be trained."""

    phase: Resolved
    parent: Path
    """The model that the phase starts from."""
    models: Mapping[str, Path]
    """The reward models of earlier phases, by the phase's name."""
    tokenizer: Any
    rows: Sequence[Row]
    checkpoints: Path
    seed: int
    config: Config
    watch: Watch
    origin: Path | None = None
    """The model that the plan starts from, where the phase starts from another."""
    validation: Sequence[Row] = ()
    """Rows held back: the trainer's `eval_dataset`, which its `measure` is given in batches after each epoch."""
