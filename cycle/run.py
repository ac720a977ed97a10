"""One turn of the loop: changes, samples, phases, evaluation, gate, release; what a stage left is not done again.

Samples live in the store and answers in the ledger, whatever happens to the cycle; phases have their own results; the
answers to held-out questions are kept by model and question. So the same call goes on wherever the last one stopped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from ..core.atomic import copy_folder, new_folder, write_json
from ..core.config import Config
from ..core.errors import DataError, TilthError
from ..core.first_few import first_few
from ..core.progress import Progress
from ..core.workspace import Workspace
from ..eval.compare import Comparison
from ..eval.evaluation import Evaluation
from ..eval.gate import Verdict
from ..eval.report.drawing import require_drawing
from ..llm.student import student_folder
from ..sdg.generate import bring_up_to_date
from ..sdg.store import Entry
from ..train.general import general_samples
from ..train.masking import load_tokenizer
from ..train.mix import outside_sources
from ..train.plan import Plan, load_plan
from ..train.replay_buffer import BUFFER_NAME
from ..train.results import TrainResult
from ..train.run import check_plan, check_student, run_plan
from ..train.selection import check_askable
from . import journal
from .basis import Basis, read_basis, training_inputs
from .candidate import judge_candidate, release_candidate
from .choosing import right_answers, set_apart
from .generating import setup_of
from .hold_out import check_trained, hold_out
from .journal import (
    CANDIDATE,
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
    read_record,
)
from .open_cycle import OpenCycle
from .past import past_of
from .prune import prune_older
from .releases import Release, find_release, release_numbers, set_current
from .report import write_report
from .stages import timed
from .verify import check_model


@dataclass(frozen=True)
class CycleResult:
    """What a cycle came to. Where there was nothing to do, it is the one that made the current release."""

    number: int
    outcome: Literal["released", "refused", "judged", "trained", "nothing to do"]
    """Judged: passed, and not to be released."""
    release: int = 0
    evaluation: Evaluation | None = None
    comparisons: tuple[Comparison, ...] = ()
    """Of every leaf: the parent against the candidate."""
    verdict: Verdict | None = None
    report: Path | None = None


def run_cycle(
    workspace: Workspace,
    progress: Progress,
    *,
    until: Literal["train", "end"] = "end",
    force: bool = False,
    ref: str = "",
) -> CycleResult:
    """Do what is missing of the cycle that HEAD and `tilth.yaml` ask for, up to its training or to its end.

    With `force` what the gate refuses, or has refused when it was last asked, is released, and its record says so. With
    `ref`, a branch or a commit, its taxonomy is read instead of HEAD's, from git's objects and not from the working
    tree, and nothing is released: when the branch is merged the same cycle is, and finds all of it done.

    Raises CheckFailed when a held-out question stands in the training data or a phase cannot be trained as planned,
    another TilthError when something is wrong. That the gate refuses a candidate is no error: the outcome says so.
    """
    if ref and force:
        raise TilthError("nothing of a `ref` is released, so `force` has no effect", fix="leave one of them out")
    with workspace.lock():
        settled = _settle(workspace, progress)
        basis = read_basis(workspace, ref or "HEAD")
        inputs = _open(workspace, basis)
        if inputs is None:
            return settled or CycleResult(basis.parent.cycle if basis.parent else 0, "nothing to do")
        done = journal.done(workspace, inputs.number)
        if done and journal.is_last_word(workspace, done, release=not ref, force=force):
            return read_result(workspace, inputs.number)
        inputs = inputs.model_copy(update={"commit": basis.source.commit})  # a branch's, say, that was merged since
        journal.begin(workspace, inputs)
        training = load_plan(workspace.config.train.plan)
        _check_training(training, workspace.config)  # first: what is missing, or a wrong name, costs no answers
        student = student_folder(workspace.config.student.model, progress)
        _check_sources(training, student, workspace.config)
        if basis.parent:
            check_model(workspace, basis.parent)
        general = general_samples(training)
        cycle = OpenCycle(workspace, basis, inputs, student, progress)
        progress.say(f"cycle {inputs.number} at commit {inputs.commit[:8]}: new {first_few(basis.to_train)}")
        entries = _generate(cycle)
        cycle = set_apart(hold_out(cycle, entries, general), training)
        trained = _train(cycle, entries)
        if until == "train":
            return CycleResult(inputs.number, "trained")
        verdict = judge_candidate(cycle, trained, check_trained(cycle, trained, entries))
        if ref or not (verdict.passed or force):
            return _finish(workspace, progress, inputs.number, "judged" if verdict.passed else "refused", ref=ref)
        released = release_candidate(cycle, trained, entries, verdict)
        return _finish(workspace, progress, inputs.number, "released", released)


def roll_back(workspace: Workspace, number: int, progress: Progress) -> Release:
    """Make release `number` the current one; a cycle that was stopped behind its release is closed first.

    Else the next cycle would close it, and make its release the current one again. Raises TilthError.
    """
    with workspace.lock():
        _settle(workspace, progress)
        return set_current(workspace, number)


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
    if found := journal.with_identity(workspace, basis.identity, basis.parent):
        return found
    if not basis.to_train:
        return None
    inputs = Inputs(
        number=journal.next_number(workspace),
        identity=basis.identity,
        decided_by=basis.decided_by,
        commit=basis.source.commit,
        parent=basis.start.number if basis.start else 0,
        changes=basis.changes,
        new=basis.new,
        config=workspace.config.model_dump(mode="json"),
        started_at=datetime.now(UTC),
    )
    _take_over(workspace, inputs, basis.start)
    journal.begin(workspace, inputs)
    return inputs


def _take_over(workspace: Workspace, inputs: Inputs, start: Release | None) -> None:
    """Give a new cycle what one with the same start has trained: each phase knows whether that is its own.

    A new gate, or another last phase, then costs no training of the phases before. The buffer is not taken along: its
    losses are those of the last model, which may be another now.
    """
    if trained := journal.trained_from(workspace, start, inputs.decided_by["samples"]):
        with new_folder(cycle_folder(workspace, inputs.number) / TRAIN) as new:
            copy_folder(trained, new, copy=_linked_if_large, without=BUFFER_NAME)


def _linked_if_large(file: Path, new: Path) -> None:
    """What is added to line by line is copied; weights and optimizers are never changed in place."""
    if file.suffix in {".safetensors", ".pt", ".bin"}:
        os.link(file, new)
    else:
        shutil.copy2(file, new)


def _check_training(plan: Plan, config: Config) -> None:
    """Raise ConfigError or ModelError where this machine cannot train the plan as the settings say."""
    check_plan(plan, config)
    check_askable(plan, there=True, config=config)
    require_drawing()


def _check_sources(plan: Plan, student: Path, config: Config) -> None:
    """Raise ConfigError or ModelError where a student cannot be trained so, or what it is to learn from is missing."""
    check_student(plan, student)
    tokenizer = load_tokenizer(student) if any(phase.distill for phase in plan.phases) else None
    for index in range(len(plan.phases)):
        outside_sources(plan, index, tokenizer, config)


def _generate(cycle: OpenCycle) -> list[Entry]:
    with timed(cycle.folder, "samples"):
        setup = setup_of(cycle.workspace, cycle.basis.source, cycle.basis.start, cycle.progress)
        entries = bring_up_to_date(cycle.basis.leaves, setup, cycle.progress)
    write_json(cycle.folder / ENTRIES, {entry.leaf: entry.folder.name for entry in entries})
    return entries


def _train(cycle: OpenCycle, entries: Sequence[Entry]) -> TrainResult:
    workspace, there = cycle.workspace, [(entry.folder, entry.leaf) for entry in entries]
    with timed(cycle.folder, "training"):
        trained = run_plan(
            load_plan(workspace.config.train.plan),
            training_inputs(workspace, cycle.basis, there, cycle.student, past_of(cycle)),
            out=cycle.folder / TRAIN,
            config=workspace.config,
            progress=cycle.progress,
            held_out=right_answers(cycle),
        )
    write_json(cycle.folder / TRAINED, trained.model_dump(mode="json"))
    return trained


def _settle(workspace: Workspace, progress: Progress) -> CycleResult | None:
    """Close the cycle that was stopped after it had made its release, if one was."""
    numbers = release_numbers(workspace)
    made = find_release(workspace, numbers[-1]) if numbers else None
    if made is None or made.cycle not in journal.cycle_numbers(workspace):
        return None
    done = journal.done(workspace, made.cycle)
    if done and done.release == made.number:
        return None
    set_current(workspace, made.number)
    return _finish(workspace, progress, made.cycle, "released", made.number)


def _finish(
    workspace: Workspace, progress: Progress, number: int, outcome: journal.Outcome, release: int = 0, ref: str = ""
) -> CycleResult:
    """Write the report, then close the cycle. A released model is in its release; the cycle's own copies go.

    So does what `releases.keep` lets go. In the evaluation the candidate gets the name of its release.
    """
    path = cycle_folder(workspace, number) / EVALUATION
    evaluation = read_record(path, Evaluation)
    if release:
        write_json(path, evaluation.renamed(CANDIDATE, f"release {release}").model_dump(mode="json"))
    unanswered = evaluation.unanswered if outcome == "refused" else 0
    done = Done(outcome=outcome, release=release, finished_at=datetime.now(UTC), unanswered=unanswered, ref=ref)
    write_report(workspace, number, done)
    if release:
        for copy in (cycle_folder(workspace, number) / TRAIN).glob("*/model"):
            shutil.rmtree(copy)
    journal.finish(workspace, number, done)
    if release and workspace.config.releases.keep:
        prune_older(workspace, workspace.config.releases.keep, progress)
    return read_result(workspace, number)
