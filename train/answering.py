"""Answers that a model draws from its own probabilities, and what it makes of each of their tokens.

Drawn here, not by the library's `generate`: by exactly the probabilities that are trained, whatever the model's own
generation settings are, and by random numbers that are given, so that the same weights give the same answers again in
any process and in batches of any size (but for rounding).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

from .determinism import sums


@dataclass(frozen=True)
class Answers:
    """Prompts, filled up on the left, and an answer to each, filled up on the right: tensors of a row each."""

    prompts: Any
    asked: Any
    """Which tokens are of the prompt."""
    tokens: Any
    said: Any
    """Which are of the answer: its end token is, if it has one."""

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad: int, device: Any) -> Answers:
        """From the ids of both."""
        import torch

        left, right = max(map(len, prompts)), max(map(len, answers))
        rows = [
            [[pad] * (left - len(ids)) + [*ids] for ids in prompts],
            [[0] * (left - len(ids)) + [1] * len(ids) for ids in prompts],
            [[*ids] + [pad] * (right - len(ids)) for ids in answers],
            [[1] * len(ids) + [0] * (right - len(ids)) for ids in answers],
        ]
        prompt_ids, asked, tokens, said = (torch.tensor(each, device=device) for each in rows)
        return cls(prompt_ids, asked.bool(), tokens, said.bool())

    def __getitem__(self, rows: Any) -> Answers:
        """Some of them, without the columns that none of them fills."""
        asked, said = self.asked[rows], self.said[rows]
        left, right = int(asked.any(dim=0).sum()), int(said.any(dim=0).sum())
        first = asked.shape[1] - left
        return Answers(self.prompts[rows][:, first:], asked[:, first:], self.tokens[rows][:, :right], said[:, :right])

    @property
    def lengths(self) -> list[int]:
        """The tokens of each prompt with its answer."""
        return (self.asked.sum(dim=1) + self.said.sum(dim=1)).tolist()


@dataclass(frozen=True)
class Judged:
    """What a model makes of answers, a tensor of the shape of `Answers.tokens` each."""

    log_probs: Any
    entropies: Any
    values: Any
    """What it expects an answer to earn from this token on; None if it was not asked."""


def draw(
    model: Any, prompts: Sequence[Sequence[int]], chances: Any, *, temperature: float, ends: Container[int], pad: int
) -> list[list[int]]:
    """The ids of an answer to each prompt, up to one of `ends`, that included.

    `chances` has a number from 0 to 1 for each prompt and token: where it falls in the cumulated probabilities, there
    lies the token.
    """
    import torch

    asked = Answers.of(prompts, [[pad]] * len(prompts), pad, model.device)
    given, attended, cache = asked.prompts, asked.asked.long(), None
    answers: list[list[int]] = [[] for _ in prompts]
    speaking = set(range(len(prompts)))
    for place in range(chances.shape[1]):
        positions = (attended.cumsum(dim=1) - 1).clamp(min=0)[:, -given.shape[1] :]
        output = model(
            input_ids=given,
            attention_mask=attended,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, shares = output.past_key_values, sums((output.logits[:, -1].float() / temperature).softmax(-1))
        where = chances[:, place, None].to(shares) * shares[:, -1:]
        drawn = (shares <= where).sum(dim=1).clamp(max=shares.shape[1] - 1)
        for row, token in enumerate(drawn.tolist()):
            if row in speaking:
                answers[row].append(token)
                speaking -= {row} if token in ends else set()
        if not speaking:
            break
        given = drawn[:, None]
        attended = torch.cat([attended, torch.ones_like(given)], dim=1)
    return answers


def judge(model: Any, answers: Answers, temperature: float, value: Callable[[Any], Any] | None = None) -> Judged:
    """What a model makes of each token of answers; `value` reads expectations off the states before its output head."""
    import torch

    ids = torch.cat([answers.prompts, answers.tokens], dim=1)[:, :-1]
    attended = torch.cat([answers.asked, answers.said], dim=1)[:, :-1].long()
    first = answers.prompts.shape[1] - 1
    states: list[Any] = []

    def keep(_head: Any, given: tuple[Any, ...]) -> None:
        states.append(given[0])

    hook = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        output = model(
            input_ids=ids,
            attention_mask=attended,
            position_ids=(attended.cumsum(dim=1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=torch.arange(first, ids.shape[1], device=ids.device),
        )
    finally:
        hook.remove()
    each = (output.logits.float() / temperature).log_softmax(dim=-1)
    with torch.no_grad():
        entropies = -(each.exp() * each).sum(dim=-1)
    log_probs = each.gather(-1, answers.tokens[..., None]).squeeze(-1)
    return Judged(log_probs, entropies, value(states[0]) if value else None)
