"""What phases train on: the records of the data engine with the reason why they are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from ..core.jsonl import read_records
from ..core.records import Preference, Sample
from .replay_buffer import Past

Item = Sample | Preference
Origin = Literal["new", "earlier_phase", "earlier_cycle", "general", "self_generated"]


class OwnSample(Sample):
    """A sample whose answer a model gave that the student is to stay like."""

    likely: str
    """What else it might have said: the text of a `llm.likely.Likely`."""


class TrainingSample(Sample):
    """A sample of one phase, why it is there, and when it is trained."""

    origin: Origin
    likely: str = ""
    """As of an `OwnSample`."""
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
    leaves: Mapping[Path, str] = field(default_factory=dict[Path, str])
    """A file's folder -> its leaf as that is called now; where none is named, what the items say."""


@dataclass(frozen=True)
class TrainingInputs:
    """What a run trains, and on what."""

    student: Path
    """A Hugging Face folder."""
    new: Files
    """Of this cycle."""
    earlier: Files = Files()
    """Of earlier ones, which are only replayed."""
    past: Past = field(default_factory=Past)
    """What the cycles before this one left for its replay."""
    base: tuple[Path, Path] | None = None
    """The model that answers general prompts, and the file that keeps its answers; by default they are the student and
    one in the run's folder."""


@dataclass(frozen=True)
class Pool:
    """What a run has to train on: the items of this cycle, and those of earlier ones that it may replay."""

    new: list[Item]
    earlier: list[Item] = field(default_factory=list[Item])
    past: Past = field(default_factory=Past)
    held: frozenset[str] = frozenset()
    """Ids of the new items that no phase trains."""

    @classmethod
    def read(cls, inputs: TrainingInputs) -> Pool:
        """No item twice, and none in both. Raises DataError."""
        fresh, older = _read(inputs.new), _read(inputs.earlier)
        return cls(list(fresh.values()), [item for id_, item in older.items() if id_ not in fresh], inputs.past)


def of_origin(item: Item, origin: Origin) -> TrainingItem:
    """The item with the reason why it is there."""
    kind = TrainingPair if isinstance(item, Preference) else TrainingSample
    return kind.model_construct(**dict(item), origin=origin)


def in_leaves(item: Item, patterns: Sequence[str]) -> bool:
    """Whether its leaf matches one of the patterns; `**` and `*` both cross the slashes."""
    return any(fnmatchcase(item.source.leaf, pattern.replace("**", "*")) for pattern in patterns)


def _read(files: Files) -> dict[str, Item]:
    items: dict[str, Item] = {}
    for kind, paths in ((Sample, files.samples), (Preference, files.pairs)):
        for path in paths:
            leaf = files.leaves.get(path.parent)
            for item in read_records(path, kind):
                items.setdefault(item.id, _of_leaf(item, leaf or item.source.leaf))
    return items


def _of_leaf(item: Item, leaf: str) -> Item:
    """Samples tell where their leaf lay when they were made."""
    if item.source.leaf == leaf:
        return item
    return item.model_copy(update={"source": item.source.model_copy(update={"leaf": leaf})})
