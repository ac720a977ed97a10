"""What is known of every leaf: what it holds, whether there are samples for it, whether the current release saw it.

Only `tree` and `show` want all of this at once. No model is asked, no address is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..core.atomic import read_json
from ..core.progress import Progress
from ..core.rate import Rate
from ..core.workspace import Workspace
from ..eval.evaluation import Evaluation, unlike
from ..llm.endpoint import identity
from ..sdg.recipe import load_recipes
from ..sdg.store import MANIFEST, complete_entries, read_manifest
from ..taxonomy.source import WorkingTree
from ..taxonomy.summary import LeafSummary, summaries
from ..taxonomy.tree import leaf_ids, leaf_ids_under
from .journal import EVALUATION, JUDGEMENT, Judgement, cycle_folder, read_record
from .releases import current_release, releases


@dataclass(frozen=True)
class LeafState:
    """One leaf of the working tree."""

    summary: LeafSummary
    samples: int | None
    """For what it says now; None: they are not made yet."""
    trained: bool
    """The current release was trained on what it says now."""
    score: Rate | None
    """The current release's right answers to its held-out questions, when the release was made."""


class Score(NamedTuple):
    """What one model answered rightly of a leaf's held-out questions."""

    model: str
    rate: Rate
    finding: str
    """`learned` or `forgotten`, against the release before, where the paired test said so."""


def leaf_states(workspace: Workspace, paths: list[str], progress: Progress) -> list[LeafState]:
    """Every leaf of the working tree, or those that `paths` (from the root) name. Raises TaxonomyError for others."""
    source = WorkingTree(workspace.root)
    ids = leaf_ids_under(source, paths) if paths else leaf_ids(source)
    entries = _entries(workspace)
    release = current_release(workspace)
    trained = {each.leaf_fingerprint: each.leaf for each in release.datasets} if release else {}
    scores: Mapping[str, Rate] = release.scores if release else {}
    states: list[LeafState] = []
    for summary in summaries(source, ids, workspace.state / "leaves.db", progress):
        folder = entries.get((summary.kind or "", summary.fingerprint))
        states.append(
            LeafState(
                summary,
                samples=_num_samples(folder) if folder else None,
                trained=summary.fingerprint in trained,
                score=scores.get(trained.get(summary.fingerprint, summary.id)),  # of what it was called then
            )
        )
    return states


def scores_over_releases(workspace: Workspace, leaf_id: str) -> list[Score]:
    """What the base and each release answered, as their evaluations have it, the newest where there are several.

    Evaluations by another judge or under other settings than the last one's are left out, and those that are not there
    any more. Raises DataError when one is broken.
    """
    rates: dict[str, Rate] = {}
    findings: dict[str, str] = {}
    folders = [(release, cycle_folder(workspace, release.cycle)) for release in releases(workspace)]
    made = [(release, folder) for release, folder in folders if (folder / EVALUATION).is_file()]
    evaluations = [read_record(folder / EVALUATION, Evaluation) for _, folder in made]
    for (release, folder), evaluation in zip(made, evaluations, strict=True):
        if unlike(evaluation, evaluations[-1]):
            continue
        if leaf_id in evaluation.leaves:
            rates |= {model: evaluation.rate(model, leaf_id) for model in evaluation.models}
        judgement = folder / JUDGEMENT
        for item in read_record(judgement, Judgement).comparisons if judgement.is_file() else ():
            if item.leaf == leaf_id and item.verdict in {"learned", "forgotten"}:
                findings[release.name] = item.verdict
    return [Score(model, rate, findings.get(model, "")) for model, rate in rates.items()]


def _entries(workspace: Workspace) -> dict[tuple[str, str], Path]:
    """(kind, leaf fingerprint) -> the complete folder of the store, for the recipes and the teacher of `tilth.yaml`."""
    recipes, teacher = load_recipes(workspace.config), identity(workspace.config.teacher)
    found = {recipe.fingerprint: complete_entries(workspace.store, recipe, teacher) for recipe in recipes.values()}
    return {
        (kind, leaf): folder for kind, recipe in recipes.items() for leaf, folder in found[recipe.fingerprint].items()
    }


def _num_samples(folder: Path) -> int:
    """Read without the checks of `read_manifest`: they would take seconds for ten thousand leaves."""
    samples = read_json(folder / MANIFEST).get("samples")
    return samples if isinstance(samples, int) else read_manifest(folder).samples  # which says what is wrong
