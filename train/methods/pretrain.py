"""Continued pre-training: documents as plain text, every token predicted, packed into rows (`packing`).

A document's title, a blank line, its text, without a chat template, and the end-of-text token after it. The loss is
that of `supervised`: over all trained tokens of a step, however it is accumulated.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

from ...core.errors import ModelError
from ..data import TrainingSample
from ..load import padding_id
from ..packing import Block, DocumentTokens, collate, pack
from .row import Row
from .setup import Setup
from .supervised import token_trainer


def rows(tokenizer: Any, samples: Sequence[TrainingSample], _system_prompt: str) -> list[DocumentTokens]:
    """The tokens of each document, in order. Raises ModelError."""
    if tokenizer.eos_token_id is None:
        fix = "use a model whose tokenizer has an eos_token"
        raise ModelError("the tokenizer has no end-of-text token", where="pretrain", fix=fix)
    begins = [token for token in tokenizer("").input_ids if token == tokenizer.bos_token_id][:1]
    encoder = copy.deepcopy(tokenizer.backend_tokenizer)
    encoder.no_truncation()
    encoder.no_padding()
    encoder.encode_special_tokens = True  # the name of one inside a document is text like any other
    texts = [f"{sample.question}\n\n{sample.answer}" for sample in samples]
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    found: list[DocumentTokens] = []
    for sample, encoded in zip(samples, encoder.encode_batch(texts, add_special_tokens=False), strict=True):
        if met := special & set(encoded.ids):
            what = f"its text holds {tokenizer.convert_ids_to_tokens(min(met))!r}, which becomes a special token"
            raise ModelError(what, where=f"sample {sample.id}", fix="write it in another way")
        found.append(DocumentTokens([*begins, *encoded.ids, tokenizer.eos_token_id]))
    return found


def blocks(rows: Sequence[Row], length: int) -> list[Block]:
    """The rows that are trained, made of documents."""
    return pack([row.input_ids for row in rows if isinstance(row, DocumentTokens)], length)


def trainer(setup: Setup) -> Any:
    """TRL's trainer on the blocks, ready to `train()`."""
    return token_trainer(
        setup,
        blocks(setup.rows, setup.phase.max_length),
        blocks(setup.validation, setup.phase.max_length),
        partial(collate, padding=padding_id(setup.tokenizer)),
    )
