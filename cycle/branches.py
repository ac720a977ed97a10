"""Branches evaluated side by side: the candidates of their cycles and the release that all came from."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.errors import TilthError
from ..core.progress import Progress
from ..core.workspace import Workspace
from ..eval.evaluation import Evaluation
from ..eval.run import evaluate
from ..llm.models import Folder
from ..train.results import TrainResult
from .journal import EVALUATION, TRAIN, TRAINED, cycle_folder, done, find_cycle, read_record
from .models import answering
from .releases import Release, find_release, model_folder, system_prompt_of


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
        {parent.name: _of_release(workspace, parent.name, parent) for parent in parents}
        | {name: _of_cycle(workspace, name, number) for name, number in cycles.items()},
        list(questions.values()),
        answering(workspace, progress),
    )


def _of_release(workspace: Workspace, name: str, release: Release) -> Folder:
    return Folder(name, model_folder(workspace, release), system_prompt_of(workspace, release))


def _of_cycle(workspace: Workspace, name: str, number: int) -> Folder:
    """The model of a finished cycle, its release's or its own, asked with what it was trained with."""
    if (end := done(workspace, number)) and end.release:
        return _of_release(workspace, name, find_release(workspace, end.release))
    folder = cycle_folder(workspace, number)
    parts = read_record(folder / TRAINED, TrainResult).model.parts[-2:]  # of a path before the workspace moved
    if not (model := folder.joinpath(TRAIN, *parts)).is_dir():
        fix = f"remove {folder}, and the same command trains it again"
        raise TilthError(f"the models of cycle {number} were pruned", fix=fix)
    own = find_cycle(workspace, number).config["student"]["system_prompt"]
    return Folder(name, model, own)
