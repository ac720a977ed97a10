"""One table of all methods: from the name in a plan to the rows and the trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..data import TrainingItem, TrainingPair, TrainingSample
from ..plan import MethodName
from . import distill, pairs, ppo, preference, pretrain, prompts, reward, rollouts, supervised
from .row import Row
from .setup import Setup


@dataclass(frozen=True)
class Method:
    """How one method gets from records to a trained model."""

    record: type[TrainingSample] | type[TrainingPair]
    """What stands in the phase's `data.jsonl`."""
    rows: Callable[[Any, Sequence[Any], str], Sequence[Row]]
    """The tokens of each record, in order, from tokenizer, records and system prompt."""
    trainer: Callable[[Setup], Any]
    """A trainer whose `train(resume_from_checkpoint=...)` does the phase."""
    makes: Literal["policy", "reward_model"] = "policy"
    packed: Callable[[Sequence[Row], int], Sequence[Row]] = lambda rows, _length: rows
    """What goes through the model, of at most so many tokens each, made of the records' rows."""


METHODS: Mapping[MethodName, Method] = {
    "pretrain": Method(TrainingSample, pretrain.rows, pretrain.trainer, packed=pretrain.blocks),
    "sft": Method(TrainingSample, supervised.rows, supervised.trainer),
    "dpo": Method(TrainingPair, pairs.rows, preference.dpo_trainer),
    "kto": Method(TrainingPair, pairs.rows, preference.kto_trainer),
    "reward": Method(TrainingPair, reward.rows, reward.trainer, makes="reward_model"),
    "grpo": Method(TrainingSample, prompts.rows, rollouts.grpo_trainer),
    "rloo": Method(TrainingSample, prompts.rows, rollouts.rloo_trainer),
    "distill": Method(TrainingSample, prompts.rows, distill.trainer),
    "ppo": Method(TrainingSample, prompts.rows, ppo.trainer),
}


__all__ = ["METHODS", "Method", "Row", "Setup", "TrainingItem"]
