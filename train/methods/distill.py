"""On-policy distillation: the model answers, and learns the teacher's probabilities of each token that it might say.

Over TRL's `DistillationTrainer` (Agarwal et al., arXiv 2306.13649), with the prompts, the order and the draw of
`rollouts`. The teacher sees every token that the student writes, so both must have the same tokens. Their outputs may
be padded to different sizes, as models of one family are: the teacher's gets the student's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ...llm.local import context_tokens
from ...llm.untrusted import open_config
from ..load import load_model, weights_sha256
from ..masking import load_tokenizer
from ..settings import Distill
from .rollouts import Rollouts, rollout_arguments, rollout_trainer
from .setup import Setup

PARENT = "parent"
_NEVER = -1e4
"""A logit."""


def trainer(setup: Setup) -> Any:
    """TRL's trainer on the prompts, ready to `train()`."""
    from trl.trainer.distillation_config import DistillationConfig
    from trl.trainer.distillation_trainer import DistillationTrainer

    settings = setup.phase.distill
    assert settings is not None  # the plan was checked
    teacher = load_model((setup.origin or setup.parent) if settings.teacher == PARENT else Path(settings.teacher))
    _pad_output(teacher, _output_size(setup.parent))
    arguments = rollout_arguments(DistillationConfig, setup, beta=settings.divergence)
    return rollout_trainer(setup, DistilledRollouts, DistillationTrainer, arguments, teacher_model=teacher)


def teacher_source(settings: Distill, tokenizer: Any) -> list[str]:
    """A hash of the teacher's weights, where it is not the parent. Raises ConfigError, ModelError: it cannot teach."""
    if settings.teacher == PARENT:
        return []
    folder = Path(settings.teacher)
    if not (folder / "config.json").is_file():
        fix = f"give the folder of a model, or {PARENT!r}"
        raise ConfigError(f"there is no model in {settings.teacher!r}", where="distill.teacher", fix=fix)
    fix = "use a teacher of the same family, or let it write samples for sft instead"
    if load_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
        raise ConfigError(f"{settings.teacher!r} has other tokens than the student", where="distill.teacher", fix=fix)
    if (size := _output_size(folder)) < len(tokenizer):
        what = f"the output of {settings.teacher!r} has {size:,} tokens, its tokenizer {len(tokenizer):,}"
        raise ConfigError(what, where="distill.teacher", fix=fix)
    return [weights_sha256(folder)]


def taught_context(settings: Distill | None, tokenizer: Any, context: int) -> int:
    """The most tokens that a student of this context and its teacher both hold. Raises ModelError."""
    if settings is None or settings.teacher == PARENT:
        return context
    return min(context, context_tokens(open_config(Path(settings.teacher)), tokenizer))


def _output_size(folder: Path) -> int:
    """How many tokens a model has probabilities for: those of its tokenizer, and often some that no text has.

    Raises ModelError.
    """
    return open_config(folder).get_text_config().vocab_size


def _pad_output(teacher: Any, size: int) -> None:
    """Give a teacher's output and embeddings the student's size: what is cut or added is padding, of no text.

    What is added is never said: a logit of 0 would be likely where all others are far below.
    """
    import torch

    own = teacher.config.get_text_config().vocab_size
    teacher.resize_token_embeddings(size, mean_resizing=False)
    head = teacher.get_output_embeddings()
    for layer in (teacher.get_input_embeddings(), head):
        layer.weight.data[own:] = 0  # the library draws what it adds at random
    if size > own:
        bias = head.weight.new_zeros(size) if head.bias is None else head.bias.data
        bias[own:] = _NEVER
        head.bias = torch.nn.Parameter(bias, requires_grad=False)


class DistilledRollouts(Rollouts):
    """The library divides by the number of tokens that it is told."""

    def weigh(self, batch: dict[str, Any], count: int, answers: int) -> None:
        """The tokens of all answers of the step."""
        batch["num_items_in_batch"] = batch["completion_mask"].new_tensor(self.step_trained)
