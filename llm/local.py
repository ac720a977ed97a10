"""The student in this process: loading its folder, and answering many conversations at once."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import ModelError
from ..core.progress import Progress
from ..core.records import Message
from .likely import MOST, NOTHING, Likely
from .precision import compute_dtype, device
from .quiet import quiet_transformers
from .untrusted import TEMPLATE_FAULTS, open_tokenizer, open_weights


@dataclass(frozen=True)
class Said:
    """An answer, without special tokens, `opening` and outer white space, and what might have been said instead."""

    text: str
    likely: Likely


def generate(
    folder: Path,
    conversations: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    batch_size: int,
    progress: Progress,
) -> list[Said]:
    """The model's answer to each conversation, in their order.

    Greedy, at most `max_new_tokens` tokens; the same inputs give the same answers. Raises ModelError.
    """
    if not conversations:
        return []
    answers: dict[int, Said] = {}
    told = progress.task(f"answering with {folder.name}", total=len(conversations), unit="answers")
    with loaded(folder, batch_size) as student, told as task:
        for batch in student.said(conversations, max_new_tokens, likely=MOST):
            answers |= batch
            task.advance(len(batch))
    return [answers[index] for index in range(len(conversations))]


@contextlib.contextmanager
def loaded(folder: Path, batch_size: int) -> Generator[Student]:
    """The model in `folder`, to be asked often; its memory is given back at the end. Raises ModelError."""
    with quiet_transformers():
        student = Student(folder, *load(folder), batch_size)
        try:
            yield student
        finally:
            del student.model
            _free()


class Student:
    """A loaded model that answers many conversations, some side by side. What it answers comes batch by batch.

    Neighbours in length share a batch and waste no padding; the longest come first, so that what does not fit in
    memory fails at once.
    """

    def __init__(self, folder: Path, model: Any, tokenizer: Any, batch_size: int) -> None:
        self.model = model
        self._folder, self._tokenizer, self._batch_size = folder, tokenizer, batch_size

    def answers(self, conversations: Sequence[Sequence[Message]], max_new_tokens: int) -> Iterator[dict[int, str]]:
        """The texts that `generate` gives, by the conversation's index."""
        for batch in self.said(conversations, max_new_tokens):
            yield {index: said.text for index, said in batch.items()}

    def said(
        self, conversations: Sequence[Sequence[Message]], max_new_tokens: int, likely: int = 0
    ) -> Iterator[dict[int, Said]]:
        """The same with so many of the likeliest tokens at each place."""
        prompts = self._prompts(conversations)
        for batch in self._batches([len(prompt) for prompt in prompts]):
            said = _answer(self.model, self._tokenizer, [prompts[index] for index in batch], max_new_tokens, likely)
            yield dict(zip(batch, said, strict=True))

    def log_probs(self, conversations: Sequence[Sequence[Message]], texts: Sequence[str]) -> Iterator[dict[int, float]]:
        """How likely `texts[i]` is as (the beginning of) the answer to `conversations[i]`, by their index.

        The natural logarithm, summed over its tokens; the end of the turn is not asked for.
        """
        before = opening(self._tokenizer)
        prompts = self._prompts(conversations)
        answers = [self._tokenizer(before + text, add_special_tokens=False).input_ids for text in texts]
        lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
        self._refuse_longer(max(lengths, default=0))
        for batch in self._batches(lengths):
            pairs = [(prompts[index], answers[index]) for index in batch]
            yield dict(zip(batch, _log_probs(self.model, self._tokenizer, pairs), strict=True))

    def _prompts(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        prompts = [prompt_tokens(self._tokenizer, conversation, self._folder) for conversation in conversations]
        self._refuse_longer(max(map(len, prompts), default=0) + 1)
        return prompts

    def _refuse_longer(self, tokens: int) -> None:
        if tokens > (most := context_tokens(self.model.config, self._tokenizer)):
            what = f"a question and its answer take {tokens:,} tokens at least, and the model holds {most:,}"
            raise ModelError(what, where=str(self._folder), fix="ask shorter ones, or without the documents at hand")

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
        yield from (order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size))


def context_tokens(config: Any, tokenizer: Any) -> int:
    """What a prompt and its answer may take, by the model's configuration."""
    return getattr(config.get_text_config(), "max_position_embeddings", None) or tokenizer.model_max_length


def answer(folder: Path, loaded: tuple[Any, Any], conversation: Sequence[Message], max_new_tokens: int) -> str:
    """One conversation's, by a model that `load` has loaded from `folder`."""
    model, tokenizer = loaded
    return _answer(model, tokenizer, [prompt_tokens(tokenizer, conversation, folder)], max_new_tokens)[0].text


def opening(tokenizer: Any) -> str:
    """What a model says before an answer because its chat template writes it there, after the generation prompt.

    Qwen3's writes an empty block of thoughts: training teaches it, and it is no part of the answer.
    """
    content = "\ue000"  # a character without a meaning
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": content}]
    asked = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    written = whole[len(asked) :].partition(content)[0] if whole.startswith(asked) else ""
    return tokenizer.decode(tokenizer(written, add_special_tokens=False).input_ids, skip_special_tokens=True)


def prompt_tokens(tokenizer: Any, conversation: Sequence[Message], folder: Path) -> list[int]:
    """The tokens of a conversation by the model's chat template, up to where its answer begins. Raises ModelError."""
    from jinja2 import TemplateError

    turns = [message.model_dump() for message in conversation]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except (TemplateError, *TEMPLATE_FAULTS) as error:
        fix = "use a model that was made for chat"
        raise ModelError(f"its chat template cannot be used ({error})", where=str(folder), fix=fix) from error
    return tokenizer(text, add_special_tokens=False).input_ids  # the template has put its own


def load(folder: Path) -> tuple[Any, Any]:
    """The model, ready to answer on `device()` in `compute_dtype()`, and its tokenizer, padding on the left.

    Weights are read from safetensors only, and no code of the model's is run. Raises ModelError.
    """
    from transformers import AutoModelForCausalLM

    tokenizer = open_tokenizer(folder, padding_side="left")
    model = open_weights(AutoModelForCausalLM, folder, dtype=compute_dtype())
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.generation_config = _greedy(model, tokenizer)
    return model.to(device()).eval(), tokenizer


def _greedy(model: Any, tokenizer: Any) -> Any:
    """Plain greedy decoding, whatever penalties and temperatures the model's own file sets."""
    from transformers import GenerationConfig

    named = model.generation_config.eos_token_id
    ends = {*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id} - {None}
    return GenerationConfig(do_sample=False, eos_token_id=sorted(ends), pad_token_id=tokenizer.pad_token_id)


def _answer(model: Any, tokenizer: Any, prompts: list[list[int]], max_new_tokens: int, likely: int = 0) -> list[Said]:
    written = _written(model, tokenizer, prompts, max_new_tokens, max(1, likely))
    texts = tokenizer.batch_decode([each.said for each in written], skip_special_tokens=True)
    before = opening(tokenizer)
    return [
        Said(text.removeprefix(before).strip(), Likely.made_of(each.tokens, each.logs) if likely else NOTHING)
        for text, each in zip(texts, written, strict=True)
    ]


class _Written(NamedTuple):
    """An answer: at each place the likeliest tokens, what was said first, and the logarithms of their shares."""

    tokens: list[list[int]]
    logs: list[list[float]]

    @property
    def said(self) -> list[int]:
        return [place[0] for place in self.tokens]


def _written(model: Any, tokenizer: Any, prompts: list[list[int]], max_new_tokens: int, likely: int) -> list[_Written]:
    """The tokens of each answer, greedily, with so many likely ones. A row that has ended leaves the batch.

    `model.generate` computes such rows to the end of the longest: of the general set's answers a third of all tokens.
    An answer ends at the end of the model's context, too.
    """
    import torch

    most = context_tokens(model.config, tokenizer)

    inputs = tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(model.device)
    ids, mask, cache = inputs["input_ids"], inputs["attention_mask"], None
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    ends = torch.tensor(model.generation_config.eos_token_id, dtype=torch.long, device=model.device)
    rows, written = list(range(len(prompts))), [_Written([], []) for _ in prompts]
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            output = model(
                input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, logits_to_keep=1
            )
            cache, logits = output.past_key_values, output.logits[:, -1].float()
            chosen = logits.topk(likely)
            logs = chosen.values - logits.logsumexp(-1, keepdim=True)
            ids = chosen.indices[:, :1]
            going = ~torch.isin(ids[:, 0], ends) & (places[:, -1] + 1 < most)
            for row, tokens, of_tokens in zip(rows, chosen.indices.tolist(), logs.tolist(), strict=True):
                written[row].tokens.append(tokens)
                written[row].logs.append(of_tokens)
            if not going.any():
                break
            if not going.all():
                cache.batch_select_indices(going.nonzero()[:, 0])
                ids, mask, places = ids[going], mask[going], places[going]
                rows = [row for row, goes in zip(rows, going.tolist(), strict=True) if goes]
            mask, places = torch.cat([mask, torch.ones_like(ids)], dim=1), places[:, -1:] + 1
    return written


def _log_probs(model: Any, tokenizer: Any, pairs: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    """Of each pair (prompt, answer) the answer's. Padded on the left, so that only the end's logits are computed."""
    import torch

    inputs = tokenizer.pad({"input_ids": [prompt + answer for prompt, answer in pairs]}, return_tensors="pt")
    inputs = inputs.to(model.device)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    longest = max(1, *(len(answer) for _, answer in pairs))
    with torch.inference_mode():
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        output = model(input_ids=ids, attention_mask=mask, position_ids=places, logits_to_keep=longest + 1)
        of_tokens = output.logits[:, :-1].float().log_softmax(-1)
        chosen = of_tokens.gather(-1, ids[:, -longest:, None]).squeeze(-1)
    return [float(row[longest - len(answer) :].sum()) for row, (_, answer) in zip(chosen, pairs, strict=True)]


def _free() -> None:
    """Give the memory back before the next model is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
