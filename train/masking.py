"""Tokens and labels of a conversation, for any chat template.

What is trained is found in the rendered text, not guessed from the template: each message's content is put between two
marker characters, the model's own template renders the conversation, the markers show where each content landed, and
the text without them is tokenised (the idea of instructlab/training, done on text so that no marker meets the
tokenizer). Trained are the assistant's contents with the end-of-turn token after each, and the user's where a sample
says `unmask`. A template that does more to a content than trimming it is refused, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ..core.records import Message, Sample

IGNORED = -100
"""The label of a token that is not trained (torch's cross-entropy ignores it)."""

_PRIVATE_USE = range(0xE000, 0xF900)
"""Unicode characters without a meaning: templates leave them alone, and trimming does not take them for white space."""


@dataclass(frozen=True)
class Tokens:
    """One conversation as token ids, and a label per token: its own id where it is trained, `IGNORED` elsewhere."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        """How many tokens carry loss; the first of a sequence is predicted by nothing, so it never does."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class _Rendered:
    text: str
    trained: list[tuple[int, int]]
    """Spans of `text`, in characters."""


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder. Raises ModelError where it cannot serve: absent, slow, without a template."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError) as error:
        fix = "name a folder with a whole Hugging Face model"
        raise ModelError(f"the tokenizer cannot be loaded ({error})", where=str(folder), fix=fix) from error
    if not tokenizer.is_fast:
        raise ModelError(
            "the tokenizer cannot tell token offsets", where=str(folder), fix="use a model with a fast one"
        )
    if not tokenizer.chat_template:
        raise ModelError("the model has no chat template", where=str(folder), fix="use a chat (instruct) model")
    return tokenizer


def tokenize(tokenizer: Any, samples: Sequence[Sample], system_prompt: str) -> list[Tokens]:
    """Token ids and labels of each sample, in order; `system_prompt` goes before every conversation if not empty.

    Raises ModelError when the chat template refuses a conversation, changes it, or ends no assistant turn.
    """
    special = _special_token_pattern(tokenizer)
    rendered = [_render(tokenizer, sample, system_prompt, special) for sample in samples]
    if not rendered:
        return []
    # The template has written the special tokens, the first one (BOS) too: adding them here would double it.
    encoded = tokenizer([item.text for item in rendered], add_special_tokens=False, return_offsets_mapping=True)
    return [
        _label(ids, offsets, item.trained)
        for ids, offsets, item in zip(encoded["input_ids"], encoded["offset_mapping"], rendered, strict=True)
    ]


def _special_token_pattern(tokenizer: Any) -> re.Pattern[str]:
    """Matches the special token that ends a turn, with white space that the template puts before it."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    names = sorted({*added, *tokenizer.all_special_tokens}, key=lambda name: (-len(name), name))
    return re.compile(r"\s*(?:" + "|".join(map(re.escape, names)) + ")") if names else re.compile(r"(?!)")


def _render(tokenizer: Any, sample: Sample, system_prompt: str, special: re.Pattern[str]) -> _Rendered:
    messages = _conversation(sample, system_prompt)
    text = _apply_template(tokenizer, messages, sample)
    markers = _markers(messages)
    for mark in (_mark_whole, _mark_trimmed):
        marked = _apply_template(tokenizer, list(map(mark, messages, markers)), sample)
        unmarked, places = _take_out("".join(markers), marked)
        if unmarked == text:
            break
    else:
        raise _refusal(sample, "the chat template rewrites what a message says")
    trained: list[tuple[int, int]] = []
    for message, marker in zip(messages, markers, strict=True):
        if message.role == "assistant":
            start, end = _span(sample, [places[character] for character in marker])
            end_of_turn = special.match(text, end)
            if message is messages[-1] and not end_of_turn:
                raise _refusal(sample, "the chat template puts no special token after the answer: nothing says stop")
            trained.append((start, end_of_turn.end() if end_of_turn else end))
        elif message.role == "user" and sample.unmask:
            trained.append(_span(sample, [places[character] for character in marker]))
    return _Rendered(text, trained)


def _conversation(sample: Sample, system_prompt: str) -> tuple[Message, ...]:
    if not system_prompt or sample.messages[0].role == "system":
        return sample.messages
    return (Message(role="system", content=system_prompt), *sample.messages)


def _markers(messages: Sequence[Message]) -> list[str]:
    """Two characters for each message, opening and closing, that stand in none of them."""
    taken = set("".join(message.content for message in messages))
    free = [chr(code) for code in _PRIVATE_USE if chr(code) not in taken]
    return [free[2 * index] + free[2 * index + 1] for index in range(len(messages))]


def _mark_whole(message: Message, marker: str) -> Message:
    """The message with its content between the markers."""
    return Message(role=message.role, content=marker[0] + message.content + marker[1])


def _mark_trimmed(message: Message, marker: str) -> Message:
    """The same with the white space around the content left outside, where a template that trims finds it."""
    content = message.content.strip()
    before, _, after = message.content.partition(content) if content else (message.content, "", "")
    return Message(role=message.role, content=f"{before}{marker[0]}{content}{marker[1]}{after}")


def _take_out(markers: str, marked: str) -> tuple[str, dict[str, list[int]]]:
    """The text without its markers, and where in it each of them stood."""
    places: dict[str, list[int]] = {marker: [] for marker in markers}
    text: list[str] = []
    length = 0
    for part in re.split(f"([{markers}])", marked):
        if part in places:
            places[part].append(length)
        else:
            text.append(part)
            length += len(part)
    return "".join(text), places


def _span(sample: Sample, places: list[list[int]]) -> tuple[int, int]:
    """Start and end of a content that the template wrote once. Raises ModelError when it left it out or repeated it."""
    match places:
        case [[start], [end]] if start <= end:
            return start, end
        case _:
            raise _refusal(sample, "the chat template leaves out or repeats a message that is to be trained")


def _apply_template(tokenizer: Any, messages: Sequence[Message], sample: Sample) -> str:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template([message.model_dump() for message in messages], tokenize=False)
    except TemplateError as error:
        raise _refusal(sample, f"the chat template refuses the conversation ({error})") from error


def _refusal(sample: Sample, what: str) -> ModelError:
    fix = "use another chat template, or an empty student.system_prompt if the template has no system role"
    return ModelError(what, where=f"sample {sample.id}", fix=fix)


def _label(ids: list[int], offsets: list[tuple[int, int]], trained: list[tuple[int, int]]) -> Tokens:
    labels = [
        token if any(_inside(place, span) for span in trained) else IGNORED
        for token, place in zip(ids, offsets, strict=True)
    ]
    return Tokens(ids, labels)


def _inside(place: tuple[int, int], span: tuple[int, int]) -> bool:
    """Whether a token at `place` shares a character with `span`.

    Byte-level tokenizers may trim white space from offsets, so that a token of white space has an empty place, at its
    own end: inside a span if it ends there after the span's start.
    """
    start, end = place
    if start == end:
        return span[0] < end <= span[1]
    return start < span[1] and end > span[0]
