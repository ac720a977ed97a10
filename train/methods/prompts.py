"""Prompts for methods that learn from answers which the model gives while it is trained.

A prompt is a sample up to its last turn, in the model's own template, ready to be answered. The sample's own answer is
not trained: it goes along for rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...core.records import Message
from ..data import TrainingSample
from ..masking import IGNORED, tokenize, tokenize_prompts
from ..plan import Phase
from .row import Row


@dataclass(frozen=True)
class PromptTokens:
    """A prompt, with room for the answers to it."""

    prompt_ids: list[int]
    end_id: int
    """The token that ends an answer in the model's template."""
    prompt: tuple[Message, ...]
    """The conversation before the answer, as the sample has it."""
    answer: str
    """The sample's."""
    max_new_tokens: int = 0
    completions: int = 1
    """Answers to it; each goes through the model with the prompt."""

    @property
    def length(self) -> int:
        """Tokens of the prompt and of the longest answer."""
        return len(self.prompt_ids) + self.max_new_tokens

    @property
    def tokens(self) -> int:
        """Of all answers, each with the prompt, if all are as long as they may be."""
        return self.completions * self.length

    @property
    def trained(self) -> int:
        """Tokens of all answers, as long as they may be: before training nobody knows how many there will be."""
        return self.completions * self.max_new_tokens

    @property
    def places(self) -> range:
        """Those of the longest answer; prompts are filled up on the left, so that all answers begin together."""
        return range(self.max_new_tokens)

    def ids(self) -> list[object]:
        """The prompt and what decides the rewards, for a hash."""
        return [self.prompt_ids, self.end_id, [message.model_dump() for message in self.prompt], self.answer]


def rows(tokenizer: Any, samples: Sequence[TrainingSample], system_prompt: str) -> list[PromptTokens]:
    """The tokens of each prompt, in order, without room for an answer yet (see `with_room`). Raises ModelError."""
    whole = tokenize(tokenizer, samples, system_prompt)
    prompts = tokenize_prompts(tokenizer, samples, system_prompt)
    return [
        PromptTokens(prompt_ids, _last_trained(each.input_ids, each.labels), sample.messages[:-1], sample.answer)
        for sample, prompt_ids, each in zip(samples, prompts, whole, strict=True)
    ]


def with_room(rows: Sequence[Row], phase: Phase) -> Sequence[Row]:
    """The rows of a phase; prompts among them with room for as many and as long answers as the phase allows."""
    room = {"max_new_tokens": phase.rollout.max_new_tokens, "completions": phase.rollout.completions}
    return [replace(row, **room) if isinstance(row, PromptTokens) else row for row in rows]


def _last_trained(ids: Sequence[int], labels: Sequence[int]) -> int:
    """The end-of-turn token after the answer."""
    return next(token for token, label in zip(reversed(ids), reversed(labels), strict=True) if label != IGNORED)
