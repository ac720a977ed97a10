"""Everything that a report shows. The `cycle` room assembles it from the files that the stages left."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import AwareDatetime

from ...core.rate import Rate
from ...core.records import Record, Reject, Sample
from ..compare import Comparison
from ..evaluation import Evaluation
from ..gate import Verdict


class LeafChanges(Record):
    """Which leaves this cycle found changed, by leaf id."""

    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    """(old id, new id)."""
    unchanged: tuple[str, ...] = ()


class EpochReport(Record):
    """What a phase's model was measured to be at the end of an epoch."""

    epoch: int
    """From 1."""
    chosen: bool
    """Whether its model is the phase's."""
    numbers: Mapping[str, float]
    """By the head of their column."""


class PhaseReport(Record):
    """One phase of training as it was run."""

    name: str
    samples: int
    """Samples trained on, replayed ones included."""
    tokens: int
    """Tokens that bear loss in one epoch."""
    replayed: Mapping[str, int]
    """Samples from elsewhere, by where they came from: an earlier phase's name, "earlier cycles"."""
    epochs: float
    seconds: float
    losses: tuple[tuple[int, float], ...]
    """(optimizer step within the phase, from 1; training loss), in order."""
    measured: tuple[EpochReport, ...] = ()


class LedgerRow(Record):
    """What one leaf cost in this cycle."""

    leaf: str
    paid: int
    """Requests that a model answered in this cycle."""
    cached: int
    """Requests answered from the ledger."""
    prompt_tokens: int
    completion_tokens: int


class Dataset(Record):
    """One store entry that a release was trained on."""

    leaf: str
    sha256: str
    samples: int


class ReleaseReport(Record):
    """A release and what it was made from."""

    name: str
    """As the report calls it: "release 2"."""
    parent: str
    created_at: AwareDatetime
    commit: str
    """The taxonomy commit."""
    plan: str
    weights_sha256: str
    datasets: tuple[Dataset, ...]
    scores: Mapping[str, Rate]
    """Leaf -> rate at the time of its release."""


class ReportData(Record):
    """One cycle, whole. Models are named as in `evaluation.models`; their order is the order of columns."""

    title: str
    cycle: int
    created_at: AwareDatetime
    verdict: Verdict
    parent: str
    """The model that the candidate is compared with."""
    candidate: str
    evaluation: Evaluation
    comparisons: tuple[Comparison, ...]
    """Every leaf, parent against candidate."""
    changes: LeafChanges
    phases: tuple[PhaseReport, ...] = ()
    samples: tuple[Sample, ...] = ()
    """The samples that this cycle made."""
    rejects: tuple[Reject, ...] = ()
    ledger: tuple[LedgerRow, ...] = ()
    releases: tuple[ReleaseReport, ...] = ()
    settings: Mapping[str, str]
    """What the cycle was given, as it should be read: teacher, student, plan, seed, versions."""
