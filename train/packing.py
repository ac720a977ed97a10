"""Texts as rows of one length: short ones share a row, long ones are split over several, and nothing is lost.

No text sees another that shares its row: positions start again at 0 with each piece, and attention is kept inside a
piece (`varlen`; where attention is capped, by transformers' own block-diagonal masks, which it makes of positions where
no attention mask and no cache are given: `masking_utils`, packed sequences). Models that can do neither are refused. A
test holds the packed loss to the unpacked.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import varlen
from .masking import IGNORED

Piece = Sequence[int]


@dataclass(frozen=True)
class DocumentTokens:
    """One document. It is split where it is longer than a row, so none is ever too long."""

    input_ids: list[int]

    @property
    def length(self) -> int:
        """Tokens of the whole document."""
        return len(self.input_ids)

    @property
    def tokens(self) -> int:
        """The same: all go through the model."""
        return len(self.input_ids)

    @property
    def trained(self) -> int:
        """All but the first."""
        return len(self.input_ids) - 1

    @property
    def places(self) -> range:
        """Where these are."""
        return range(1, len(self.input_ids))

    def ids(self) -> list[int]:
        """All, for a hash."""
        return self.input_ids


@dataclass(frozen=True)
class Block:
    """Pieces of text one after another, which go through the model as one row."""

    pieces: tuple[Piece, ...]

    @property
    def length(self) -> int:
        """The tokens of all pieces."""
        return sum(map(len, self.pieces))

    @property
    def tokens(self) -> int:
        """The same: all go through the model."""
        return self.length

    @property
    def trained(self) -> int:
        """All but the first of each piece, which nothing predicts."""
        return self.length - len(self.pieces)

    @property
    def places(self) -> list[int]:
        """Where these are."""
        return [place for place, label in enumerate(self.columns()["labels"]) if label != IGNORED]

    def ids(self) -> list[list[int]]:
        """The pieces, for a hash."""
        return list(map(list, self.pieces))

    def columns(self) -> dict[str, list[int]]:
        """The row as `collate` takes it."""
        return {
            "input_ids": [token for piece in self.pieces for token in piece],
            "labels": [label for piece in self.pieces for label in (IGNORED, *piece[1:])],
            "position_ids": [place for piece in self.pieces for place in range(len(piece))],
        }


def pack(texts: Sequence[Piece], length: int) -> list[Block]:
    """Blocks of at most `length` tokens: the longest piece first, each into the fullest block that has room for it.

    Best-fit decreasing (Ding et al., Fewer Truncations, arXiv 2404.10830). The same texts make the same blocks.
    """
    pieces = sorted((piece for text in texts for piece in split(text, length)), key=len, reverse=True)
    blocks: list[list[Piece]] = []
    room: list[tuple[int, int]] = []  # of each block that has some: how much, and its number; ascending
    for piece in pieces:
        place = bisect.bisect_left(room, (len(piece), 0))
        if place == len(room):
            blocks.append([])
            room.append((length, len(blocks) - 1))
        left, number = room.pop(place)
        blocks[number].append(piece)
        bisect.insort(room, (left - len(piece), number))
    return [Block(tuple(block)) for block in blocks]


def split(text: Piece, length: int) -> list[Piece]:
    """Pieces of at most `length` tokens; each begins with the last token of the one before, so that all are predicted.

    A text of one token predicts nothing and has no piece.
    """
    return [text[start : start + length] for start in range(0, len(text) - 1, length - 1)]


def collate(rows: Sequence[Mapping[str, Sequence[int]]], padding: int) -> dict[str, Any]:
    """Rows of `Block.columns` as tensors, filled up on the right by pieces of one token, which are not trained."""
    import torch

    longest = max(len(row["input_ids"]) for row in rows)
    filling = {"input_ids": padding, "labels": IGNORED, "position_ids": 0}
    return {
        name: torch.tensor([[*row[name], *[fill] * (longest - len(row[name]))] for row in rows])
        for name, fill in filling.items()
    }


def attending_lengths(batch: Mapping[str, Any]) -> list[int]:
    """How many tokens of a batch attend to one another: of each row or piece of one, whatever the rows share."""
    if "cu_seq_lens_q" in batch:
        return varlen.row_lengths(batch)
    if "attention_mask" in batch:
        return batch["attention_mask"].sum(dim=1).tolist()
    return _piece_lengths(batch["position_ids"])


def _piece_lengths(positions: Any) -> list[int]:
    """What only fills a row up is left out."""
    import torch

    starts = (positions.flatten() == 0).nonzero().flatten()
    ends = torch.cat([starts[1:], starts.new_tensor([positions.numel()])])
    return [length for length in (ends - starts).tolist() if length > 1]
