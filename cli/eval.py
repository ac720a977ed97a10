"""`tilth eval`: models scored on the held-out questions of the committed leaves."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..cycle.models import FORMS
from ..cycle.scores import score_models
from ..eval.compare import Comparison, compare
from .options import Json, Set, open_workspace, print_json
from .scores import better_or_worse, print_changes
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
    """Score models on the held-out questions; the last of two or more is compared with the first, in pairs.

    They are those of the committed leaves, written by people or made with the samples, and the general set. What was
    answered or judged before is not asked for again: stopped and called again, it goes on. A server's answers are kept
    by its address and its model's name, and it is said when they are used: a model that was trained on needs another
    name there, or another `--set seed=N`.
    """
    workspace = open_workspace(overrides)
    evaluation = score_models(workspace, models or [], TerminalProgress(), since=since, open_book=open_book)
    significance, names = workspace.config.gate.significance, list(evaluation.models)
    ends = names[0], names[-1]
    compared = compare(evaluation, *ends, evaluation.leaves, significance=significance) if len(names) > 1 else ()
    if as_json:
        changes = {"compared": [_as_json(each, significance) for each in compared]}
        print_json(evaluation.model_dump(mode="json") | changes)
    else:
        print_changes(evaluation, compared, significance)


def _as_json(item: Comparison, significance: float) -> dict[str, Any]:
    """The last model against the first on one leaf."""
    found = item.difference(significance)
    shown = {"leaf": item.leaf, "p_value": item.p_value, "verdict": better_or_worse(item)}
    return shown | {"value": found.value} | found.model_dump(mode="json")
