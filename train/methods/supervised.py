"""Supervised fine-tuning: the tokens of answers, and of questions where a sample says `unmask`, are predicted.

TRL's `SFTTrainer` with a loss of ours: the sum over the trained tokens divided by their number in the whole step,
however it is accumulated, and only the positions that some sample trains go through the output head (theirs, on a CPU,
takes all, in float32). A batch has no padding where the model's attention allows it (`varlen`).

Where a model gave an answer that the student is to stay like, it learns what that model might have said as well, not
only what it said: the loss of such a token is the divergence from that model's probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ...llm.likely import Likely
from .. import distributed, varlen
from ..data import TrainingSample
from ..load import load_trained, padding_id
from ..masking import IGNORED, Tokens, tokenize
from ..noise import Noise
from ..packing import attending_lengths
from ..trainer import PhaseTraining, adapter_config, library_arguments, phase_trainer
from .row import Row
from .setup import Setup


def rows(tokenizer: Any, samples: Sequence[TrainingSample], system_prompt: str) -> list[Tokens]:
    """Token ids and labels of each sample, in order. Raises ModelError."""
    made = tokenize(tokenizer, samples, system_prompt)
    said = [getattr(sample, "likely", "") for sample in samples]  # none of what is only counted, no phase's yet
    return [row.staying_like(Likely(text)) if text else row for row, text in zip(made, said, strict=True)]


def trainer(setup: Setup) -> Any:
    """TRL's trainer on the rows, ready to `train()`."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    return token_trainer(
        setup,
        [row for row in setup.rows if isinstance(row, Tokens)],
        [row for row in setup.validation if isinstance(row, Tokens)],
        DataCollatorForLanguageModeling(pad_token_id=padding_id(setup.tokenizer)),
    )


class TokenRow(Row, Protocol):
    """A row of which every token is given, and whether it is trained."""

    def columns(self) -> dict[str, Any]:
        """`input_ids`, `labels` and what else the collator takes."""
        ...


def token_trainer(setup: Setup, rows: Sequence[TokenRow], validation: Sequence[TokenRow], pad: Any) -> Any:
    """TRL's trainer on rows that are ready: nothing may cut or relabel them.

    `pad` is the collator for models that cannot take rows joined.
    """
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    phase = setup.phase
    model = load_trained(setup.parent, phase)
    collator = varlen.join if varlen.join_rows_in(model) else pad
    trainer = phase_trainer(
        type("SupervisedTrainer", (ExactLoss, PhaseTraining, SFTTrainer), {}),
        model,
        [row.length for row in rows],
        setup.watch,
        args=library_arguments(
            SFTConfig,
            phase,
            setup.checkpoints,
            setup.seed,
            parameters=model.num_parameters(),
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            max_length=None,
        ),
        data_collator=with_likely(collator),
        train_dataset=Dataset.from_list([row.columns() for row in rows]),
        eval_dataset=Dataset.from_list([row.columns() for row in validation]) if validation else None,
        processing_class=setup.tokenizer,
        peft_config=adapter_config(model, phase),
    )
    if phase.neftune_alpha:
        Noise(phase.neftune_alpha).add_to(trainer.model)
    return trainer


_LibraryTrainer: Any = object


class ExactLoss(_LibraryTrainer):
    """See the module."""

    loss_is_scaled_for_ga = True
    """Tells the library not to divide by the accumulation steps once more (transformers `training_step`)."""
    step_tokens: int
    step_trained: int
    step_squares: int
    step_spared: int
    counted: Callable[[Sequence[Any]], int]

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: Any
    ) -> tuple[list[Any], float]:
        """Micro-batches of one step, those of this process, and what it divides their summed losses by.

        That is the step's trained tokens over the processes, for gradients and losses are averaged over processes.
        """
        batches: list[Any] = super().get_batch_samples(epoch_iterator, num_batches, device)[0]
        count = self.counted(batches)
        for filler in batches[count:]:
            filler["labels"].fill_(IGNORED)
            for name in _LIKELY:
                filler.pop(name, None)
        lengths = [length for batch in batches[:count] for length in attending_lengths(batch)]
        spared = [varlen.spared(batch) for batch in batches[:count]]
        trained = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches)
        self.step_tokens, self.step_squares, self.step_trained, self.step_spared = distributed.added_up(
            sum(lengths),
            sum(length**2 for length in lengths) - sum(times * shared**2 for times, shared in spared),
            trained,
            sum(times * shared for times, shared in spared),
        )
        return batches, self.step_trained / distributed.processes()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: float = 1
    ) -> Any:
        """The micro-batch's part of the step's mean loss: its summed loss over the step's trained tokens."""
        likely = {name: inputs.pop(name) for name in _LIKELY if name in inputs}
        logits, targets = _predicted(model, inputs)
        summed = _staying(logits, targets, **likely) if likely else _cross_entropy(logits, targets)
        return summed / num_items_in_batch

    def measure(self, batch: dict[str, Any]) -> tuple[int, dict[str, float]]:
        """The trained tokens of a batch, and over them the mean loss and the share that the model would write."""
        inputs = {name: value for name, value in batch.items() if name not in _LIKELY}
        logits, targets = _predicted(self.model, inputs)
        trained = max(1, int((targets != IGNORED).sum()))
        right = int((logits.argmax(dim=-1) == targets).sum())
        return trained, {"loss": _cross_entropy(logits, targets).item() / trained, "accuracy": right / trained}


_LIKELY = ("of_model", "likely_tokens", "likely_logs")
"""What `with_likely` adds to a batch: of its trained tokens, row by row, whether a model said them; of those, (tokens,
`MOST`), what it might have said."""


def with_likely(collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> Callable[[list[Any]], dict[str, Any]]:
    """A collator that adds to a batch what some rows say of models' answers."""

    def collated(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
        import numpy as np
        import torch

        plain = [{name: row[name] for name in row if name != "likely"} for row in rows]
        if not any(row.get("likely") for row in rows):
            return collate(plain)
        kept = [Likely(row.get("likely") or "").arrays() for row in rows]
        trained = [sum(label != IGNORED for label in row["labels"][1:]) for row in rows]
        said = [len(tokens) for tokens, _ in kept]
        of_model = [place >= many - last for many, last in zip(trained, said, strict=True) for place in range(many)]
        tokens, logs = (np.concatenate(each) for each in zip(*kept, strict=True))
        values = (torch.tensor(of_model), torch.tensor(tokens.astype("i8")), torch.tensor(logs.astype("f4")))
        return collate(plain) | dict(zip(_LIKELY, values, strict=True))

    return collated


def _staying(logits: Any, targets: Any, of_model: Any, likely_tokens: Any, likely_logs: Any) -> Any:
    """The cross-entropy of some places and the divergence at others, summed, with one sum over the vocabulary."""
    trained, normal = (targets != IGNORED).nonzero().flatten(), logits.logsumexp(dim=-1)
    words, held = trained[~of_model], trained[of_model]
    own = logits[held[:, None], likely_tokens] - normal[held, None]
    return (normal[words] - logits[words, targets[words]]).sum() + divergence(own, likely_logs)


def divergence(own: Any, logs: Any) -> Any:
    """Kullback-Leibler, from a model's likeliest tokens and the sum of all others, in nats, summed over places.

    Logarithms of probabilities of the same tokens, (places, tokens): the student's and the model's.
    """
    wanted = logs.exp()
    others, own_others = (1 - each.sum(-1).clamp(max=1 - _LEAST) for each in (wanted, own.exp()))
    return (wanted * (logs - own)).sum() + (others * (others.log() - own_others.log())).sum()


_LEAST = 1e-6
"""Probability of all tokens that are not among the likeliest: where it would be less, rounding has it."""


def _cross_entropy(logits: Any, targets: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


def _predicted(model: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
    """The logits and the targets of the positions that some sample trains, one after another."""
    targets = inputs.pop("labels")[:, 1:]
    places = (targets != IGNORED).any(dim=0).nonzero().flatten()
    logits = model(**inputs, use_cache=False, logits_to_keep=places).logits
    return logits.flatten(0, 1).float(), targets[:, places].flatten()
