"""`tilth eval`: models scored on the held-out questions of the committed leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.workspace import Workspace
from ..cycle.releases import find_release, model_folder, releases
from ..eval.run import evaluate
from ..llm.student import student_folder
from ..taxonomy.source import CommitTree
from ..taxonomy.tree import read_leaves
from .options import Json, Set, open_workspace, print_json
from .scores import print_scores
from .terminal import TerminalProgress


def eval(  # noqa: A001  named as the verb is
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="base, a release's number, or a model; default: base and all releases."),
    ] = None,
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    as_json: Json = False,
) -> None:
    """Score models on the held-out questions. Answers given before are not generated again."""
    workspace, progress = open_workspace(overrides), TerminalProgress()
    named = models or ["base", *(str(release.number) for release in releases(workspace))]
    folders = dict(_model(workspace, name, progress) for name in named)
    leaves = read_leaves(CommitTree(workspace.root, "HEAD"))
    questions = [question for leaf in leaves for question in leaf.questions]
    evaluation = evaluate(
        folders, questions, config=workspace.config, cache=workspace.state / "answers", progress=progress
    )
    if as_json:
        print_json(evaluation.model_dump(mode="json"))
    else:
        print_scores(evaluation)


def _model(workspace: Workspace, name: str, progress: TerminalProgress) -> tuple[str, Path]:
    if name == "base":
        return name, student_folder(workspace.config.student.model, progress)
    if name.isdecimal():
        release = find_release(workspace, int(name))
        return release.name, model_folder(workspace, release)
    return name, student_folder(name, progress)
