"""Pairs as token ids, and what all methods that compare the two answers of a pair have in common.

Both answers are rendered by the model's own template (`masking`), each with its end-of-turn token; the prompt is what
the two renderings share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import DataError
from ...core.records import Preference
from .. import distributed
from ..data import TrainingPair
from ..masking import IGNORED, Tokens, tokenize

ONE_PAIR = "there is one pair, and kto compares its prompt with the answers to another"


@dataclass(frozen=True)
class PairTokens:
    """One pair: the prompt, and what follows it in each of the two conversations."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def length(self) -> int:
        """Tokens of the longer conversation."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))

    @property
    def tokens(self) -> int:
        """Tokens of both conversations."""
        return 2 * len(self.prompt_ids) + self.trained

    @property
    def trained(self) -> int:
        """Tokens of both answers."""
        return len(self.chosen_ids) + len(self.rejected_ids)

    @property
    def places(self) -> range:
        """Those of the longer answer."""
        return range(len(self.prompt_ids), self.length)

    def ids(self) -> list[list[int]]:
        """All three, for a hash."""
        return [self.prompt_ids, self.chosen_ids, self.rejected_ids]

    def columns(self) -> dict[str, Any]:
        """The three as the library's collator takes them."""
        return {"prompt_ids": self.prompt_ids, "chosen_ids": self.chosen_ids, "rejected_ids": self.rejected_ids}


def rows(tokenizer: Any, pairs: Sequence[TrainingPair], system_prompt: str) -> list[PairTokens]:
    """The tokens of each pair, in order. Raises ModelError, DataError."""
    return [_pair_tokens(chosen, rejected) for chosen, rejected in tokenize_sides(tokenizer, pairs, system_prompt)]


def tokenize_sides(tokenizer: Any, pairs: Sequence[Preference], system_prompt: str) -> Iterator[tuple[Tokens, Tokens]]:
    """The conversation with the better answer and that with the worse, pair by pair. Raises ModelError, DataError."""
    for pair in pairs:
        if len(pair.chosen) != 1 or len(pair.rejected) != 1:
            raise DataError("an answer of a pair is one message", where=f"pair {pair.id}", fix="split or drop it")
    tokens = tokenize(tokenizer, [side for pair in pairs for side in pair.sides], system_prompt)
    return zip(tokens[::2], tokens[1::2], strict=True)


def _pair_tokens(chosen: Tokens, rejected: Tokens) -> PairTokens:
    """What follows the last end-of-turn token is left out: nothing is predicted there."""
    (first, end), (first_rejected, end_rejected) = _answer(chosen), _answer(rejected)
    prompts = zip(chosen.input_ids[:first], rejected.input_ids[:first_rejected], strict=False)
    # A token may reach over from the prompt into an answer, and so differ.
    shared = next((place for place, (one, other) in enumerate(prompts) if one != other), min(first, first_rejected))
    return PairTokens(chosen.input_ids[:shared], chosen.input_ids[shared:end], rejected.input_ids[shared:end_rejected])


def _answer(tokens: Tokens) -> tuple[int, int]:
    """Where the last answer begins and ends."""
    end = max(place for place, label in enumerate(tokens.labels) if label != IGNORED) + 1
    return max(place for place in range(end) if tokens.labels[place] == IGNORED) + 1, end


_LibraryTrainer: Any = object


class PairLoss(_LibraryTrainer):
    """A step's loss is the mean over its pairs, however it is accumulated: mixed in above `PhaseTraining`.

    In every batch the first half are the conversations with the better answers, the second half those with the worse.
    """

    loss_is_scaled_for_ga = True
    """Tells the library not to divide by the accumulation steps once more (transformers `training_step`)."""
    step_tokens: int
    step_trained: int
    step_squares: int
    counted: Callable[[Sequence[Any]], int]
    model: Any
    _metrics: Mapping[str, Any]

    def rewards(self, model: Any, inputs: Any) -> Any:
        """What the model makes of each conversation of a batch."""
        raise NotImplementedError

    def losses(self, chosen: Any, rejected: Any) -> Any:
        """The loss of each pair: how surprising it is that the better answer is the better one (Bradley, Terry)."""
        import torch

        return -torch.nn.functional.logsigmoid(chosen - rejected)

    def count_trained(self, batch: Any) -> int:
        """The tokens of a batch's answers."""
        return int(batch["completion_mask"].sum())

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: Any
    ) -> tuple[list[Any], float]:
        """Micro-batches of one step, those of this process, and what it divides their summed losses by.

        That is the step's pairs over the processes, for gradients and losses are averaged over processes.
        """
        batches: list[Any] = super().get_batch_samples(epoch_iterator, num_batches, device)[0]
        count = self.counted(batches)
        for place, batch in enumerate(batches):
            batch["counts"] = place < count
        lengths = [int(length) for batch in batches[:count] for length in batch["attention_mask"].sum(dim=1)]
        self.step_tokens, self.step_squares, self.step_trained, pairs = distributed.added_up(
            sum(lengths),
            sum(length**2 for length in lengths),
            sum(map(self.count_trained, batches[:count])),
            len(lengths) // 2,
        )
        return batches, pairs / distributed.processes()

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: float = 1) -> Any:
        """The micro-batch's part of the step's mean over pairs."""
        counts = inputs.pop("counts")
        chosen, rejected = self.rewards(model, inputs).chunk(2)
        if counts:
            self._note(chosen.detach(), rejected.detach())
        return self.losses(chosen, rejected).sum() * (counts / num_items_in_batch)

    def measure(self, batch: Any) -> tuple[int, dict[str, float]]:
        """The pairs of a batch, and over them the mean loss and the share that the model ranks right."""
        chosen, rejected = self.rewards(self.model, batch).chunk(2)
        right = (chosen > rejected).float().mean().item()
        return len(chosen), {"loss": self.losses(chosen, rejected).mean().item(), "accuracy": right}

    def _note(self, chosen: Any, rejected: Any) -> None:
        noted = self._metrics["train"]
        noted["rewards/chosen"] += chosen.tolist()
        noted["rewards/rejected"] += rejected.tolist()
        noted["rewards/margins"] += (chosen - rejected).tolist()
        noted["rewards/accuracies"] += (chosen > rejected).tolist()
