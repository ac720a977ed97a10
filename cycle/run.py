"""One turn of the loop: changes, samples, phases, evaluation, gate, release; what a stage left is not done again.

Samples live in the store and answers in the ledger, whatever happens to the cycle; phases have their own results; the
answers to held-out questions are kept by model and question. So the same call goes on wherever the last one stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from .. import __version__
from ..core.atomic import write_json
from ..core.errors import CheckFailed, DataError
from ..core.fingerprint import file_sha256
from ..core.held_out import Leak, find_leaks
from ..core.progress import Progress
from ..core.records import Question
from ..core.workspace import Workspace
from ..eval.compare import Comparison, compare
from ..eval.evaluation import Evaluation
from ..eval.gate import Verdict, judge
from ..eval.run import evaluate
from ..llm.endpoint import identity
from ..llm.student import student_folder
from ..sdg.generate import bring_up_to_date
from ..sdg.store import SAMPLES, Entry, read_samples
from ..train.plan import load_plan
from ..train.results import TrainResult
from ..train.run import run_plan
from . import journal
from .basis import Basis, documents_cache, read_basis
from .journal import (
    ENTRIES,
    EVALUATION,
    JUDGEMENT,
    REPORT,
    TRAINED,
    Done,
    Inputs,
    Judgement,
    cycle_folder,
    read_record,
)
from .releases import Dataset, Release, add_release, model_folder, releases
from .report import write_report

BASE, CANDIDATE = "base", "candidate"


@dataclass(frozen=True)
class CycleResult:
    """What a cycle came to. `number` is 0 where there never was one."""

    number: int
    outcome: Literal["released", "refused", "trained", "nothing to do"]
    release: int = 0
    evaluation: Evaluation | None = None
    comparisons: tuple[Comparison, ...] = ()
    """Of every leaf: the parent against the candidate."""
    verdict: Verdict | None = None
    report: Path | None = None


@dataclass(frozen=True)
class _Cycle:
    """An open cycle: what its stages are given."""

    workspace: Workspace
    basis: Basis
    inputs: Inputs
    progress: Progress

    @property
    def folder(self) -> Path:
        return cycle_folder(self.workspace, self.inputs.number)

    @property
    def questions(self) -> list[Question]:
        return [question for leaf in self.basis.leaves for question in leaf.questions]

    @property
    def parent_name(self) -> str:
        return self.basis.parent.name if self.basis.parent else BASE


def run_cycle(workspace: Workspace, progress: Progress, *, until: Literal["train", "end"] = "end") -> CycleResult:
    """Do what is missing of the cycle that HEAD and `tilth.yaml` ask for, up to its training or to its end.

    Raises CheckFailed when a held-out question stands in the training data or a phase cannot be trained as planned,
    another TilthError when something is wrong. That the gate refuses a candidate is no error: the outcome says so.
    """
    with workspace.lock():
        basis = read_basis(workspace)
        inputs = _open(workspace, basis)
        if inputs is None:
            last = journal.last_cycle(workspace)
            return CycleResult(last.number if last else 0, "nothing to do")
        if journal.done(workspace, inputs.number):
            return read_result(workspace, inputs.number)
        cycle = _Cycle(workspace, basis, inputs, progress)
        progress.say(f"cycle {inputs.number} at commit {inputs.commit[:8]}: new {', '.join(inputs.new)}")
        entries = _generate(cycle)
        _refuse_leaks(cycle, entries)
        trained = _train(cycle, entries)
        if until == "train":
            return CycleResult(inputs.number, "trained")
        verdict = _judge(cycle, trained, entries)
        released = _release(cycle, trained, entries, verdict) if verdict.passed else 0
        return _finish(cycle, trained, released)


def read_result(workspace: Workspace, number: int) -> CycleResult:
    """The result of a finished cycle, from its files. Raises DataError when one is missing or broken."""
    folder, done = cycle_folder(workspace, number), journal.done(workspace, number)
    if done is None:
        raise DataError(f"cycle {number} is not finished", fix="run `tilth cycle`, which goes on with it")
    judgement = read_record(folder / JUDGEMENT, Judgement)
    return CycleResult(
        number,
        done.outcome,
        done.release,
        evaluation=read_record(folder / EVALUATION, Evaluation),
        comparisons=judgement.comparisons,
        verdict=judgement.verdict,
        report=folder / REPORT,
    )


def _open(workspace: Workspace, basis: Basis) -> Inputs | None:
    """The cycle to go on with, or a new one; None when the current release has all there is."""
    last = journal.last_cycle(workspace)
    if last and last.identity == basis.identity:
        return last
    if not basis.new:
        return None
    inputs = Inputs(
        number=last.number + 1 if last else 1,
        identity=basis.identity,
        commit=basis.source.commit,
        parent=basis.parent.number if basis.parent else 0,
        changes=basis.changes,
        new=basis.new,
        config=workspace.config.model_dump(mode="json"),
        started_at=datetime.now(UTC),
    )
    journal.begin(workspace, inputs)
    return inputs


def _generate(cycle: _Cycle) -> list[Entry]:
    workspace = cycle.workspace
    entries = bring_up_to_date(
        cycle.basis.leaves,
        cycle.basis.source,
        config=workspace.config,
        store=workspace.store,
        ledger=workspace.ledger,
        cache=documents_cache(workspace),
        progress=cycle.progress,
    )
    write_json(cycle.folder / ENTRIES, {entry.leaf: entry.folder.name for entry in entries})
    return entries


def _refuse_leaks(cycle: _Cycle, entries: Sequence[Entry]) -> None:
    leaks = _leaks(cycle, entries)
    if leaks:
        asked = next(question for question in cycle.questions if question.id == leaks[0].question_id)
        what = f"{len(leaks)} training sample(s) hold a held-out question, such as {asked.question!r}"
        raise CheckFailed(what, where=asked.leaf, fix="reword that question, or the seed that repeats it")


def _leaks(cycle: _Cycle, entries: Sequence[Entry]) -> list[Leak]:
    return find_leaks(cycle.questions, (sample for entry in entries for sample in read_samples(entry)))


def _train(cycle: _Cycle, entries: Sequence[Entry]) -> TrainResult:
    workspace, new = cycle.workspace, set(cycle.inputs.new)
    parent = cycle.basis.parent
    trained = run_plan(
        load_plan(workspace.config.train.plan),
        new=[entry.folder / SAMPLES for entry in entries if entry.leaf in new],
        earlier=[entry.folder / SAMPLES for entry in entries if entry.leaf not in new],
        student=model_folder(workspace, parent) if parent else _student(cycle),
        out=cycle.folder / "train",
        config=workspace.config,
        progress=cycle.progress,
    )
    write_json(cycle.folder / TRAINED, trained.model_dump(mode="json"))
    return trained


def _student(cycle: _Cycle) -> Path:
    return student_folder(cycle.workspace.config.student.model, cycle.progress)


def _judge(cycle: _Cycle, trained: TrainResult, entries: Sequence[Entry]) -> Verdict:
    evaluation = _evaluate(cycle, {CANDIDATE: trained.model})
    significance = cycle.workspace.config.gate.significance
    leaves = [leaf.id for leaf in cycle.basis.leaves]
    comparisons = compare(evaluation, cycle.parent_name, CANDIDATE, leaves, significance=significance)
    changed = set(cycle.inputs.new)
    verdict = judge(comparisons, changed=changed, leaks=_leaks(cycle, entries), significance=significance)
    judgement = Judgement(comparisons=comparisons, verdict=verdict)
    write_json(cycle.folder / JUDGEMENT, judgement.model_dump(mode="json"))
    return verdict


def _evaluate(cycle: _Cycle, candidate: dict[str, Path]) -> Evaluation:
    """Base, parent and candidate on every held-out question, in that order; what was answered before is read."""
    workspace, parent = cycle.workspace, cycle.basis.parent
    models = {BASE: _student(cycle)}
    if parent:
        models[parent.name] = model_folder(workspace, parent)
    evaluation = evaluate(
        models | candidate,
        cycle.questions,
        config=workspace.config,
        cache=workspace.state / "answers",
        progress=cycle.progress,
    )
    write_json(cycle.folder / EVALUATION, evaluation.model_dump(mode="json"))
    return evaluation


def _release(cycle: _Cycle, trained: TrainResult, entries: Sequence[Entry], verdict: Verdict) -> int:
    """Make the candidate a release, evaluated under its own name. Returns its number."""
    workspace, inputs = cycle.workspace, cycle.inputs
    of_cycle = [release.number for release in releases(workspace) if release.cycle == inputs.number]
    number = of_cycle[0] if of_cycle else max((release.number for release in releases(workspace)), default=0) + 1
    evaluation = _evaluate(cycle, {f"release {number}": trained.model})
    release = Release(
        number=number,
        cycle=inputs.number,
        parent=inputs.parent,
        created_at=datetime.now(UTC),
        commit=inputs.commit,
        student=workspace.config.student.model,
        teacher=identity(workspace.config.teacher),
        plan=workspace.config.train.plan,
        seed=workspace.config.seed,
        datasets=tuple(_dataset(entry) for entry in entries),
        weights_sha256=[phase.weights_sha256 for phase in trained.phases if phase.status == "trained"][-1],
        scores={leaf: evaluation.rate(f"release {number}", leaf) for leaf in evaluation.leaves},
        verdict=verdict,
        tilth=__version__,
    )
    add_release(workspace, release, trained.model)
    return number


def _dataset(entry: Entry) -> Dataset:
    return Dataset(
        leaf=entry.leaf,
        leaf_fingerprint=entry.leaf_fingerprint,
        entry=entry.folder.name,
        sha256=file_sha256(entry.folder / SAMPLES),
        samples=entry.samples,
    )


def _finish(cycle: _Cycle, trained: TrainResult, released: int) -> CycleResult:
    """Write the report, then close the cycle. A released model is in its release; the cycle's own copy goes."""
    workspace, number = cycle.workspace, cycle.inputs.number
    done = Done(outcome="released" if released else "refused", release=released, finished_at=datetime.now(UTC))
    write_report(workspace, number, done)
    journal.finish(workspace, number, done)
    if released:
        shutil.rmtree(trained.model, ignore_errors=True)
    return read_result(workspace, number)
