"""What becomes of a trained candidate: evaluated beside base and parent, judged, and made a release if it passed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from .. import __version__
from ..core.atomic import write_bytes, write_json
from ..core.errors import TaxonomyError
from ..core.fingerprint import bytes_sha256, file_sha256
from ..core.held_out import Leak
from ..core.workspace import Workspace
from ..eval.contamination import ContaminationReport
from ..eval.evaluation import Evaluation
from ..eval.findings import Contest, find
from ..eval.gate import Verdict, judge
from ..eval.open_book import read_passages
from ..eval.run import evaluate
from ..llm.endpoint import identity
from ..llm.models import Folder, Model
from ..sdg.store import PREFERENCES, SAMPLES, Entry, is_complete, read_manifest
from ..taxonomy.attribution import ATTRIBUTION_NAME, Work, read_works
from ..taxonomy.source import CommitTree
from ..train.load import weights_sha256
from ..train.replay_buffer import BUFFER_NAME
from ..train.results import TrainResult
from . import journal
from .basis import documents_cache
from .cards import Facts, Part, cards
from .history import when_learned
from .journal import BASE, CANDIDATE, CONTAMINATION, EVALUATION, JUDGEMENT, TRAIN, Judgement, read_record
from .models import answering
from .open_cycle import OpenCycle
from .past import replay_buffer
from .releases import Dataset, Release, add_release, ancestors, model_folder, next_number, system_prompt_of
from .stages import timed


def judge_candidate(cycle: OpenCycle, trained: TrainResult, leaks: Sequence[Leak]) -> Verdict:
    """The gate's verdict, from answers to the held-out questions; `eval.json` and `judgement.json` are written.

    `leaks` are those found in what was trained on.
    """
    evaluation, basis, gate = _evaluate(cycle, trained.model), cycle.basis, cycle.workspace.config.gate
    parent, now = basis.parent, dict(basis.changes.moved)
    grown_from = [parent, *ancestors(cycle.workspace, parent)] if parent else []
    contest = Contest(
        base=BASE,
        parent=parent.name if parent else BASE,
        candidate=CANDIDATE,
        leaves=[leaf.id for leaf in basis.leaves],
        changed=set(cycle.inputs.new),
        known={now.get(dataset.leaf, dataset.leaf) for release in grown_from for dataset in release.datasets},
        measured={now.get(leaf, leaf) for leaf, rate in parent.scores.items() if rate.total} if parent else set(),
        left_out=cycle.left_out,
    )
    findings = find(
        evaluation,
        contest,
        significance=gate.significance,
        seed=cycle.workspace.config.seed,
        learned=when_learned(cycle.workspace, cycle.inputs.number, evaluation),
        leaks=leaks,
    )
    verdict = judge(findings, gate)
    judgement = Judgement(comparisons=tuple(findings.comparisons), together=findings.together, verdict=verdict)
    write_json(cycle.folder / JUDGEMENT, judgement.model_dump(mode="json"))
    return verdict


def release_candidate(cycle: OpenCycle, trained: TrainResult, entries: Sequence[Entry], verdict: Verdict) -> int:
    """Make the candidate a release, whatever the verdict. Returns its number.

    It has the scores that were judged, from `eval.json`, where it gets its name when the cycle is closed: until then
    the release may fail to be made.
    """
    workspace, inputs = cycle.workspace, cycle.inputs
    number = next_number(workspace, journal.made_releases(workspace))
    evaluation = read_record(cycle.folder / EVALUATION, Evaluation).renamed(CANDIDATE, f"release {number}")
    buffer = (cycle.folder / TRAIN / BUFFER_NAME).read_bytes()
    release = Release(
        number=number,
        cycle=inputs.number,
        parent=inputs.parent,
        created_at=datetime.now(UTC),
        commit=cycle.basis.source.commit,
        student=workspace.config.student.model,
        student_sha256=weights_sha256(cycle.student),
        teacher=identity(workspace.config.teacher),
        plan=workspace.config.train.plan,
        seed=workspace.config.seed,
        datasets=tuple(_dataset(entry) for entry in entries),
        weights_sha256=trained.weights_sha256,
        system_prompt=workspace.config.student.system_prompt,
        scores={leaf: evaluation.rate(f"release {number}", leaf) for leaf in evaluation.leaves},
        verdict=verdict,
        forced=not verdict.passed,
        tilth=__version__,
        replay_sha256=bytes_sha256(buffer),
    )
    write_bytes(replay_buffer(workspace, number), buffer)
    add_release(workspace, release, trained.model, _cards(cycle, release, trained, evaluation, entries))
    return number


def _dataset(entry: Entry) -> Dataset:
    pairs = entry.folder / PREFERENCES
    return Dataset(
        leaf=entry.leaf,
        leaf_fingerprint=entry.leaf_fingerprint,
        entry=entry.folder.name,
        sha256=file_sha256(entry.folder / SAMPLES),
        samples=entry.samples,
        preferences_sha256=file_sha256(pairs) if pairs.is_file() else "",
    )


def _cards(
    cycle: OpenCycle, release: Release, trained: TrainResult, evaluation: Evaluation, entries: Sequence[Entry]
) -> dict[str, str]:
    found = cycle.folder / CONTAMINATION
    works = _works(cycle.basis.source, [entry.leaf for entry in entries])
    now = [
        Part(dataset, read_manifest(entry.folder), works[entry.leaf])
        for dataset, entry in zip(release.datasets, entries, strict=True)
    ]
    return cards(
        Facts(
            release=release,
            evaluation=evaluation,
            phases=trained.phases,
            parts=[*now, *_past_parts(cycle.workspace, release)],
            contamination=read_record(found, ContaminationReport) if found.is_file() else None,
        )
    )


def _past_parts(workspace: Workspace, release: Release) -> Iterator[Part]:
    """What only the releases that one grew from were trained on; its works where the commit can still be had."""
    known = {dataset.entry for dataset in release.datasets}
    for before in ancestors(workspace, release):
        left = [dataset for dataset in before.datasets if dataset.entry not in known]
        if not left:
            continue
        known |= {dataset.entry for dataset in left}
        works: Mapping[str, Sequence[Work]] = {}
        with contextlib.suppress(TaxonomyError):
            works = _works(CommitTree(workspace.root, before.commit), [dataset.leaf for dataset in left])
        for dataset in left:
            folder = workspace.store / dataset.entry
            manifest = read_manifest(folder) if is_complete(folder) else None
            yield Part(dataset, manifest, works.get(dataset.leaf, ()), past=True)


def _works(source: CommitTree, leaves: Sequence[str]) -> dict[str, list[Work]]:
    """Leaf -> what its `attribution.txt` names."""
    files, paths = set(source.files()), {leaf: f"{leaf}/{ATTRIBUTION_NAME}" for leaf in leaves}
    return {leaf: read_works(source.read(path)) if path in files else [] for leaf, path in paths.items()}


def _evaluate(cycle: OpenCycle, candidate: Path) -> Evaluation:
    """Base, parent and candidate on every held-out question, in that order; what was answered before is read."""
    workspace, parent = cycle.workspace, cycle.basis.parent
    models: dict[str, Path | Model] = {BASE: cycle.student}
    if parent:
        asked_with = system_prompt_of(workspace, parent)
        models[parent.name] = Folder(parent.name, model_folder(workspace, parent), asked_with)
    with timed(cycle.folder, "evaluation"):
        evaluation = evaluate(
            models | {CANDIDATE: candidate},
            [*cycle.questions, *cycle.general],
            answering(workspace, cycle.progress),
            passages=_passages(cycle) if workspace.config.eval.open_book else None,
            duel=(parent.name if parent else BASE, CANDIDATE) if workspace.config.eval.pairwise else None,
        )
    write_json(cycle.folder / EVALUATION, evaluation.model_dump(mode="json"))
    return evaluation


def _passages(cycle: OpenCycle) -> dict[str, tuple[str, ...]]:
    workspace, basis = cycle.workspace, cycle.basis
    return read_passages(basis.leaves, basis.source, documents_cache(workspace), workspace.config.documents)
