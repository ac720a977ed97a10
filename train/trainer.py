"""The library's trainers with what a phase of tilth must be sure of: its order, its checkpoints, its silence.

`PhaseTraining` is mixed into a trainer of TRL; it replaces these things of it and leaves the loop, the optimizer, the
schedule and resuming to the library:

- the order of the samples is a function of seed and epoch (theirs draws from the global generator, which a resumed run
  finds in another state);
- a checkpoint is written aside and gets its name when it is whole, before an older one goes;
- the end of an epoch is ours, to look at the model;
- each step is handed to a function of ours instead of being printed;
- no telemetry is sent, no model card written.

What a method's loss must be sure of is beside the method (`methods/`).
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import CheckFailed
from ..llm.precision import compute_dtype, device
from . import adapters, checkpoints, distributed
from .flops import Shape, peak_flops, shape, step_flops
from .load import adapted_matrices
from .merge import merged_weights
from .metrics import Step
from .order import EpochBatches

if TYPE_CHECKING:
    from .auto import Resolved
    from .selection import Evaluation

_BETAS = (0.9, 0.95)
_CHECKPOINT_ACTIVATIONS_FROM = 1_000_000_000
"""Parameters from which activations are recomputed in the backward pass: a third more work for most of the memory."""


_NEW_ADAPTER = (
    "a new adapter, on the model with the kept one merged: that one is of another rank or alpha, or the weights are in "
    "4 bits"
)

_LibraryTrainer: Any = object
"""Stands for the trainer that `phase_trainer` puts underneath: torch is not imported before it is needed."""

HeldOut = Callable[[Path], int]
"""How many generated held-out questions the model in a folder answers rightly; never those that people wrote."""


@dataclass
class Watch:
    """How a phase follows its training, and how it asks it to stop."""

    on_step: Callable[[Step], None]
    checkpoint_every_s: float
    stop_asked: bool = False
    """Set it, and training ends after the step it is in, with a checkpoint."""
    say: Callable[[str], None] = lambda _line: None
    """Told a line after each epoch."""
    on_evaluation: Callable[[Evaluation], None] = lambda _evaluation: None
    """Told what each epoch was measured to be, after its last step."""
    before_checkpoint: Callable[[], None] = lambda: None
    """Called before a checkpoint gets its name."""
    held_out: HeldOut | None = None
    """For phases that select by it."""
    keep_checkpoints: int = 1
    keep_adapter: bool = False
    """Whether the model's folder gets the adapter as well, for the next phase to go on with."""
    on_epoch: Callable[[Any], bool] = lambda _trainer: False
    """Called with the trainer after the last step of each epoch, before any checkpoint of that step: looks at the
    model, changes nothing, and says whether training ends here."""


def library_arguments(kind: Any, phase: Resolved, folder: Path, seed: int, *, parameters: int, **own: Any) -> Any:
    """A phase in the library's words: `kind` is the configuration class of its trainer, `own` what only that one has.

    Checkpoints go to `folder`.
    """
    import torch

    on_cpu = device() == "cpu"
    warm = phase.schedule == "constant" and phase.warmup_ratio > 0
    arguments = kind(
        output_dir=str(folder),
        seed=seed,
        num_train_epochs=phase.epochs,
        **distributed.arguments(phase),
        learning_rate=phase.learning_rate,
        lr_scheduler_type="constant_with_warmup" if warm else phase.schedule,
        warmup_steps=phase.warmup_ratio,
        weight_decay=phase.weight_decay,
        max_grad_norm=phase.clip_norm,
        adam_beta1=_BETAS[0],
        adam_beta2=_BETAS[1],
        optim="adamw_torch_fused",
        use_cpu=on_cpu,
        # Autocast only: weights and optimizer stay float32.
        bf16=compute_dtype() == torch.bfloat16 and not distributed.casts_itself(),
        activation_checkpointing=recomputes(parameters),
        dataloader_pin_memory=not on_cpu,
        save_strategy="no",  # `Watch` says when
        logging_steps=1,
        logging_nan_inf_filter=False,  # else a loss that is not finite is shown as the last one that was
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        **own,
    )
    if hasattr(arguments, "router_aux_loss_coef"):
        # What an uneven use of experts costs: pretraining's, no part of what these methods are proven for.
        arguments.router_aux_loss_coef = 0.0
    arguments._n_gpu = min(1, arguments.n_gpu)  # noqa: SLF001 (else it would split our batches over all that it sees)
    distributed.settle(arguments)
    return arguments


def recomputes(parameters: int) -> bool:
    """Whether the activations of a model of this size are recomputed in the backward pass instead of kept."""
    return parameters >= _CHECKPOINT_ACTIVATIONS_FROM


def adapter_config(model: Any, phase: Resolved, task: str = "CAUSAL_LM") -> Any:
    """The adapter of a LoRA phase on a model, or None."""
    if phase.adapter == "none":
        return None
    import peft

    config: Any = peft.LoraConfig  # its `lora_alpha: int` takes a float as well
    return config(
        task_type=task,
        target_modules=adapted_matrices(model),
        r=phase.lora.rank,
        lora_alpha=phase.lora.alpha,
        lora_dropout=phase.lora.dropout,
    )


def phase_trainer(kind: type, model: Any, lengths: Sequence[int], watch: Watch, **given: Any) -> Any:
    """A trainer of class `kind` (a `PhaseTraining` over one of the library's), ready to `train()`.

    `lengths` are the tokens of the rows, in their order; `given` is what the library's trainer takes.
    """
    from transformers import PrinterCallback, set_seed

    set_seed(given["args"].seed)  # a new adapter follows from it, not from what this process has drawn before
    adapters.keep_unpacked(model)
    size = shape(model, whole=given.get("peft_config") is None)
    untouched = copy.deepcopy((model.config, getattr(model, "generation_config", None)))
    with warnings.catch_warnings():
        # peft 0.21 reads an attribute that transformers 5.23 has renamed: nothing that a user could act on.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        trainer: Any = kind(model=model, **given)
    if trainer.model is not model:
        adapters.train_in_float32(trainer.model)
        kept = Path(model.name_or_path) / adapters.FOLDER
        if not adapters.go_on_with_adapter(trainer.model, kept) and kept.is_dir() and distributed.is_first():
            watch.say(_NEW_ADAPTER)
    trainer.remove_callback(PrinterCallback)
    trainer.plain, trainer.untouched, trainer.shape = model, untouched, size
    trainer.lengths, trainer.watch = lengths, watch
    return trainer


def check_finite(number: float, step: int, what: str = "loss") -> None:
    """Raise CheckFailed for a loss, or another number of training, that is none or has no bound."""
    if not math.isfinite(number):
        what = f"the {what} became {number} at step {step}"
        raise CheckFailed(what, fix="lower the phase's learning_rate or lengthen its warm-up")


def _configure(model: Any, configurations: tuple[Any, Any]) -> None:
    model.config, generation = configurations
    if generation is not None:
        model.generation_config = generation


class PhaseTraining(_LibraryTrainer):
    """See the module. The attributes of the library that are used here are declared, not typed: it has no stubs."""

    args: Any
    state: Any
    control: Any
    model: Any
    model_wrapped: Any
    train_dataset: Any
    data_collator: Any

    plain: Any
    """The model as it was given, which an adapter wraps."""
    shape: Shape
    untouched: tuple[Any, Any]
    """Its configurations before training."""
    lengths: Sequence[int]
    epochs_of: Sequence[Sequence[int]] = ()
    """Of each row the epochs, from 1, that train it; empty: all."""
    watch: Watch
    step_tokens = 0
    """Tokens of the step under way; a method counts them."""
    step_spared = 0
    """Those of them that need not go through the model, for rows share them."""
    step_trained = 0
    _metrics: Mapping[str, dict[str, list[float]]]
    """The library's: numbers that the method notes in a step, by whether it trains or evaluates, and by name."""
    step_squares = 0
    """Of the step's tokens: how many attend to one another, squared and added up over the rows (attention's cost)."""
    _batches: EpochBatches | None = None
    _step_started = 0.0
    _saved_at = 0.0

    def create_accelerator_and_postprocess(self) -> None:
        """Called first of all by the library's constructor."""
        super().create_accelerator_and_postprocess()
        distributed.share_on_cpu(self)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Start the clocks, then train. The processes draw different noise, each its own again when resumed."""
        distributed.seed_process(self.args.seed)
        peak_flops()  # measured before the clock starts
        self._step_started = self._saved_at = time.monotonic()
        return super().train(*args, **kwargs)

    def rehearse(self, rows: Sequence[int]) -> None:
        """One forward and backward pass of these rows as a micro-batch, of which nothing remains.

        To be called once the library has everything ready, before the first step. Raises torch.OutOfMemoryError.
        """
        noted = copy.deepcopy(self._metrics)
        batch = self.data_collator([self.train_dataset[row] for row in rows])
        [inputs], counted = self.get_batch_samples(iter([batch]), 1, self.args.device)
        self.training_step(self.model_wrapped, inputs, counted)
        self.model.zero_grad()
        self._metrics = noted
        self._step_started = self._saved_at = time.monotonic()

    def save_result(self, folder: Path | None) -> None:
        """Write the model as it is now, its adapter merged; training may go on, to the same bits.

        Where several processes train, all of them call it, each but the first with None.
        The library sets what training needs (no cache, a padding token); the model is written as plain as it came.
        """
        model, needed = self.plain, (self.plain.config, getattr(self.plain, "generation_config", None))
        plain = self.model is model or adapters.is_in_four_bits(model)
        merged = None if plain else lambda: merged_weights(model)
        weights = distributed.whole_weights(self, merged)
        keeps = self.watch.keep_adapter and self.model is not model
        adapter = distributed.whole_weights(self, lambda: adapters.adapter_weights(self.model)) if keeps else None
        if folder is None:
            return
        _configure(model, self.untouched)
        if adapters.is_in_four_bits(model):
            adapters.save_whole(model, copy.deepcopy(model.config), folder)
        else:
            model.save_pretrained(folder, state_dict=weights)
        _configure(model, needed)
        if adapter is not None:
            adapters.save_adapter(self.model, adapter, folder / adapters.FOLDER)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called after each step: report it, and ask the library for a checkpoint when one is due."""
        if "loss" not in logs:
            return
        check_finite(logs["loss"], self.state.global_step)
        check_finite(logs["grad_norm"], self.state.global_step, "norm of the gradient")
        now = time.monotonic()
        self.watch.on_step(
            Step(
                step=self.state.global_step,
                epoch=round(self.state.global_step / self.state.max_steps * self.state.num_train_epochs, 6),
                loss=logs["loss"],
                learning_rate=logs["learning_rate"],
                grad_norm=logs["grad_norm"],
                tokens=self.step_tokens,
                trained_tokens=self.step_trained,
                seconds=round(seconds := now - self._step_started, 6),
                tokens_per_s=round(self.step_tokens / seconds, 1),
                mfu=self._utilisation(seconds),
                more=self._take_numbers(),
            )
        )
        if self.state.global_step * self.state.num_train_epochs % self.state.max_steps == 0:
            [self.control.should_training_stop] = distributed.any_of(self.watch.on_epoch(self))
        due = now - self._saved_at > self.watch.checkpoint_every_s and self.state.global_step < self.state.max_steps
        stop, due = distributed.any_of(self.watch.stop_asked, due)
        if stop:
            self.control.should_save = self.control.should_training_stop = True
        elif due:
            self.control.should_save = True
        self._step_started = time.monotonic()

    def _utilisation(self, seconds: float) -> float:
        passing = self.step_tokens - self.step_spared
        needed = step_flops(self.shape, tokens=passing, trained=self.step_trained, squares=self.step_squares)
        return round(needed / (seconds * peak_flops() * distributed.processes()), 4)

    def _take_numbers(self) -> dict[str, float]:
        """What the method has noted since the last step in any process, each the mean of its finite values."""
        noted = distributed.of_all(self._metrics["train"])
        finite = {name: [*filter(math.isfinite, values)] for name, values in noted.items() if name != "num_tokens"}
        self._metrics["train"].clear()
        return {name: sum(values) / len(values) for name, values in finite.items() if values}

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        distributed.wait_for_all()
        if distributed.is_first():
            folder, step = Path(self.args.output_dir), self.state.global_step
            self.watch.before_checkpoint()
            checkpoints.publish(folder, step, keep=self.watch.keep_checkpoints)
        self._step_started = self._saved_at = time.monotonic()

    def _get_output_dir(self, trial: Any) -> str:
        return str(checkpoints.aside(Path(self.args.output_dir)))

    def counted(self, batches: Sequence[Any]) -> int:
        """How many of the micro-batches of the step that begins count; the others are fillers (see `EpochBatches`)."""
        if not self._batches:
            return len(batches)
        steps_an_epoch = math.ceil(len(self._batches) / self.args.gradient_accumulation_steps)
        return min(len(batches), self._batches.counted(self.state.global_step % steps_an_epoch))

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochBatches:
        from transformers.trainer_pt_utils import BatchRebalanceSampler

        # Of this class the library knows that it deals out whole micro-batches itself.
        kind = type("Batches", (EpochBatches, BatchRebalanceSampler), {})
        micro_batch_size = self.args.per_device_train_batch_size
        self._batches = kind(
            self.lengths,
            micro_batch_size * self.args.gradient_accumulation_steps * distributed.processes(),
            self.args.seed,
            micro_batch_size=micro_batch_size,
            process=distributed.process(),
            processes=distributed.processes(),
            epochs_of=self.epochs_of,
        )
        return self._batches

    def _run_epoch(self, **given: Any) -> None:
        if self._batches:
            self._batches.set_epoch(given["epoch"])  # the library's own way does not reach it in a resumed epoch
        super()._run_epoch(**given)

    def _send_telemetry(self) -> None:
        """Nothing leaves this machine that the user did not ask for."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """A checkpoint needs none."""
