"""A model of this process that answers token by token, several conversations side by side, each with its own sampling.

Where nothing is drawn, what is heard is what evaluation sees: no special tokens, no opening, no outer white space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..core.records import Message
from . import local
from .quiet import quiet_transformers

MAX_TOKENS = 1024
"""Of an answer for which nothing else was asked: small models do not always end by themselves."""

Finish = Literal["", "stop", "length", "cancelled"]
"""Why an answer is at its end; empty while it is not."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and when an answer ends."""

    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    """0: always the likeliest token."""
    top_p: float = 1.0
    """Only the likeliest tokens that have this probability together."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    """Texts before which the answer ends."""


class Answering:
    """One answer on its way: `hear` gets each piece of text when it is sure to stay."""

    def __init__(self, prompt: Sequence[int], sampling: Sampling, hear: Callable[[str], None]) -> None:
        self.prompt, self.sampling, self._hear = prompt, sampling, hear
        self.tokens: list[int] = []
        self.said = ""
        self.finish: Finish = ""

    def cancel(self) -> None:
        """Nobody listens any more: it ends at the next token. From any thread."""
        self.finish = self.finish or "cancelled"

    def add(self, token: int, decode: Callable[[list[int]], str], opening: str, ends: Sequence[int]) -> None:
        """One token more, and the text that has become sure by it."""
        self.tokens.append(token)
        if token in ends:
            self.finish = "stop"
        elif len(self.tokens) >= self.sampling.max_tokens:
            self.finish = "length"
        text = decode(self.tokens)
        if not self.finish and opening.startswith(text):
            return
        text = text.removeprefix(opening).lstrip()
        if places := [place for stop in self.sampling.stop if (place := text.find(stop)) >= 0]:
            text, self.finish = text[: min(places)], "stop"
        sure = text.rstrip() if self.finish else self._sure(text)
        if len(sure) > len(self.said):
            self._hear(sure[len(self.said) :])
            self.said = sure

    def _sure(self, text: str) -> str:
        """Without half a character, white space that may be the last, and what may become a text to stop at."""
        held = max((_overlap(text, stop) for stop in self.sampling.stop), default=0)
        return text[: len(text) - held].rstrip("\ufffd").rstrip()


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text are the beginning of `stop`."""
    return next((size for size in range(len(stop) - 1, 0, -1) if text.endswith(stop[:size])), 0)


class StreamingModel:
    """A loaded model. Raises ModelError when it cannot be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with quiet_transformers():
            self._model, self._tokenizer = local.load(folder)
        self.context_tokens = local.context_tokens(self._model.config, self._tokenizer)
        """What a prompt and its answer may take."""

    def prompt(self, conversation: Sequence[Message]) -> list[int]:
        """A conversation's tokens, up to where the answer begins. Raises ModelError."""
        return local.prompt_tokens(self._tokenizer, conversation, self._folder)

    def answer(self, answers: Sequence[Answering]) -> None:
        """Answer to the end, side by side those that may be: each row goes on until the last one has ended."""
        together: list[Answering] = []
        for each in answers:
            prompt = max(len(one.prompt) for one in (each, *together))
            said = max(one.sampling.max_tokens for one in (each, *together))
            if together and prompt + said > self.context_tokens:
                self._answer(together)
                together = []
            together.append(each)
        self._answer(together)

    def _answer(self, together: Sequence[Answering]) -> None:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        model, prompts = self._model, [list(each.prompt) for each in together]
        inputs = self._tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(model.device)
        with torch.inference_mode(), quiet_transformers():
            model.generate(
                **inputs,
                max_new_tokens=max(each.sampling.max_tokens for each in together),
                logits_processor=LogitsProcessorList([_drawing([each.sampling for each in together])]),
                stopping_criteria=StoppingCriteriaList([self._hearing(together)]),
            )

    def _hearing(self, together: Sequence[Answering]) -> Any:
        import torch
        from transformers import StoppingCriteria

        ends: Sequence[int] = self._model.generation_config.eos_token_id
        opening = local.opening(self._tokenizer)

        def decode(tokens: list[int]) -> str:
            return self._tokenizer.decode(tokens, skip_special_tokens=True)

        class Hearing(StoppingCriteria):
            """Hands each new token to its answer; an answer that has ended takes none."""

            def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
                for each, token in zip(together, input_ids[:, -1].tolist(), strict=True):
                    if not each.finish:
                        each.add(token, decode, opening, ends)
                return torch.tensor([bool(each.finish) for each in together], device=input_ids.device)

        return Hearing()


def _drawing(samplings: Sequence[Sampling]) -> Any:
    """Leaves one token to each row that draws, so that taking the likeliest draws it; every row has its own dice."""
    import torch
    from transformers import LogitsProcessor

    dice = [torch.Generator().manual_seed(each.seed) for each in samplings]

    class Drawing(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            for row, (sampling, generator) in enumerate(zip(samplings, dice, strict=True)):
                if sampling.temperature:
                    drawn = _draw(scores[row].cpu(), sampling, generator)
                    scores[row] = -torch.inf
                    scores[row, drawn] = 0.0
            return scores

    return Drawing()


def _draw(logits: Any, sampling: Sampling, generator: Any) -> int:
    """Nucleus sampling (Holtzman et al., The Curious Case of Neural Text Degeneration, arXiv 1904.09751).

    The likeliest token stays, whatever `top_p` is; the smallest temperature that a float can be leaves nothing else.
    """
    import torch

    logits = logits.double()
    shares, tokens = torch.softmax((logits - logits.max()) / sampling.temperature, dim=-1).sort(descending=True)
    beyond = shares.cumsum(0) - shares >= sampling.top_p
    shares[1:][beyond[1:]] = 0.0
    return int(tokens[torch.multinomial(shares, 1, generator=generator)])
