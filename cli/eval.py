"""`tilth eval`: models scored on the held-out questions of the committed leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from ..core.errors import TilthError
from ..core.workspace import Workspace
from ..cycle.basis import documents_cache
from ..cycle.held_out_questions import held_out_questions
from ..cycle.models import FORMS, find_model
from ..cycle.releases import releases
from ..eval.open_book import read_passages
from ..eval.run import evaluate
from ..taxonomy.changes import changed_leaves
from ..taxonomy.leaf import Leaf
from ..taxonomy.repository import merge_base
from ..taxonomy.source import CommitTree
from ..taxonomy.tree import read_leaves
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
    answered or judged before is not asked for again: stopped and called again, it goes on.
    """
    workspace, progress = open_workspace(overrides), TerminalProgress()
    named = models or ["base", *(str(release.number) for release in releases(workspace))]
    found = [find_model(workspace, name, progress) for name in named]
    source = CommitTree(workspace.root, "HEAD")
    leaves = read_leaves(source)
    asked = _changed(workspace, since, leaves) if since else leaves
    ids = {leaf.id for leaf in asked}
    questions = [each for each in held_out_questions(workspace, leaves) if not since or each.leaf in ids]
    passages: Mapping[str, tuple[str, ...]] | None = None
    if open_book or workspace.config.eval.open_book:
        passages = read_passages(asked, source, documents_cache(workspace), workspace.config.documents)
    evaluation = evaluate(
        {model.name: model for model in found},
        questions,
        config=workspace.config,
        cache=workspace.state / "answers",
        progress=progress,
        passages=passages,
        ledger=workspace.ledger,
    )
    if as_json:
        print_json(evaluation.model_dump(mode="json"))
    else:
        print_scores(evaluation)


def _changed(workspace: Workspace, since: str, leaves: list[Leaf]) -> list[Leaf]:
    changed = changed_leaves(workspace.root, merge_base(workspace.root, since))
    if not changed:
        raise TilthError(f"no leaf changed since HEAD left {since!r}", where="--changed-since", fix="name another REF")
    return [leaf for leaf in leaves if leaf.id in changed]
