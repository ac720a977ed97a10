"""`tilth eval`: models scored on the held-out questions of the committed leaves."""

from __future__ import annotations

from typing import Annotated

import typer

from ..cycle.models import FORMS
from ..cycle.scores import score_models
from .options import Json, Set, open_workspace, print_json
from .scores import print_scores
from .terminal import TerminalProgress


def eval(  # noqa: A001  named as the verb is
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help=f"{FORMS}. Default: base and all releases.")
    ] = None,
    since: Annotated[
        str, typer.Option("--changed-since", metavar="REF", help="Only leaves that changed since HEAD left REF.")
    ] = "",
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    open_book: Annotated[
        bool, typer.Option("--open-book", help="Ask with the document's best passages at hand, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Score models on the held-out questions.

    They are those of the committed leaves, written by people or made with the samples, and the general set. What was
    answered or judged before is not asked for again: stopped and called again, it goes on. A server's answers are kept
    by its address and its model's name, and it is said when they are used: a model that was trained on needs another
    name there, or another `--set seed=N`.
    """
    workspace = open_workspace(overrides)
    evaluation = score_models(workspace, models or [], TerminalProgress(), since=since, open_book=open_book)
    if as_json:
        print_json(evaluation.model_dump(mode="json"))
    else:
        print_scores(evaluation)
