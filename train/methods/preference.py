"""Learning from pairs: dpo raises the better answer above the worse one; kto raises the one and lowers the other.

Both hold the model to the one that it started from. The log-probabilities which that reference gives are computed once,
before the first step, by the model itself while it is still its parent: exact, for the reference never changes; no
second model in memory; one pass over the data instead of one in every epoch. A resumed run computes them again, from
the parent's weights on the same batches, so they are the same to the bit. Dropout is off in both methods (the library's
default): what is compared should differ by the weights alone.

Losses: Rafailov et al., DPO, arXiv 2305.18290, equation 7; Ethayarajh et al., KTO, arXiv 2402.01306. They are computed
here, over TRL's `DPOTrainer`, and a test holds them against TRL's own: on a CPU its head takes every position where
ours takes those of answers, and its KTO measures the divergence by each micro-batch and refuses one of a single row.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import DataError
from ...llm.precision import compute_dtype
from ..load import load_trained, padding_id, without_attention_dropout
from ..masking import IGNORED
from ..trainer import PhaseTraining, adapter_config, library_arguments, phase_trainer
from .pairs import ONE_PAIR, PairLoss, PairTokens
from .row import Row
from .setup import Setup

Example = dict[str, Any]
"""One pair as the collator takes it: `PairTokens.columns`, and what the reference makes of both answers."""


def dpo_trainer(setup: Setup) -> Any:
    """TRL's trainer on the pairs, ready to `train()`."""
    return _trainer(setup, ReferenceLoss, [row.columns() for row in _pairs(setup.rows)])


def kto_trainer(setup: Setup) -> Any:
    """The same with a mismatched pair beside each, by which the divergence is estimated."""
    pairs = _pairs(setup.rows)
    others = [other.columns() for other in mismatched(pairs)]
    examples = [{**row.columns(), "mismatched": other} for row, other in zip(pairs, others, strict=True)]
    return _trainer(setup, KtoLoss, examples)


def mismatched(pairs: Sequence[PairTokens]) -> list[PairTokens]:
    """Each prompt with the answers to the next one, in a circle, none longer than the longest pair.

    An answer to something else says how far the model has moved as a whole (the KTO paper's estimate). Who meets whom
    is fixed, so that the reference needs to see each once only. Raises DataError for a single pair.
    """
    if len(pairs) < 2:
        raise DataError(ONE_PAIR, where="kto", fix="have more pairs made, or use `method: dpo`")
    longest = max(pair.length for pair in pairs)

    def cut(prompt: list[int], answer: list[int]) -> list[int]:
        return answer[: longest - len(prompt)]

    return [
        PairTokens(pair.prompt_ids, cut(pair.prompt_ids, other.chosen_ids), cut(pair.prompt_ids, other.rejected_ids))
        for pair, other in zip(pairs, [*pairs[1:], pairs[0]], strict=True)
    ]


def _pairs(rows: Sequence[Row]) -> list[PairTokens]:
    return [row for row in rows if isinstance(row, PairTokens)]


def _trainer(setup: Setup, loss: type, examples: list[Example]) -> Any:
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

    tokenizer, phase = setup.tokenizer, setup.phase
    model = without_attention_dropout(load_trained(setup.parent, phase))
    held_back = [row.columns() for row in _pairs(setup.validation)]
    return phase_trainer(
        type("PairTrainer", (loss, PhaseTraining, DPOTrainer), {}),
        model,
        [row.length for row in setup.rows],
        setup.watch,
        args=library_arguments(
            DPOConfig,
            phase,
            setup.checkpoints,
            setup.seed,
            parameters=model.num_parameters(),
            beta=phase.preference.beta,
            precompute_ref_log_probs=True,
            remove_unused_columns=False,
            max_length=None,
        ),
        data_collator=_Collator(DataCollatorForPreference(pad_token_id=padding_id(tokenizer))),
        train_dataset=Dataset.from_list(examples),
        eval_dataset=Dataset.from_list(held_back) if held_back else None,
        processing_class=copy.deepcopy(tokenizer),  # the library gives one without a padding token its own
        peft_config=adapter_config(model, phase),
    )


@dataclass(frozen=True)
class _Collator:
    """The library's, and the mismatched pairs as a batch within the batch."""

    collate: Callable[[list[Example]], Example]

    def __call__(self, examples: list[Example]) -> Example:
        batch = self.collate(examples)
        if all("mismatched" in example for example in examples):
            batch["mismatched"] = self.collate([example["mismatched"] for example in examples])
        return batch


class ReferenceLoss(PairLoss):
    """DPO's loss, and what kto shares of it. The library's attributes that are used here are declared, not typed."""

    accelerator: Any
    model: Any
    ref_model: Any
    data_collator: _Collator
    beta: float

    def rewards(self, model: Any, inputs: Any) -> Any:
        """How much likelier the answers are than to the reference, times beta."""
        return self.beta * log_ratios(model, inputs)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """The rows are ready; nothing may cut or tokenise them."""
        return dataset

    def _precompute_ref_logps(self, dataset: Any, _name: str, batch_size: int) -> Any:
        """Called by the library before anything is trained."""
        examples = dataset.to_list()
        others = [example["mismatched"] for example in examples if "mismatched" in example]
        with self._reference() as model:
            self._add_log_probabilities(model, examples, batch_size)
            self._add_log_probabilities(model, others, batch_size)
        return type(dataset).from_list(examples)

    @contextlib.contextmanager
    def _reference(self) -> Generator[Any]:
        """The model as it now is, on the device: DeepSpeed and FSDP bring it there later only.

        Of one that FSDP is to share the library has made a copy, which it shares already.
        """
        if self.ref_model is not None:
            yield self.ref_model
            return
        before = self.model.device
        yield self.model.to(self.accelerator.device)
        self.model.to(before)

    def _add_log_probabilities(self, model: Any, examples: list[Example], batch_size: int) -> None:
        """Add to each pair those that the model gives to its answers."""
        import torch

        where, kind = self.accelerator.device, compute_dtype()  # which DeepSpeed sees to in training only
        by_length = sorted(examples, key=_length)  # saves padding
        for start in range(0, len(by_length), batch_size):
            batch = by_length[start : start + batch_size]
            inputs = {name: ids.to(where) for name, ids in self.data_collator.collate(batch).items()}
            with torch.no_grad(), torch.autocast(where.type, dtype=kind, enabled=kind == torch.bfloat16):
                chosen, rejected = log_probabilities(model, inputs).chunk(2)
            for example, *both in zip(batch, chosen.tolist(), rejected.tolist(), strict=True):
                example["ref_chosen_logps"], example["ref_rejected_logps"] = both


class KtoLoss(ReferenceLoss):
    """See the module. Each pair is one desirable answer and one that is not, of equal weight."""

    model_wrapped: Any
    _divergence: Any
    """How far the model is from the reference in this step, as a reward; never below 0. An epoch's end is measured by
    that of its last step."""

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: Any
    ) -> tuple[list[Any], float]:
        """Measures the divergence too, over the whole step, so that it does not depend on the micro-batches."""
        batches, pairs = super().get_batch_samples(epoch_iterator, num_batches, device)
        divergence = self._measured(batches).clamp(min=0)
        self._metrics["train"]["kl"].append(divergence.item())
        self._divergence = self.beta * divergence
        return batches, pairs

    def losses(self, chosen: Any, rejected: Any) -> Any:
        """The mean of both answers' losses."""
        kl = self._divergence
        return ((kl - chosen).sigmoid() + (rejected - kl).sigmoid()) / 2

    def _measured(self, batches: Sequence[Any]) -> Any:
        import torch

        summed = torch.zeros(2, device=self.accelerator.device)  # the ratios, and how many they are
        for batch in batches:
            inputs = {name: values.to(summed.device) for name, values in batch.pop("mismatched").items()}
            with torch.no_grad(), self.accelerator.autocast():
                ratios = log_ratios(self.model_wrapped, inputs)
            summed += torch.stack([ratios.sum(), ratios.new_tensor(len(ratios))]) * batch["counts"]
        ratios, count = self.accelerator.reduce(summed)
        return ratios / count


def log_ratios(model: Any, batch: Any) -> Any:
    """How much likelier the answers are than to the reference: first the better ones', then the worse ones'."""
    import torch

    return log_probabilities(model, batch) - torch.cat([batch["ref_chosen_logps"], batch["ref_rejected_logps"]])


def log_probabilities(model: Any, batch: Any) -> Any:
    """The log-probability of each conversation's answer, the sum over its tokens."""
    import torch

    targets = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)[:, 1:]
    places = (targets != IGNORED).any(dim=0).nonzero().flatten()  # only these go through the output head
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = model(**inputs, use_cache=False, logits_to_keep=places).logits
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets[:, places].flatten(), ignore_index=IGNORED, reduction="none"
    )
    return -losses.view(len(targets), -1).sum(dim=1)


def _length(example: Example) -> int:
    return len(example["prompt_ids"]) + max(len(example["chosen_ids"]), len(example["rejected_ids"]))
