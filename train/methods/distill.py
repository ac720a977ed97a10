"""On-policy distillation: the model answers, and learns the teacher's probabilities of each token that it might say.

Over TRL's `DistillationTrainer` (Agarwal et al., arXiv 2306.13649), with the prompts, the order and the draw of
`rollouts`. The teacher sees every token that the student writes, so both must have the same tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core.atomic import read_json
from ...core.errors import ConfigError, ModelError
from ..load import load_model, weights_sha256
from ..masking import load_tokenizer
from ..settings import Distill
from .rollouts import Rollouts, rollout_arguments, rollout_trainer
from .setup import Setup

PARENT = "parent"


def trainer(setup: Setup) -> Any:
    """TRL's trainer on the prompts, ready to `train()`. Raises ModelError."""
    from trl.trainer.distillation_config import DistillationConfig
    from trl.trainer.distillation_trainer import DistillationTrainer

    settings = setup.phase.distill
    assert settings is not None  # the plan was checked
    folder = (setup.origin or setup.parent) if settings.teacher == PARENT else Path(settings.teacher)
    teacher = load_model(folder)
    own, others = read_json(setup.parent / "config.json")["vocab_size"], teacher.config.get_text_config().vocab_size
    if own != others:
        what = f"the teacher's output has {others:,} tokens, the student's {own:,}"
        raise ModelError(what, where=str(folder), fix="use a teacher of the same family")
    arguments = rollout_arguments(DistillationConfig, setup, beta=settings.divergence)
    return rollout_trainer(setup, DistilledRollouts, DistillationTrainer, arguments, teacher_model=teacher)


def teacher_source(settings: Distill, tokenizer: Any) -> list[str]:
    """A hash of the teacher's weights, where it is not the parent. Raises ConfigError where it has other tokens."""
    if settings.teacher == PARENT:
        return []
    folder = Path(settings.teacher)
    if not (folder / "config.json").is_file():
        fix = f"give the folder of a model, or {PARENT!r}"
        raise ConfigError(f"there is no model in {settings.teacher!r}", where="distill.teacher", fix=fix)
    if load_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
        fix = "use a teacher of the same family, or let it write samples for sft instead"
        raise ConfigError(f"{settings.teacher!r} has other tokens than the student", where="distill.teacher", fix=fix)
    return [weights_sha256(folder)]


class DistilledRollouts(Rollouts):
    """The library divides by the number of tokens that it is told."""

    def weigh(self, batch: dict[str, Any], count: int, answers: int) -> None:
        """The tokens of all answers of the step."""
        batch["num_items_in_batch"] = batch["completion_mask"].new_tensor(self.step_trained)
