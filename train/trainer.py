"""TRL's trainer with what a phase of tilth must be sure of: its loss, its order, its checkpoints, its silence.

`ExactTraining` is mixed into TRL's `SFTTrainer`; it replaces five things of it and leaves the loop, the optimizer, the
schedule and resuming to the library:

- the order of the samples is a function of seed and epoch (theirs draws from the global generator, which a resumed run
  finds in another state);
- the loss is the sum over the trained tokens divided by their number in the whole step, however it is accumulated, and
  only the positions that some sample trains go through the output head (theirs, on a CPU, takes all, in float32);
- a checkpoint is sealed before an older one goes;
- each step is handed to a function of ours instead of being printed;
- no telemetry is sent, no model card written.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import CheckFailed
from ..llm.precision import compute_dtype, device
from . import checkpoints
from .masking import IGNORED, Tokens
from .order import EpochSampler
from .plan import Phase
from .results import Step

_BETAS = (0.9, 0.95)
_CHECKPOINT_ACTIVATIONS_FROM = 1_000_000_000
"""Parameters from which activations are recomputed in the backward pass: a third more work for most of the memory."""


_LibraryTrainer: Any = object
"""Stands for the trainer that `make_trainer` puts underneath: torch is not imported before it is needed."""


@dataclass
class Watch:
    """How a phase follows its training, and how it asks it to stop."""

    on_step: Callable[[Step], None]
    checkpoint_every_s: float
    stop_asked: bool = False
    """Set it, and training ends after the step it is in, with a checkpoint."""


def make_trainer(model: Any, tokenizer: Any, rows: Sequence[Tokens], phase: Phase, arguments: Any, watch: Watch) -> Any:
    """A trainer ready to `train()` on the rows, with `training_arguments`; a LoRA phase wraps the model."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

    dataset = Dataset.from_dict({"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]})
    # Passed, because left to itself TRL writes its choice of padding token into tokenizer and model configuration.
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    kind = type("PhaseTrainer", (ExactTraining, SFTTrainer), {})
    with warnings.catch_warnings():
        # peft 0.21 reads an attribute that transformers 5.23 has renamed: nothing that a user could act on.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        trainer = kind(
            model=model,
            args=arguments,
            data_collator=DataCollatorForLanguageModeling(pad_token_id=pad),
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=_adapter(phase),
        )
    trainer.remove_callback(PrinterCallback)
    trainer.lengths = [len(row.input_ids) for row in rows]
    trainer.watch = watch
    return trainer


def training_arguments(phase: Phase, folder: Path, seed: int, *, num_parameters: int) -> Any:
    """A phase in the library's words; checkpoints go to `folder`."""
    import torch
    from trl.trainer.sft_config import SFTConfig

    on_cpu = device() == "cpu"
    warm = phase.schedule == "constant" and phase.warmup_ratio > 0
    return SFTConfig(
        output_dir=str(folder),
        seed=seed,
        num_train_epochs=phase.epochs,
        per_device_train_batch_size=phase.micro_batch_size,
        gradient_accumulation_steps=phase.batch_size // phase.micro_batch_size,
        learning_rate=phase.learning_rate,
        lr_scheduler_type="constant_with_warmup" if warm else phase.schedule,
        warmup_steps=phase.warmup_ratio,
        weight_decay=phase.weight_decay,
        max_grad_norm=phase.clip_norm,
        neftune_noise_alpha=phase.neftune_alpha or None,
        adam_beta1=_BETAS[0],
        adam_beta2=_BETAS[1],
        optim="adamw_torch_fused",
        use_cpu=on_cpu,
        bf16=compute_dtype() == torch.bfloat16,  # autocast only: weights and optimizer stay float32
        activation_checkpointing=num_parameters >= _CHECKPOINT_ACTIVATIONS_FROM,
        dataset_kwargs={"skip_prepare_dataset": True},  # the rows are ready; nothing may cut or relabel them
        max_length=None,
        dataloader_pin_memory=not on_cpu,
        save_strategy="no",  # `Watch` says when
        logging_steps=1,
        logging_nan_inf_filter=False,  # else a loss that is not finite is shown as the last one that was
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def _adapter(phase: Phase) -> Any:
    if phase.adapter == "none":
        return None
    import peft

    config: Any = peft.LoraConfig  # its `lora_alpha: int` takes a float as well
    return config(
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        r=phase.lora.rank,
        lora_alpha=phase.lora.alpha,
        lora_dropout=phase.lora.dropout,
    )


class ExactTraining(_LibraryTrainer):
    """See the module. The attributes of the library that are used here are declared, not typed: it has no stubs."""

    args: Any
    state: Any
    control: Any
    loss_is_scaled_for_ga = True
    """Tells the library not to divide by the accumulation steps once more (transformers `training_step`)."""

    lengths: Sequence[int]
    watch: Watch
    _step_tokens = 0
    _step_trained = 0
    _step_started = 0.0
    _saved_at = 0.0

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Start the clocks, then train."""
        self._step_started = self._saved_at = time.monotonic()
        return super().train(*args, **kwargs)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], int]:
        """The micro-batches of one step and how many trained tokens they hold."""
        batches: list[Any] = super().get_batch_samples(epoch_iterator, num_batches, device)[0]
        self._step_tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
        self._step_trained = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches)
        return batches, self._step_trained

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: int = 1
    ) -> Any:
        """The micro-batch's part of the step's mean loss: its summed cross-entropy over the step's trained tokens."""
        import torch

        targets = inputs.pop("labels")[:, 1:]
        places = (targets != IGNORED).any(dim=0).nonzero().flatten()
        logits = model(**inputs, use_cache=False, logits_to_keep=places).logits
        summed = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), targets[:, places].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return summed / num_items_in_batch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called after each step: report it, and ask the library for a checkpoint when one is due."""
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            what = f"the loss became {logs['loss']} at step {self.state.global_step}"
            raise CheckFailed(what, fix="lower the phase's learning_rate or lengthen its warm-up")
        now = time.monotonic()
        self.watch.on_step(
            Step(
                step=self.state.global_step,
                epoch=round(self.state.epoch, 6),
                loss=logs["loss"],
                learning_rate=logs["learning_rate"],
                grad_norm=logs["grad_norm"],
                tokens=self._step_tokens,
                trained_tokens=self._step_trained,
                seconds=round(now - self._step_started, 6),
            )
        )
        if self.watch.stop_asked:
            self.control.should_save = self.control.should_training_stop = True
        elif now - self._saved_at > self.watch.checkpoint_every_s and self.state.global_step < self.state.max_steps:
            self.control.should_save = True
        self._step_started = now

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        checkpoints.seal(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")
        self._step_started = self._saved_at = time.monotonic()

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        batch_size = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return EpochSampler(self.lengths, batch_size, self.args.seed)

    def _send_telemetry(self) -> None:
        """Nothing leaves this machine that the user did not ask for."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """A checkpoint needs none."""
