"""Models scored at any time on the held-out questions of the committed leaves, as `tilth eval` does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.errors import TilthError
from ..core.progress import Progress
from ..core.workspace import Workspace
from ..eval.evaluation import Evaluation
from ..eval.open_book import read_passages
from ..eval.run import evaluate
from ..taxonomy.changes import changed_leaves
from ..taxonomy.leaf import Leaf
from ..taxonomy.repository import merge_base
from ..taxonomy.source import CommitTree
from ..taxonomy.tree import read_leaves
from .basis import documents_cache
from .held_out_questions import held_out_questions
from .models import answering, find_model
from .releases import usable_releases


def score_models(
    workspace: Workspace, names: Sequence[str], progress: Progress, *, since: str = "", open_book: bool = False
) -> Evaluation:
    """Score the models of those names, by default the base and all releases that have their model, in that order.

    `since` asks only about leaves that changed since HEAD left that revision; `open_book` asks with the document's best
    passages at hand, too. What was answered or judged before is not asked for again. Holds the workspace's lock while
    models are asked. Raises TilthError.
    """
    names = names or ["base", *(str(release.number) for release in usable_releases(workspace))]
    found = [find_model(workspace, name, progress) for name in names]
    source = CommitTree(workspace.root, "HEAD")
    leaves = read_leaves(source)
    asked = _changed(workspace, since, leaves) if since else leaves
    ids = {leaf.id for leaf in asked}
    questions = [each for each in held_out_questions(workspace, leaves) if not since or each.leaf in ids]
    with workspace.lock():
        passages: Mapping[str, tuple[str, ...]] | None = None
        if open_book or workspace.config.eval.open_book:
            passages = read_passages(asked, source, documents_cache(workspace), workspace.config.documents)
        return evaluate(
            {model.name: model for model in found},
            questions,
            answering(workspace, progress),
            passages=passages,
        )


def _changed(workspace: Workspace, since: str, leaves: Sequence[Leaf]) -> list[Leaf]:
    changed = changed_leaves(workspace.root, merge_base(workspace.root, since))
    if not changed:
        raise TilthError(f"no leaf changed since HEAD left {since!r}", where="--changed-since", fix="name another REF")
    return [leaf for leaf in leaves if leaf.id in changed]
