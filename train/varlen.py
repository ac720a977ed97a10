"""Batches without padding: rows one after another as one long row, and attention that keeps each of them to itself.

On a GPU attention is PyTorch's own variable-length kernel (`torch.nn.attention.varlen`: FlashAttention, and no wheel
of it), elsewhere a product for each row. It is registered with transformers under a name. Where the rows begin it finds
in the batch that the model was given last, for not every layer passes on what it is told (Nemotron's do not). A joined
row computes what each of its rows would alone, to rounding; tests hold it to that.

Where attention is a product for each row, what all rows of a batch begin with goes through the model once: the system
prompt and the beginning of the user's turn, which are half of a short question's tokens. The other pieces see it before
their own tokens, and their gradients add up in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ..llm.precision import device
from .masking import IGNORED

_NAME = "tilth_varlen"
_BOUNDED = frozenset({"full_attention", "sliding_attention"})
_MASKED_WITHOUT_POSITIONS = frozenset({"gpt_oss"})
"""Kinds of models whose code has masks made without telling positions: pieces of a row would see one another."""


def join_rows_in(model: Any) -> bool:
    """Let a model take the batches of `join`; False, and nothing is changed, where its attention is of another kind."""
    if not can_join_rows_in(type(model), model.config):
        return False
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, _mask)
    model.set_attn_implementation(_NAME)
    # The part that every call comes to: an adapter calls its model's `forward` itself, and OPT's calls what is within.
    within = model.get_decoder()
    reached = within if isinstance(within, PreTrainedModel) else model.base_model
    reached.register_forward_pre_hook(_note, with_kwargs=True)
    return True


def can_join_rows_in(kind: Any, config: Any) -> bool:
    """Whether a model of a class of transformers with this configuration takes such batches."""
    plain = kind._supports_sdpa and kind._supports_flash_attn  # noqa: SLF001
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    return keeps_pieces_apart(kind, config) and plain and not capped


def keeps_pieces_apart(kind: Any, config: Any) -> bool:
    """Whether pieces of one row need not see one another: joined, or by the masks that transformers makes of positions.

    Not where a layer carries a state from token to token, nor where a model of an older kind makes masks of its own.
    """
    layers = set(getattr(config.get_text_config(), "layer_types", None) or _BOUNDED)
    tells = config.model_type not in _MASKED_WITHOUT_POSITIONS
    return kind._supports_attention_backend and layers <= _BOUNDED and tells  # noqa: SLF001


FASTER_IN_FLOAT32 = 256
"""Tokens that a piece sees: of shorter ones a CPU makes attention's products in float32 up to three times as fast as in
bfloat16, whose kernel prepares a product anew for each block of each head."""
_NOTED = ("cu_seq_lens_q", "max_length_q", "position_ids")
_given: dict[str, Any] = {}
"""Of the batch that is on its way, and still when layers are computed again for the backward pass; empty for a padded
one."""


def _note(_model: Any, _args: Any, batch: Mapping[str, Any]) -> None:
    _given.clear()
    if "cu_seq_lens_q" in batch:
        _given.update({name: batch[name] for name in _NOTED if name in batch})


def join(rows: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Any]:
    """One row of all: `input_ids`, `labels` and, where a row is itself made of pieces, their `position_ids`.

    Tensors of the shape (1, tokens). `cu_seq_lens_q` are the places where pieces begin, and the end; `max_length_q` is
    the longest piece: transformers' names for what variable-length kernels are told. What the rows share, if anything,
    is the first piece, and the positions of the others begin behind it.
    """
    import torch

    shared = shared_beginning(rows) if device() == "cpu" else 0
    first = [{"input_ids": rows[0]["input_ids"][:shared], "labels": [IGNORED] * shared}] if shared else []
    own = [{name: row[name][shared:] for name in row} for row in rows] if shared else list(rows)
    places = [
        *range(shared),
        *(shared + place for row in own for place in row.get("position_ids") or range(len(row["input_ids"]))),
    ]
    pieces = [*first, *own]
    labels = [label for piece in pieces for label in piece["labels"]]
    begins = [place for place, number in enumerate(places) if place == 0 or number == shared]
    for place in begins:
        labels[place] = IGNORED  # else the last token of the piece before would predict it
    ends = [*begins, len(places)]
    return {
        "input_ids": torch.tensor([[token for piece in pieces for token in piece["input_ids"]]]),
        "labels": torch.tensor([labels]),
        "position_ids": torch.tensor([places]),
        "cu_seq_lens_q": torch.tensor(ends, dtype=torch.int32),
        "max_length_q": max(end - begin for begin, end in itertools.pairwise(ends)),
    }


def shared_beginning(rows: Sequence[Mapping[str, Sequence[int]]]) -> int:
    """How many tokens all of several rows begin with, none of them trained, and one left to each to predict the next.

    Rows that are made of pieces share nothing.
    """
    if len(rows) < 2 or any("position_ids" in row for row in rows):
        return 0
    first, last = (pick(list(row["input_ids"]) for row in rows) for pick in (min, max))
    alike = [one == other for one, other in zip(first, last, strict=False)]
    untrained = min(_untrained_beginning(row["labels"]) for row in rows)
    return max(0, min(alike.index(False) if False in alike else len(alike), untrained) - 1)


def _untrained_beginning(labels: Sequence[int]) -> int:
    """The first token is predicted by nothing, whatever its label."""
    trained = (place for place, label in enumerate(labels) if place and label != IGNORED)
    return next(trained, len(labels))


def shared_in(batch: Mapping[str, Any]) -> int:
    """How many tokens the rows of a batch of `join` share."""
    starts, positions = batch["cu_seq_lens_q"], batch.get("position_ids")
    return 0 if positions is None or len(starts) < 3 else int(positions[0, starts[1]])


def row_lengths(batch: Mapping[str, Any]) -> list[int]:
    """The tokens of each row of a batch of `join`, what they share counted in each; of its pieces if it has some."""
    lengths, shared = batch["cu_seq_lens_q"].diff().tolist(), shared_in(batch)
    return [shared + own for own in lengths[1:]] if shared else lengths


def spared(batch: Mapping[str, Any]) -> tuple[int, int]:
    """How many rows of a batch need not go through the model from their first token, and from which token they do."""
    shared = shared_in(batch) if "cu_seq_lens_q" in batch else 0
    return (len(batch["cu_seq_lens_q"]) - 3, shared) if shared else (0, 0)


def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **given: Any) -> tuple[Any, None]:
    """Causal attention inside each piece, as transformers asks for it; tensors are (1, heads, tokens, width).

    A batch that is not joined is an ordinary one, padded under a mask.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    starts = _given.get("cu_seq_lens_q")
    given = {name: value for name, value in given.items() if name not in {"cu_seq_lens_q", "max_length_q"}}
    if starts is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    if query.is_cuda and not given.get("dropout"):
        return by_kernel(query, key, value, starts, max_length_q=_given["max_length_q"], **given), None
    queries, keys, values = (each.split(starts.diff().tolist(), dim=2) for each in (query, key, value))
    if shared_in(_given):
        keys, values = (
            (each[0], *(torch.cat([each[0], piece], dim=2) for piece in each[1:])) for each in (keys, values)
        )
    window = given.get("sliding_window")
    parts: list[Any] = []
    for pieces in zip(queries, keys, values, strict=True):
        short = pieces[1].shape[2] <= FASTER_IN_FLOAT32
        q, k, v = (piece.float() if short else piece for piece in pieces)
        with torch.autocast(query.device.type, enabled=not short and torch.is_autocast_enabled(query.device.type)):
            parts.append(sdpa_attention_forward(module, q, k, v, _seen(q, k, window), **given)[0].to(query.dtype))
    return torch.cat(parts, dim=1), None


def by_kernel(
    query: Any, key: Any, value: Any, starts: Any, *, max_length_q: int, scaling: float | None = None, **given: Any
) -> Any:
    """The same by PyTorch's kernel, which takes (tokens, heads, width) in 16 bits: the format of autocast."""
    import torch
    from torch.nn.attention.varlen import varlen_attn

    kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else query.dtype
    q, k, v = (each.squeeze(0).transpose(0, 1).to(kind) for each in (query, key, value))
    back = (given.get("sliding_window") or 0) - 1  # -1: as far as the piece goes
    longest = max_length_q
    found: Any = varlen_attn(
        q, k, v, starts, starts, longest, longest, scale=scaling, window_size=(back, 0), enable_gqa=True
    )
    return found.unsqueeze(0)


def _mask(*, attention_mask: Any = None, **given: Any) -> Any:
    """A padded batch's; a joined one needs none."""
    from transformers.masking_utils import sdpa_mask

    return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **given)


def _seen(query: Any, key: Any, window: int | None) -> Any:
    """Which tokens each sees, the last of them itself, where that is not simply all before."""
    import torch

    own, there = query.shape[2], key.shape[2]
    if own == there and (not window or own <= window):
        return None
    before = there - own
    seen = torch.ones(own, there, dtype=torch.bool, device=query.device).tril(before)
    return (seen.triu(before + 1 - window) if window else seen)[None, None]
