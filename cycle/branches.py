"""Branches evaluated side by side: the candidates of their cycles and the release that all came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..core.errors import TilthError
from ..core.progress import Progress
from ..core.workspace import Workspace
from ..eval.evaluation import Evaluation
from ..eval.run import evaluate
from ..train.results import TrainResult
from .journal import EVALUATION, TRAIN, TRAINED, cycle_folder, done, find_cycle, read_record
from .models import answering
from .releases import find_release, model_folder


def evaluate_together(workspace: Workspace, cycles: Mapping[str, int], progress: Progress) -> Evaluation:
    """The candidates of finished cycles by a name of each, on the held-out questions of all of them.

    Before them stands the release that they started from, where all did from one. What was answered before is read.
    Raises ModelError, DataError, and TilthError where a model was pruned.
    """
    folders = {name: cycle_folder(workspace, number) for name, number in cycles.items()}
    starts = {find_cycle(workspace, number).parent for number in cycles.values()}
    parents = [find_release(workspace, start) for start in starts if start and len(starts) == 1]
    questions = {
        (question.leaf, question.id): question
        for folder in folders.values()
        for question in read_record(folder / EVALUATION, Evaluation).questions
    }
    return evaluate(
        {parent.name: model_folder(workspace, parent) for parent in parents}
        | {name: _candidate(workspace, number) for name, number in cycles.items()},
        list(questions.values()),
        answering(workspace, progress),
    )


def _candidate(workspace: Workspace, number: int) -> Path:
    """The model of a finished cycle: its release's, or its own."""
    if (end := done(workspace, number)) and end.release:
        return model_folder(workspace, find_release(workspace, end.release))
    folder = cycle_folder(workspace, number)
    phase, name = read_record(folder / TRAINED, TrainResult).model.parts[-2:]  # of a path before the workspace moved
    if not (folder / TRAIN / phase / name).is_dir():
        fix = f"remove {folder}, and the same command trains it again"
        raise TilthError(f"the models of cycle {number} were pruned", fix=fix)
    return folder / TRAIN / phase / name
