"""What a cycle's report shows, gathered from the files that its stages left, and the page that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.atomic import read_json, write_text
from ..core.config import Gate
from ..core.errors import DataError, TaxonomyError
from ..core.jsonl import read_records
from ..core.workspace import Workspace
from ..eval.contamination import ContaminationReport
from ..eval.continual import summarise
from ..eval.evaluation import Evaluation
from ..eval.report import data as shown
from ..eval.report.page import render
from ..sdg.coverage import Sentence, coverage_of
from ..sdg.store import Entry, Manifest, open_entry, read_manifest, read_preferences, read_rejects, read_samples
from ..taxonomy.source import CommitTree
from ..taxonomy.tree import read_leaves
from ..train.evaluations import read_evaluations
from ..train.forgetting import NEW, REPLAYED
from ..train.metrics import Step
from ..train.phase import EVALUATIONS_NAME, METRICS_NAME
from ..train.results import PhaseResult, TrainResult
from ..train.selection import Evaluation as Measured
from .basis import documents_cache
from .cards import told
from .history import read_matrix
from .journal import (
    CONTAMINATION,
    ENTRIES,
    EVALUATION,
    JUDGEMENT,
    REPORT,
    TRAIN,
    TRAINED,
    Done,
    Inputs,
    Judgement,
    cycle_folder,
    find_cycle,
    read_record,
)
from .releases import Release, releases
from .stages import stage_reports

_ORIGINS = {
    "earlier_phase": "earlier phases",
    "earlier_cycle": "earlier cycles",
    "general": "a general set",
    "self_generated": "the parent's own answers",
}

_MEASURED = ("loss", "accuracy", "reward")
_MOVED = {NEW: "KL, new prompts", REPLAYED: "KL, replayed prompts"}


def write_report(workspace: Workspace, number: int, done: Done) -> Path:
    """Write the HTML page of a cycle beside its other files. Raises DataError when one of those is missing."""
    path = cycle_folder(workspace, number) / REPORT
    write_text(path, render(report_data(workspace, number, done)))
    return path


def report_data(workspace: Workspace, number: int, done: Done) -> shown.ReportData:
    """All that the page shows. The ledger is not asked: what an entry cost stands in its manifest."""
    folder, inputs = cycle_folder(workspace, number), find_cycle(workspace, number)
    evaluation = read_record(folder / EVALUATION, Evaluation)
    judgement = read_record(folder / JUDGEMENT, Judgement)
    trained = read_record(folder / TRAINED, TrainResult)
    entries = _entries(workspace, folder / ENTRIES, inputs)
    new = [entry for entry in entries if not entry.reused]
    manifests = [read_manifest(entry.folder) for entry in entries]
    names, history = list(evaluation.models), read_matrix(workspace, number)
    return shown.ReportData(
        title=f"{workspace.root.name}: {_what_came(done)}",
        cycle=number,
        created_at=done.finished_at,
        verdict=judgement.verdict,
        gate=Gate.model_validate(inputs.config["gate"]),
        released=f"release {done.release}" if done.release else "",
        parent=names[-2],
        candidate=names[-1],
        evaluation=evaluation,
        comparisons=judgement.comparisons,
        together=judgement.together,
        history=history,
        summary=summarise(history, seed=inputs.config["seed"]) if history else None,
        changes=inputs.changes,
        new=inputs.new,
        phases=tuple(_phase(folder / TRAIN, phase) for phase in trained.phases if phase.status == "trained"),
        samples=tuple(sample for entry in new for sample in read_samples(entry)),
        pairs=tuple(pair for entry in new for pair in read_preferences(entry)),
        rejects=tuple(reject for entry in new for reject in read_rejects(entry)),
        coverage=_coverage(workspace, inputs, new),
        contamination=_contamination(folder / CONTAMINATION),
        stages=stage_reports(folder, new, trained, evaluation, inputs.config),
        ledger=tuple(map(_cost, entries, manifests)),
        releases=tuple(_release(release) for release in releases(workspace) if release.cycle <= number),
        settings=_settings(inputs, manifests),
    )


def _entries(workspace: Workspace, path: Path, inputs: Inputs) -> list[Entry]:
    names = read_json(path)
    if not names or not all(isinstance(name, str) for name in names.values()):
        fix = "restore it, or remove its folder and run `tilth cycle`"
        raise DataError("not the leaves with their entries that were written", where=str(path), fix=fix)
    new = set(inputs.new)
    return [open_entry(workspace.store / name, leaf, reused=leaf not in new) for leaf, name in names.items()]


def _what_came(done: Done) -> str:
    return f"release {done.release}" if done.release else "no release"


def _phase(folder: Path, phase: PhaseResult) -> shown.PhaseReport:
    steps = list(read_records(folder / phase.folder / METRICS_NAME, Step))
    mix = phase.mix
    origins = {} if mix is None else mix.origins_an_epoch
    return shown.PhaseReport(
        name=phase.phase,
        samples=mix.an_epoch.samples if mix else 0,
        tokens=mix.an_epoch.trained_tokens if mix else 0,
        replayed={_ORIGINS[origin]: tally.samples for origin, tally in origins.items() if origin in _ORIGINS},
        epochs=phase.settings.epochs if phase.settings else 0,
        seconds=phase.seconds,
        losses=tuple((step.step, step.loss) for step in steps),
        measured=tuple(
            shown.EpochReport(
                epoch=each.epoch, step=each.step, chosen=each.epoch == phase.epoch, numbers=_numbers(each)
            )
            for each in read_evaluations(folder / phase.folder / EVALUATIONS_NAME)
        ),
    )


def _numbers(measured: Measured) -> dict[str, float]:
    on = {"training": measured.training, "validation": measured.validation}
    numbers = {f"{what} {name}": found[name] for what, found in on.items() for name in _MEASURED if name in found}
    numbers |= {} if measured.held_out is None else {"held-out questions right": measured.held_out}
    return numbers | {head: measured.more[name] for name, head in _MOVED.items() if name in measured.more}


def _coverage(workspace: Workspace, inputs: Inputs, new: Sequence[Entry]) -> tuple[shown.DocumentCoverage, ...]:
    """Of the documents of new leaves; none where they, or the commit, cannot be had any more."""
    entries, found = {entry.leaf: entry for entry in new}, list[shown.DocumentCoverage]()
    try:
        source = CommitTree(workspace.root, inputs.commit)
        for leaf in read_leaves(source, entries):
            told = coverage_of(leaf, entries[leaf.id], source, workspace.config, documents_cache(workspace))
            found += [_document(leaf.id, path, sentences) for path, sentences in told.items()]
    except TaxonomyError:
        return ()
    return tuple(found)


def _document(leaf: str, path: str, sentences: Sequence[Sentence]) -> shown.DocumentCoverage:
    return shown.DocumentCoverage(
        leaf=leaf,
        document=path,
        characters=max((sentence.span[1] for sentence in sentences), default=0),
        sentences=tuple((*sentence.span, sentence.samples) for sentence in sentences),
    )


def _contamination(path: Path) -> ContaminationReport | None:
    return read_record(path, ContaminationReport) if path.is_file() else None


def _cost(entry: Entry, manifest: Manifest) -> shown.LedgerRow:
    """What the entry's samples cost when they were made: nothing where the parent was trained on them."""
    requests = manifest.requests
    if entry.reused:
        return shown.LedgerRow(leaf=entry.leaf, paid=0, cached=0, prompt_tokens=0, completion_tokens=0)
    return shown.LedgerRow(
        leaf=entry.leaf,
        paid=requests.paid,
        cached=requests.cached,
        prompt_tokens=requests.prompt_tokens,
        completion_tokens=requests.completion_tokens,
    )


def _release(release: Release) -> shown.ReleaseReport:
    return shown.ReleaseReport(
        name=release.name,
        parent=f"release {release.parent}" if release.parent else told(release.student),
        created_at=release.created_at,
        commit=release.commit,
        plan=told(release.plan),
        weights_sha256=release.weights_sha256,
        datasets=tuple(
            shown.Dataset(leaf=dataset.leaf, sha256=dataset.sha256, samples=dataset.samples)
            for dataset in release.datasets
        ),
        scores=release.scores,
        forced=release.forced,
    )


def _settings(inputs: Inputs, manifests: Sequence[Manifest]) -> dict[str, str]:
    config, judges = inputs.config, {manifest.judge for manifest in manifests}
    return {
        "taxonomy": f"commit {inputs.commit}",
        "teacher": manifests[0].teacher,
        "judge of samples": ", ".join(sorted(filter(None, judges))) or "none",
        "student": told(config["student"]["model"]),
        "plan": told(config["train"]["plan"]),
        "seed": str(config["seed"]),
        "samples made by": ", ".join(f"tilth {version}" for version in sorted({each.tilth for each in manifests})),
    }
