"""The replay buffer: what a release has been trained on, sample by sample, as the next cycle's draws need to know it.

`replay.jsonl` in a run's folder, written whole when the run has its model: an entry for every sample that was trained
in it or before and is still there. Samples of leaves that were removed or changed are not, so they have left. A cycle
keeps it as `.tilth/replay/NNNN.jsonl` beside release NNNN, and never changes it: what is drawn from it is the same
however often a cycle is stopped, and after a roll back it is that of the release gone back to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..core.jsonl import read_records
from ..core.records import Preference, Record, Sample
from .settings import Weighting

BUFFER_NAME = "replay.jsonl"
_LIGHTEST, _HEAVIEST = 0.25, 4.0
"""Bounds of a weight by loss: a sample that is known by heart is still seen now and then, and one that cannot be
learned does not take the place of all others."""


class Entry(Record):
    """One sample that was trained."""

    id: str
    leaf: str
    commit: str
    """The taxonomy commit whose leaf it was made from."""
    cycle: int
    """The first that trained it, and the phase of it."""
    phase: str
    last_cycle: int
    """The last that trained it."""
    tokens: int
    """As the first phase had it."""
    loss: float | None = None
    """Mean over its answer's tokens, in nats, by the last model that was asked; None: no plan weighed by it yet."""


def _always(_sample: Sample) -> bool:
    return True


@dataclass(frozen=True)
class Past:
    """What a run is told of the cycles before it, besides their samples."""

    entries: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    cycle: int = 1
    """The number of the one that trains."""
    after: int = 0
    """The number of the one that made the release it starts from; 0: none did. What is drawn hangs on this, not on its
    own number: a cycle that is turned again with another last phase or another gate draws the same."""
    may_train: Callable[[Sample], bool] = _always
    """Whether an answer that the student gave itself may be trained: it may hold no held-out question."""

    def weight(self, item: Sample | Preference, weighting: Weighting) -> float:
        """How much rather than another sample it is drawn; by loss 1 where nothing is known of it."""
        entry = self.entries.get(item.id)
        match weighting:
            case "age":
                return float(max(1, self.after + 1 - (entry.last_cycle if entry else 0)))
            case "loss" if entry and entry.loss is not None and self._mean_loss:
                return min(_HEAVIEST, max(_LIGHTEST, entry.loss / self._mean_loss))
            case _:
                return 1.0

    @cached_property
    def _mean_loss(self) -> float:
        losses = [entry.loss for entry in self.entries.values() if entry.loss is not None]
        return sum(losses) / len(losses) if losses else 0.0


def read_entries(file: Path) -> dict[str, Entry]:
    """The entries of a buffer by sample; none where there is no such file. Raises DataError."""
    return {entry.id: entry for entry in read_records(file, Entry)} if file.exists() else {}


@dataclass(frozen=True)
class Trained:
    """What one phase trained: its items, and the tokens of each."""

    phase: str
    items: Sequence[Sample | Preference]
    tokens: Sequence[int]


def next_entries(
    past: Past, there: Iterable[str], phases: Sequence[Trained], losses: Mapping[str, float]
) -> list[Entry]:
    """The buffer after the phases, sorted by id, of the samples that are still `there`; `losses` as far as measured."""
    kept = set(there)
    entries = {id_: entry for id_, entry in past.entries.items() if id_ in kept}
    for trained in phases:
        for item, tokens in zip(trained.items, trained.tokens, strict=True):
            if item.id not in kept:
                continue
            known = entries.get(item.id)
            entries[item.id] = Entry(
                id=item.id,
                leaf=item.source.leaf,
                commit=item.source.commit,
                cycle=known.cycle if known else past.cycle,
                phase=known.phase if known else trained.phase,
                last_cycle=past.cycle,
                tokens=known.tokens if known else tokens,
                loss=losses.get(item.id, known.loss if known else None),
            )
    return [entries[id_] for id_ in sorted(entries)]
