"""Branches evaluated side by side: the candidates of their cycles and the release that all came from."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.progress import Progress
from ..core.workspace import Workspace
from ..eval.evaluation import Evaluation
from ..eval.run import evaluate
from ..train.results import TrainResult
from .journal import EVALUATION, TRAINED, cycle_folder, find_cycle, read_record
from .releases import find_release, model_folder


def evaluate_together(workspace: Workspace, cycles: Mapping[str, int], progress: Progress) -> Evaluation:
    """The candidates of finished cycles by a name of each, on the held-out questions of all of them.

    Before them stands the release that they started from, where all did from one. What was answered before is read.
    Raises ModelError, DataError.
    """
    folders = {name: cycle_folder(workspace, number) for name, number in cycles.items()}
    starts = {find_cycle(workspace, number).parent for number in cycles.values()}
    parents = [find_release(workspace, start) for start in starts if start and len(starts) == 1]
    questions = {
        question.id: question
        for folder in folders.values()
        for question in read_record(folder / EVALUATION, Evaluation).questions
    }
    return evaluate(
        {parent.name: model_folder(workspace, parent) for parent in parents}
        | {name: read_record(folder / TRAINED, TrainResult).model for name, folder in folders.items()},
        list(questions.values()),
        config=workspace.config,
        cache=workspace.state / "answers",
        progress=progress,
        ledger=workspace.ledger,
    )
