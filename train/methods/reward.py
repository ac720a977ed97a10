"""A reward model: the parent with one output in place of its vocabulary, which learns to score answers.

TRL's `RewardTrainer` with its loss, -log sigmoid(score of the better answer - score of the worse) (Ouyang et al., arXiv
2203.02155, equation 1), as the mean over the step's pairs however it is accumulated. Dropout is off, as there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..data import TrainingPair
from ..load import without_attention_dropout
from ..reward_model import new_reward_model
from ..trainer import PhaseTraining, adapter_config, library_arguments, phase_trainer
from .pairs import PairLoss, tokenize_sides
from .row import Row
from .setup import Setup


@dataclass(frozen=True)
class ScoredTokens:
    """Both conversations of a pair, whole."""

    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def length(self) -> int:
        """Tokens of the longer one."""
        return max(len(self.chosen_ids), len(self.rejected_ids))

    @property
    def tokens(self) -> int:
        """Tokens of both."""
        return len(self.chosen_ids) + len(self.rejected_ids)

    @property
    def trained(self) -> int:
        """Each is scored at one token."""
        return 2

    @property
    def places(self) -> tuple[()]:
        """None: there is no vocabulary."""
        return ()

    def ids(self) -> list[list[int]]:
        """Both, for a hash."""
        return [self.chosen_ids, self.rejected_ids]


def rows(tokenizer: Any, pairs: Sequence[TrainingPair], system_prompt: str) -> list[ScoredTokens]:
    """The tokens of each pair, in order. Raises ModelError, DataError."""
    return [
        ScoredTokens(chosen.input_ids, rejected.input_ids)
        for chosen, rejected in tokenize_sides(tokenizer, pairs, system_prompt)
    ]


def trainer(setup: Setup) -> Any:
    """TRL's trainer on the rows, ready to `train()`."""
    from datasets import Dataset
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    phase = setup.phase
    model = without_attention_dropout(new_reward_model(setup.parent, setup.tokenizer, setup.seed, phase.adapter))

    def dataset(rows: Sequence[Row]) -> Dataset:
        columns = "chosen_ids", "rejected_ids"
        return Dataset.from_dict({name: [getattr(row, name) for row in rows] for name in columns})

    return phase_trainer(
        type("ScoreTrainer", (ScoreLoss, PhaseTraining, RewardTrainer), {}),
        model,
        [row.length for row in setup.rows],
        setup.watch,
        args=library_arguments(
            RewardConfig, phase, setup.checkpoints, setup.seed, parameters=model.num_parameters(), max_length=None
        ),
        train_dataset=dataset(setup.rows),
        eval_dataset=dataset(setup.validation) if setup.validation else None,
        processing_class=copy.deepcopy(setup.tokenizer),  # the library gives one without a padding token its own
        peft_config=adapter_config(model, phase, "SEQ_CLS"),
    )


class ScoreLoss(PairLoss):
    """See the module."""

    def rewards(self, model: Any, inputs: Any) -> Any:
        """Its score."""
        return model(**inputs, use_cache=False).logits.squeeze(-1).float()

    def count_trained(self, batch: Any) -> int:
        """The tokens that are scored: one of each conversation."""
        return len(batch["input_ids"])
