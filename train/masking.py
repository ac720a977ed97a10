"""Tokens and labels of a conversation, for any chat template.

What is trained is found in the rendered text, not guessed from the template: each message's content is put between two
marker characters, the model's own template renders the conversation, the markers show where each content landed, and
the text without them is tokenised (the idea of instructlab/training, done on text so that no marker meets the
tokenizer). Trained are the assistant's contents with the end-of-turn token after each, and the user's where a sample
says `unmask`. A template that does more to a content than trimming it is refused, never guessed at.

A special token's name inside a content (`<|im_end|>` in a question about chat templates) is text like any other: only
those that the template itself writes become special tokens.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ..core.records import Message, Sample

IGNORED = -100
"""The label of a token that is not trained (torch's cross-entropy ignores it)."""

_PRIVATE_USE = range(0xE000, 0xF900)
"""Unicode characters without a meaning: templates leave them alone, and trimming does not take them for white space."""


_DAY = datetime(2025, 1, 1, 12, tzinfo=UTC)
_SAME_DAY = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f" | replace('%{code}', '{_DAY.strftime(f'%{code}')}')" for code in "YymdBbAaHMS")
    + " }}{%- endmacro -%}"
)
"""Put before a template: some write today's date, and a sample's tokens must not change over night."""


@dataclass(frozen=True)
class Tokens:
    """One conversation as token ids, and a label per token: its own id where it is trained, `IGNORED` elsewhere."""

    input_ids: list[int]
    labels: list[int]

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
        return sum(label != IGNORED for label in self.labels[1:])

    def ids(self) -> list[list[int]]:
        """Both, for a hash."""
        return [self.input_ids, self.labels]

    def columns(self) -> dict[str, list[int]]:
        """Both as the library's collator takes them."""
        return {"input_ids": self.input_ids, "labels": self.labels}


Span = tuple[int, int]


@dataclass(frozen=True)
class _Rendered:
    text: str
    contents: list[Span]
    """What the messages say in `text`; spans are in characters. The rest is the template's."""
    trained: list[Span]


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
    names = _special_tokens(tokenizer)
    end_of_turn = re.compile(rf"\s*(?:{_any_of(names)})")
    rendered = [_render(tokenizer, sample, system_prompt, end_of_turn) for sample in samples]
    encoded = _encode(tokenizer, names, samples, rendered)
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
    return [ids for ids, _ in _encode(tokenizer, _special_tokens(tokenizer), samples, rendered)]


def _special_tokens(tokenizer: Any) -> list[str]:
    """The names of the special tokens, a longer one before those that it begins with."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted({*added, *tokenizer.all_special_tokens}, key=lambda name: (-len(name), name))


def _any_of(names: Sequence[str]) -> str:
    """A pattern for one of the names, and for nothing where there is none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def _render(tokenizer: Any, sample: Sample, system_prompt: str, end_of_turn: re.Pattern[str]) -> _Rendered:
    messages = _conversation(sample, system_prompt)
    text, spans = _written(tokenizer, messages, sample)
    trained: list[Span] = []
    for message, written in zip(messages, spans, strict=True):
        if message.role == "assistant":
            start, end = _written_once(sample, written)
            ending = end_of_turn.match(text, end)
            if message is messages[-1] and not ending:
                raise _refusal(sample, "the chat template puts no special token after the answer: nothing says stop")
            trained.append((start, ending.end() if ending else end))
        elif message.role == "user" and sample.unmask:
            trained.append(_written_once(sample, written))
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
    raise _refusal(sample, "the chat template rewrites what a message says")


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


def _written_once(sample: Sample, written: list[Span]) -> Span:
    """The one place of a content. Raises ModelError when the template left it out or repeated it."""
    if len(written) != 1:
        raise _refusal(sample, "the chat template leaves out or repeats a message that is to be trained")
    return written[0]


def _apply_template(tokenizer: Any, messages: Sequence[Message], sample: Sample, *, prompt: bool) -> str:
    from jinja2 import TemplateError

    try:
        given = [message.model_dump() for message in messages]
        template = _SAME_DAY + tokenizer.get_chat_template()
        return tokenizer.apply_chat_template(
            given, chat_template=template, tokenize=False, add_generation_prompt=prompt
        )
    except TemplateError as error:
        raise _refusal(sample, f"the chat template refuses the conversation ({error})") from error


def _refusal(sample: Sample, what: str) -> ModelError:
    fix = "use another chat template, or an empty student.system_prompt if the template has no system role"
    return ModelError(what, where=f"sample {sample.id}", fix=fix)


def _encode(
    tokenizer: Any, names: Sequence[str], samples: Sequence[Sample], rendered: Sequence[_Rendered]
) -> list[tuple[list[int], list[Span]]]:
    """Ids and offsets of each sample's text, with special tokens where the template wrote them and nowhere else.

    Each special token gets a second name, as long as its own, made of a character that no text has; it stands in for
    the first where the template wrote that, and of the first names the tokenizer makes text.
    """
    taken = set[str]().union(*(item.text for item in rendered))
    free = (chr(code) for code in _PRIVATE_USE if chr(code) not in taken)
    written = {name for name in names if any(name in item.text for item in rendered)}
    aliases = {name: next(free) * len(name) for name in sorted(written)}
    encoder = copy.deepcopy(tokenizer.backend_tokenizer)
    encoder.no_truncation()
    encoder.no_padding()
    encoder.encode_special_tokens = True
    encoder.add_tokens([_renamed(token, aliases) for token in _added(encoder) if token.content in aliases])
    meant = {encoder.token_to_id(alias): tokenizer.convert_tokens_to_ids(name) for name, alias in aliases.items()}
    pattern = re.compile(_any_of([name for name in names if name in aliases]))
    texts = [_with_aliases(item, pattern, aliases) for item in rendered]
    # The template has written the special tokens, the first one (BOS) too: adding them here would double it.
    encoded = encoder.encode_batch(texts, add_special_tokens=False)
    found = [([meant.get(token, token) for token in each.ids], each.offsets) for each in encoded]
    for sample, item, (ids, offsets) in zip(samples, rendered, found, strict=True):
        _refuse_special_in_contents(tokenizer, sample, item, ids, offsets)
    return found


def _added(encoder: Any) -> list[Any]:
    return list(encoder.get_added_tokens_decoder().values())


def _renamed(token: Any, aliases: Mapping[str, str]) -> Any:
    """The token under its second name: not special, so that the tokenizer still finds it."""
    from tokenizers import AddedToken

    alias, own = aliases[token.content], {"lstrip": token.lstrip, "rstrip": token.rstrip}
    return AddedToken(alias, special=False, normalized=False, single_word=False, **own)


def _with_aliases(item: _Rendered, names: re.Pattern[str], aliases: Mapping[str, str]) -> str:
    """The text with its special tokens under their second names, contents as they are."""
    parts: list[str] = []
    place = 0
    for start, end in [*item.contents, (len(item.text), len(item.text))]:
        parts += [names.sub(lambda found: aliases[found[0]], item.text[place:start]), item.text[start:end]]
        place = end
    return "".join(parts)


def _refuse_special_in_contents(
    tokenizer: Any, sample: Sample, item: _Rendered, ids: list[int], offsets: list[Span]
) -> None:
    """Some vocabularies hold a special token's name as a piece of text too (unigram): that must not be trained on."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for token, place in zip(ids, offsets, strict=True):
        if token in special and any(start <= place[0] < place[1] <= end for start, end in item.contents):
            name = tokenizer.convert_ids_to_tokens(token)
            what = f"its text holds {name!r}, of which the tokenizer makes a special token"
            raise ModelError(what, where=f"sample {sample.id}", fix="write it in another way")


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
