"""Rendered conversations as token ids: special tokens where the chat template wrote them, and nowhere else.

A tokenizer makes a special token of its name wherever the name stands. In what a message says (a question about chat
templates, a contribution that means harm) it is text like any other.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Span = tuple[int, int]
"""Start and end, in characters."""
Text = tuple[str, Sequence[Span]]
"""What a template wrote, and where in it, in order, it put what the messages say."""

PRIVATE_USE = range(0xE000, 0xF900)
"""Unicode characters without a meaning: templates leave them alone, and trimming does not take them for white space."""


@dataclass(frozen=True)
class Encoded:
    """One text as token ids, and the place of each."""

    ids: list[int]
    offsets: list[Span]
    mistaken: str = ""
    """A special token that was made of what a message says; empty: there is none.

    Some vocabularies (unigram ones) hold the name of a special token as a piece of text, too.
    """


def special_tokens(tokenizer: Any) -> list[str]:
    """The names of the special tokens, a longer one before those that it begins with."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted({*added, *tokenizer.all_special_tokens}, key=lambda name: (-len(name), name))


def any_of(names: Sequence[str]) -> str:
    """A pattern for one of the names, and for nothing where there is none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def encode(tokenizer: Any, texts: Sequence[Text]) -> list[Encoded]:
    """The ids of each text. The template has written the first special token (BOS) too, so none is added."""
    if not texts:
        return []
    names = re.compile(any_of(special_tokens(tokenizer)))
    said = (text[start:end] for text, contents in texts for start, end in contents)
    if any(map(names.search, said)):
        return _encode_with_aliases(tokenizer, texts, names)
    found = tokenizer([text for text, _ in texts], add_special_tokens=False, return_offsets_mapping=True)
    return [Encoded(ids, offsets) for ids, offsets in zip(found["input_ids"], found["offset_mapping"], strict=True)]


def _encode_with_aliases(tokenizer: Any, texts: Sequence[Text], names: re.Pattern[str]) -> list[Encoded]:
    """Each special token gets a second name, as long as its own, made of a character that no text has.

    It stands in for the first where the template wrote that, and of the first names the tokenizer makes text. Done on a
    copy of the tokenizer, which takes a second for a large one: so not for every text.
    """
    taken = set[str]().union(*(text for text, _ in texts))
    free = (chr(code) for code in PRIVATE_USE if chr(code) not in taken)
    written = {name for text, _ in texts for name in names.findall(text)}
    aliases = {name: next(free) * len(name) for name in sorted(written)}
    encoder = copy.deepcopy(tokenizer.backend_tokenizer)
    encoder.no_truncation()
    encoder.no_padding()
    encoder.encode_special_tokens = True
    added = encoder.get_added_tokens_decoder().values()
    encoder.add_tokens([_renamed(token, aliases[token.content]) for token in added if token.content in aliases])
    meant = {encoder.token_to_id(alias): tokenizer.convert_tokens_to_ids(name) for name, alias in aliases.items()}
    renamed = [_with_aliases(text, names, aliases) for text in texts]
    found = encoder.encode_batch(renamed, add_special_tokens=False)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return [
        Encoded(
            [meant.get(token, token) for token in each.ids],
            each.offsets,
            next((tokenizer.convert_ids_to_tokens(token) for token in each.ids if token in special), ""),
        )
        for each in found
    ]


def _renamed(token: Any, alias: str) -> Any:
    """The token under its second name: not special, so that the tokenizer still finds it."""
    from tokenizers import AddedToken

    own = {"lstrip": token.lstrip, "rstrip": token.rstrip}
    return AddedToken(alias, special=False, normalized=False, single_word=False, **own)


def _with_aliases(text: Text, names: re.Pattern[str], aliases: Mapping[str, str]) -> str:
    """The text with its special tokens under their second names, and what the messages say as it is."""
    whole, contents = text
    parts: list[str] = []
    place = 0
    for start, end in [*contents, (len(whole), len(whole))]:
        parts += [names.sub(lambda found: aliases[found[0]], whole[place:start]), whole[start:end]]
        place = end
    return "".join(parts)
