"""A tokenizer as llama.cpp wants it in a GGUF file: tokens, merges, special tokens, and the name of its word splitter.

llama.cpp splits text into words by code of its own, chosen by a name. Which name is right follows from what the
tokenizer does, not from the model that it once came with: a GGUF file unpacked by transformers keeps the tokens of its
model and splits as GPT-2 does. A splitter that has no name there is refused: wrong tokens would only cost quality.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ModelError

CONVERTER = "convert the folder with llama.cpp's convert_hf_to_gguf.py"

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN_2 = _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WORDS, _BYTES, _DIGITS = "words as GPT-2 has them, in bytes", "bytes", "digits"
_SPLITTERS: dict[tuple[tuple[str, ...], bool], str] = {
    ((_WORDS,), False): "gpt-2",
    ((_DIGITS, _WORDS), False): "smollm",
    ((_LLAMA_3, _BYTES), True): "llama-bpe",
    ((_QWEN_2, _BYTES), False): "qwen2",
    ((_TEKKEN, _BYTES), True): "tekken",
}
"""The steps of a splitter, and whether a word that is a token is taken whole without a look at the merges -> the name
that `llama_vocab::impl::load` in llama.cpp's src/llama-vocab.cpp has for it."""


def add_vocabulary(writer: Any, tokenizer: Any, folder: Path, *, size: int, ends: Sequence[int]) -> None:
    """Add a tokenizer to a `gguf.GGUFWriter`.

    `size` is the number of tokens that the model has rows for, `ends` are those that end an answer.

    Raises ModelError where llama.cpp would split text otherwise than the tokenizer does.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    inner: dict[str, Any] = json.loads(backend.to_str()) if backend else {}
    writer.add_tokenizer_model("gpt2")  # llama.cpp's name for byte-level BPE
    writer.add_tokenizer_pre(_splitter(inner, folder))
    _add_tokens(writer, tokenizer, inner, size)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in inner["model"]["merges"]])
    _add_special_tokens(writer, tokenizer, ends)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _splitter(inner: dict[str, Any], folder: Path) -> str:
    model: dict[str, Any] = inner.get("model", {})
    greedy = [token["content"] for token in inner.get("added_tokens", []) if _takes_spaces(token)]
    name = _SPLITTERS.get((tuple(_steps(inner.get("pre_tokenizer"))), bool(model.get("ignore_merges"))), "")
    what = ""
    if model.get("type") != "BPE" or model.get("byte_fallback") or not model.get("merges"):
        what = "its tokenizer is no byte-level BPE with merges"
    elif inner.get("normalizer") or not name:
        what = "its tokenizer splits text in a way for which tilth knows no name of llama.cpp's"
    elif greedy:
        what = f"its token {greedy[0]!r} takes in the spaces around it, which llama.cpp's does not"
    if what:
        raise ModelError(what, where=str(folder), fix=CONVERTER)
    return name


def _takes_spaces(token: dict[str, Any]) -> bool:
    return token["lstrip"] or token["rstrip"] or token["single_word"]


def _steps(splitter: dict[str, Any] | None) -> Iterator[str]:
    match splitter or {}:
        case {"type": "Sequence", "pretokenizers": [*parts]}:
            for part in parts:
                yield from _steps(part)
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(by_words)}:
            yield _WORDS if by_words else _BYTES
        case {"type": "Digits", "individual_digits": True}:
            yield _DIGITS
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
            yield pattern
        case other:
            yield f"unknown: {other}"


def _add_tokens(writer: Any, tokenizer: Any, inner: dict[str, Any], size: int) -> None:
    from gguf import TokenType

    texts: dict[int, str] = {number: text for text, number in tokenizer.get_vocab().items()}
    added = {
        token["id"]: TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
        for token in inner["added_tokens"]
    }
    kinds = [added.get(number, TokenType.NORMAL if number in texts else TokenType.UNUSED) for number in range(size)]
    writer.add_token_list([texts.get(number, f"[PAD{number}]") for number in range(size)])
    writer.add_token_types(kinds)


def _add_special_tokens(writer: Any, tokenizer: Any, ends: Sequence[int]) -> None:
    """`ends` are what ends an answer besides the tokenizer's own end of turn."""
    for name in ("bos", "eos", "unk", "pad"):
        if (number := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    for name, number in zip(("eot", "eom"), (end for end in ends if end != tokenizer.eos_token_id), strict=False):
        getattr(writer, f"add_{name}_token_id")(number)
    writer.add_add_space_prefix(False)
    writer.add_add_eos_token(False)
    writer.add_add_bos_token(_begins(tokenizer))


def _begins(tokenizer: Any) -> bool:
    """Whether every text begins with the first token: llama.cpp takes it off a conversation and puts it on again.

    Where the chat template writes none, a conversation must not get one, whatever the tokenizer does with plain text.
    """
    bos = tokenizer.bos_token_id
    if bos is None or tokenizer("a").input_ids[:1] != [bos]:
        return False
    if not tokenizer.chat_template:
        return True
    said = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    return said.startswith(tokenizer.bos_token)
