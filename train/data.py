"""What phases train on: the records of the data engine with the reason why they are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypeVar

from ..core.jsonl import read_records
from ..core.records import Preference, Sample
from .replay_buffer import Past

Item = Sample | Preference
Origin = Literal["new", "earlier_phase", "earlier_cycle", "general", "self_generated"]

AnItem = TypeVar("AnItem", Sample, Preference)


class TrainingSample(Sample):
    """A sample of one phase, why it is there, and when it is trained."""

    origin: Origin
    epochs: tuple[int, ...] = ()
    """From 1; empty: all."""


class TrainingPair(Preference):
    """A preference pair of one phase, as `TrainingSample`."""

    origin: Origin
    epochs: tuple[int, ...] = ()


TrainingItem = TrainingSample | TrainingPair


@dataclass(frozen=True)
class Files:
    """samples.jsonl and preferences.jsonl files."""

    samples: Sequence[Path] = ()
    pairs: Sequence[Path] = ()


@dataclass(frozen=True)
class Pool:
    """What a run has to train on: the items of this cycle, and those of earlier ones that it may replay."""

    new: list[Item]
    earlier: list[Item] = field(default_factory=list[Item])
    past: Past = field(default_factory=Past)

    @classmethod
    def read(cls, new: Files, earlier: Files, past: Past) -> Pool:
        """No item twice, and none in both. Raises DataError."""
        fresh, older = _read(new), _read(earlier)
        return cls(list(fresh.values()), [item for id_, item in older.items() if id_ not in fresh], past)


def of_origin(item: Item, origin: Origin) -> TrainingItem:
    """The item with the reason why it is there."""
    kind = TrainingPair if isinstance(item, Preference) else TrainingSample
    return kind.model_construct(**dict(item), origin=origin)


def in_leaves(item: Item, patterns: Sequence[str]) -> bool:
    """Whether its leaf matches one of the patterns; `**` and `*` both cross the slashes."""
    return any(fnmatchcase(item.source.leaf, pattern.replace("**", "*")) for pattern in patterns)


def _read(files: Files) -> dict[str, Item]:
    items: dict[str, Item] = {}
    _add(items, files.samples, Sample)
    _add(items, files.pairs, Preference)
    return items


def _add(items: dict[str, Item], files: Sequence[Path], kind: type[AnItem]) -> None:
    for file in files:
        for item in read_records(file, kind):
            items.setdefault(item.id, item)
