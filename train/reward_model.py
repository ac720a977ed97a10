"""Reward models: a language model with one output, made from a parent, and the scores that a trained one gives.

The score of a conversation is read at its last token that is not the padding token, which is transformers' own rule for
`AutoModelForSequenceClassification`, so any tool that loads the folder gets the same scores. The padding token is
`load.padding_id`; the tokenizer is left as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.records import Message, Sample
from ..llm.precision import compute_dtype, device
from ..llm.quiet import quiet_transformers
from ..llm.untrusted import open_weights
from .adapters import in_four_bits
from .load import padding_id
from .masking import IGNORED, load_tokenizer, tokenize

_BATCH_TOKENS = 8192


def new_reward_model(parent: Path, tokenizer: Any, seed: int, adapter: str = "none") -> Any:
    """The model of a folder with float32 weights and a head that follows from the seed, to be trained.

    Under a `qlora` adapter all but the head is held in 4 bits.

    Raises ModelError.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        given = {"quantization_config": in_four_bits()} if adapter == "qlora" else {}
        model = _load(parent, torch.float32, **given)
    model.config.get_text_config().pad_token_id = padding_id(tokenizer)
    return model


def load_reward_model(folder: Path, system_prompt: str = "") -> RewardModel:
    """A trained reward model, ready to score on `device()`, in the machine's format.

    `system_prompt` goes before each conversation as in training. Raises ModelError.
    """
    with quiet_transformers():
        return RewardModel(_load(folder, compute_dtype()).to(device()).eval(), load_tokenizer(folder), system_prompt)


@dataclass(frozen=True)
class RewardModel:
    """A reward model in memory."""

    model: Any
    tokenizer: Any
    system_prompt: str

    @property
    def longest(self) -> int:
        """The tokens that it can read."""
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return most if isinstance(most, int) and most > 0 else sys.maxsize

    def scores(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """What it gives each conversation, which ends with the answer to be scored. Raises ModelError."""
        return self.scores_of([self.row(conversation, ended=True) for conversation in conversations])

    def row(self, conversation: Sequence[Message], *, ended: bool) -> list[int]:
        """Its tokens; without its end of turn where the answer was cut before one. Raises ModelError."""
        sample = Sample.model_construct(id="to be scored", messages=tuple(conversation), unmask=False)
        [tokens] = tokenize(self.tokenizer, [sample], self.system_prompt)
        last = max(place for place, label in enumerate(tokens.labels) if label != IGNORED)
        return tokens.input_ids if ended else tokens.input_ids[:last]

    def scores_of(self, rows: Sequence[list[int]]) -> list[float]:
        """The score of each. What a row's neighbours are changes its score by rounding only."""
        found = [0.0] * len(rows)
        for places in _batches(rows):
            batch_scores = self._score([rows[place] for place in places])
            for place, score in zip(places, batch_scores, strict=True):
                found[place] = score
        return found

    def _score(self, rows: list[list[int]]) -> list[float]:
        import torch

        longest, pad = len(rows[0]), padding_id(self.tokenizer)
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        attended = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        with torch.inference_mode():
            output = self.model(ids.to(self.model.device), attention_mask=attended.to(self.model.device))
        return output.logits[:, 0].float().tolist()


def _load(folder: Path, dtype: Any, **given: Any) -> Any:
    from transformers import AutoModelForSequenceClassification

    fix = "name a folder with a whole Hugging Face model of a kind that can be given a score"
    return open_weights(AutoModelForSequenceClassification, folder, fix=fix, num_labels=1, dtype=dtype, **given)


def _batches(rows: Sequence[list[int]]) -> Iterator[list[int]]:
    """Places of rows of similar length, the longest first, at most `_BATCH_TOKENS` tokens in a batch, padding too."""
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
    while order:
        size = max(1, _BATCH_TOKENS // len(rows[order[0]]))
        yield order[:size]
        order = order[size:]
