"""Tokens and labels of a conversation, for any chat template.

What is trained is found in the rendered text, not guessed from the template: each message's content is put between two
marker characters, the model's own template renders the conversation, the markers show where each content landed, and
the text without them is tokenised (the idea of instructlab/training, done on text so that no marker meets the
tokenizer). Trained are the assistant's contents with the end-of-turn token after each, and the user's where a sample
says `unmask`. The last answer begins where the model is asked for it: what the template writes between its generation
prompt and the content (Qwen3: an empty block of thoughts) the model has to write itself, so it is trained too. A
template that does more to a content than trimming it is refused, never guessed at.

A special token's name inside a content (`<|im_end|>` in a question about chat templates) is text like any other: only
those that the template itself writes become special tokens.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ..core.records import Message, Sample
from ..llm.likely import NOTHING, Likely
from ..llm.untrusted import TEMPLATE_FAULTS, open_tokenizer
from .special_tokens import PRIVATE_USE, Span, any_of, encode, special_tokens

IGNORED = -100
"""The label of a token that is not trained (torch's cross-entropy ignores it)."""


_DAY = datetime(2025, 1, 1, 12, tzinfo=UTC)
_SAME_DAY = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f" | replace('%{code}', '{_DAY.strftime(f'%{code}')}')" for code in "YymdBbAaHMS")
    + " }}{%- endmacro -%}"
)
"""Put before a template: some write today's date, and a sample's tokens must not change over night."""
_REWRITES = "the chat template rewrites what a message says"


@dataclass(frozen=True)
class Tokens:
    """One conversation as token ids, and a label per token: its own id where it is trained, `IGNORED` elsewhere."""

    input_ids: list[int]
    labels: list[int]
    likely: Likely = NOTHING
    """Of the last trained tokens, if a model said them that the student is to stay like."""

    @property
    def length(self) -> int:
        """How many tokens there are."""
        return len(self.input_ids)

    @property
    def tokens(self) -> int:
        """The same: all go through the model at once."""
        return len(self.input_ids)

    @property
    def trained(self) -> int:
        """How many tokens carry loss; the first of a sequence is predicted by nothing, so it never does."""
        return len(self.places)

    @property
    def places(self) -> list[int]:
        """Where these are."""
        return [place for place, label in enumerate(self.labels) if label != IGNORED and place]

    def ids(self) -> list[Any]:
        """All of it, for a hash."""
        return [self.input_ids, self.labels, *([self.likely.text] if self.likely.text else [])]

    def columns(self) -> dict[str, Any]:
        """The same as the library's collator takes it, and what is likely for ours."""
        return {"input_ids": self.input_ids, "labels": self.labels, "likely": self.likely.text}

    def staying_like(self, likely: Likely) -> Tokens:
        """With what a model might have said, if what it said is what the last trained tokens say."""
        trained = [self.labels[place] for place in self.places]
        said = likely.said
        return replace(self, likely=likely) if said and trained[-len(said) :] == said else self

    def cut(self, length: int) -> Tokens:
        """Its first tokens."""
        left = Tokens(self.input_ids[:length], self.labels[:length])
        return replace(left, likely=self.likely.without_last(self.trained - left.trained))


@dataclass(frozen=True)
class _Rendered:
    text: str
    contents: list[Span]
    """What the messages say in `text`; spans are in characters. The rest is the template's."""
    trained: list[Span]


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder. Raises ModelError where it cannot serve: absent, slow, without a template."""
    tokenizer = open_tokenizer(folder)
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
    end_of_turn = re.compile(rf"\s*(?:{any_of(special_tokens(tokenizer))})")
    rendered = [_render(tokenizer, sample, system_prompt, end_of_turn) for sample in samples]
    encoded = _encode(tokenizer, samples, rendered)
    return [_label(ids, offsets, item.trained) for item, (ids, offsets) in zip(rendered, encoded, strict=True)]


def tokenize_prompts(tokenizer: Any, samples: Sequence[Sample], system_prompt: str) -> list[list[int]]:
    """Token ids of each sample up to its last turn, with what the template writes for the model to answer after.

    Raises ModelError as `tokenize`.
    """
    rendered: list[_Rendered] = []
    for sample in samples:
        messages = _conversation(sample, system_prompt)[:-1]
        text, spans = _written(tokenizer, messages, sample, prompt=True)
        rendered.append(_Rendered(text, sorted(itertools.chain(*spans)), []))
    return [ids for ids, _ in _encode(tokenizer, samples, rendered)]


def _render(tokenizer: Any, sample: Sample, system_prompt: str, end_of_turn: re.Pattern[str]) -> _Rendered:
    messages = _conversation(sample, system_prompt)
    text, spans = _written(tokenizer, messages, sample)
    trained: list[Span] = []
    for number, (message, written) in enumerate(zip(messages, spans, strict=True), start=1):
        if message.role == "assistant":
            start, end = _written_once(sample, message, text, written)
            ending = end_of_turn.match(text, end)
            if number == len(messages):
                if not ending:
                    what = "the chat template puts no special token after the answer: nothing says stop"
                    raise _refusal(sample, what)
                asked = _apply_template(tokenizer, messages[:-1], sample, prompt=True)
                start = len(asked) if text.startswith(asked) else start
            trained.append((start, ending.end() if ending else end))
        elif message.role == "user" and sample.unmask:
            trained.append(_written_once(sample, message, text, written))
    return _Rendered(text, sorted(itertools.chain(*spans)), trained)


def _written(
    tokenizer: Any, messages: Sequence[Message], sample: Sample, *, prompt: bool = False
) -> tuple[str, list[list[Span]]]:
    """What the template makes of messages, and each place at which it wrote the content of each."""
    text = _apply_template(tokenizer, messages, sample, prompt=prompt)
    markers = _markers(messages)
    for mark in (_mark_whole, _mark_trimmed):
        marked = _apply_template(tokenizer, list(map(mark, messages, markers)), sample, prompt=prompt)
        unmarked, places = _take_out("".join(markers), marked)
        if unmarked == text:
            return text, [list(zip(places[first], places[last], strict=False)) for first, last in markers]
    raise _refusal(sample, _REWRITES)


def _conversation(sample: Sample, system_prompt: str) -> tuple[Message, ...]:
    if not system_prompt or sample.messages[0].role == "system":
        return sample.messages
    return (Message(role="system", content=system_prompt), *sample.messages)


def _markers(messages: Sequence[Message]) -> list[str]:
    """Two characters for each message, opening and closing, that stand in none of them."""
    taken = set("".join(message.content for message in messages))
    free = (character for character in map(chr, PRIVATE_USE) if character not in taken)
    return [next(free) + next(free) for _ in messages]


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


def _written_once(sample: Sample, message: Message, text: str, written: list[Span]) -> Span:
    """The one place of a content. Raises ModelError when the template left it out, repeated it or put more into it."""
    if len(written) != 1:
        raise _refusal(sample, "the chat template leaves out or repeats a message that is to be trained")
    [(start, end)] = written
    if len(text[start:end].strip()) != len(message.content.strip()):
        raise _refusal(sample, _REWRITES)
    return start, end


def _apply_template(tokenizer: Any, messages: Sequence[Message], sample: Sample, *, prompt: bool) -> str:
    from jinja2 import TemplateError

    try:
        given = [message.model_dump() for message in messages]
        template = _SAME_DAY + tokenizer.get_chat_template()
        return tokenizer.apply_chat_template(
            given, chat_template=template, tokenize=False, add_generation_prompt=prompt
        )
    except (TemplateError, *TEMPLATE_FAULTS) as error:
        raise _refusal(sample, f"the chat template refuses the conversation ({error})") from error


def _refusal(sample: Sample, what: str) -> ModelError:
    fix = "use another chat template, or an empty student.system_prompt if the template has no system role"
    return ModelError(what, where=f"sample {sample.id}", fix=fix)


def _encode(
    tokenizer: Any, samples: Sequence[Sample], rendered: Sequence[_Rendered]
) -> list[tuple[list[int], list[Span]]]:
    """Ids and offsets of each sample's text. Raises ModelError where what a sample says becomes a special token."""
    encoded = encode(tokenizer, [(item.text, item.contents) for item in rendered])
    for sample, each in zip(samples, encoded, strict=True):
        if each.mistaken:
            what = f"its text holds {each.mistaken!r}, of which the tokenizer makes a special token"
            raise ModelError(what, where=f"sample {sample.id}", fix="write it in another way")
    return [(each.ids, each.offsets) for each in encoded]


def _label(ids: list[int], offsets: list[Span], trained: list[Span]) -> Tokens:
    labels = [
        token if any(_inside(place, span) for span in trained) else IGNORED
        for token, place in zip(ids, offsets, strict=True)
    ]
    return Tokens(ids, labels)


def _inside(place: Span, span: Span) -> bool:
    """Whether a token at `place` shares a character with `span`.

    Byte-level tokenizers may trim white space from offsets, so that a token of white space has an empty place, at its
    own end: inside a span if it ends there after the span's start.
    """
    start, end = place
    if start == end:
        return span[0] < end <= span[1]
    return start < span[1] and end > span[0]
