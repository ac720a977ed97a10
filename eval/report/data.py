"""Everything that a report shows. The `cycle` room assembles it from the files that the stages left."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import AwareDatetime

from ...core.config import Gate
from ...core.rate import Rate
from ...core.records import Preference, Record, Reject, Sample
from ..compare import Comparison, Together
from ..contamination import ContaminationReport
from ..continual import Matrix, Summary
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
    step: int
    """The optimizer step at its end, within the phase."""
    chosen: bool
    """Whether its model is the phase's."""
    numbers: Mapping[str, float]
    """By the head of their column."""


class PhaseReport(Record):
    """One phase of training as it was run."""

    name: str
    samples: int
    """Samples trained on in one epoch, replayed ones included; each epoch may replay others."""
    tokens: int
    """Tokens that bear loss in one epoch."""
    replayed: Mapping[str, int]
    """Samples from elsewhere in one epoch, by where they came from: an earlier phase's name, "earlier cycles"."""
    epochs: float
    seconds: float
    """In optimizer steps."""
    losses: tuple[tuple[int, float], ...]
    """(optimizer step within the phase, from 1; training loss), in order."""
    measured: tuple[EpochReport, ...] = ()


class LedgerRow(Record):
    """What one leaf's samples cost when they were made, if they are new to the cycle's parent."""

    leaf: str
    paid: int
    """Requests that a model answered then."""
    cached: int
    """Requests answered from the ledger."""
    prompt_tokens: int
    completion_tokens: int


class StageReport(Record):
    """What one stage of the cycle took. None: nobody noted it, or it is not of this stage."""

    name: str
    seconds: float | None = None
    """Wall clock; over all runs, where the cycle was stopped and went on."""
    asked: int | None = None
    """Answers of models that it used."""
    paid: int | None = None
    """Those of them that were not in the ledger before."""
    tokens: int | None = None
    """Of prompts and completions."""
    price: float | None = None
    """Of those tokens, by the prices of `tilth.yaml`. None: it has none, or nobody noted whose tokens they are."""
    trained: int | None = None
    """Tokens that bear loss, over all epochs."""


class DocumentCoverage(Record):
    """Which sentences of a document the samples tell something of."""

    leaf: str
    document: str
    characters: int
    sentences: tuple[tuple[int, int, int], ...]
    """(start and end in characters, number of samples), in order."""

    @property
    def touched(self) -> int:
        """How many sentences have a sample."""
        return sum(samples > 0 for _, _, samples in self.sentences)


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
    forced: bool = False
    """Whether it was released against the gate's verdict."""


class ReportData(Record):
    """One cycle, whole. Models are named as in `evaluation.models`; their order is the order of columns."""

    title: str
    cycle: int
    created_at: AwareDatetime
    verdict: Verdict
    gate: Gate
    """The margins that it was judged by."""
    released: str
    """The release that the candidate became; empty: none."""
    parent: str
    """The model that the candidate is compared with."""
    candidate: str
    evaluation: Evaluation
    comparisons: tuple[Comparison, ...]
    """Every leaf, parent against candidate."""
    together: tuple[Together, ...] = ()
    """Leaves as groups: what the gate held to its margins."""
    history: Matrix | None = None
    """The base, the releases from which the candidate descends, and the candidate."""
    summary: Summary | None = None
    """Of the history."""
    changes: LeafChanges
    new: tuple[str, ...] = ()
    """The leaves with samples that the parent has not seen: what the gate calls changed."""
    phases: tuple[PhaseReport, ...] = ()
    samples: tuple[Sample, ...] = ()
    """The samples that this cycle made."""
    pairs: tuple[Preference, ...] = ()
    """The pairs that it made."""
    rejects: tuple[Reject, ...] = ()
    coverage: tuple[DocumentCoverage, ...] = ()
    contamination: ContaminationReport | None = None
    stages: tuple[StageReport, ...] = ()
    ledger: tuple[LedgerRow, ...] = ()
    releases: tuple[ReleaseReport, ...] = ()
    settings: Mapping[str, str]
    """What the cycle was given, as it should be read: teacher, student, plan, seed, versions."""
