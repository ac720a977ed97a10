"""What a cycle's candidate and those before it knew of every leaf, from the evaluations that their cycles left."""

from __future__ import annotations

from ..core.atomic import read_json
from ..core.rate import Rate
from ..core.workspace import Workspace
from ..eval.continual import Matrix, Row
from ..eval.evaluation import Evaluation, unlike
from .candidate import BASE
from .journal import ENTRIES, EVALUATION, Inputs, cycle_folder, cycles, find_cycle, read_record
from .releases import releases


def read_matrix(workspace: Workspace, number: int) -> Matrix | None:
    """The base, the releases from which the candidate of cycle `number` descends, and the candidate.

    A leaf has the name that it has now. A model that several cycles asked, as their parent or as the base, has the
    newest of its scores on each leaf. A cycle whose evaluation is not there, or was made by another judge or with other
    settings than that of cycle `number`, is left out; None where none is. Raises DataError when one is broken.
    """
    rates: dict[str, dict[str, Rate]] = {}
    trained: dict[str, tuple[str, ...]] = {}
    known: set[str] = set()
    newest = cycle_folder(workspace, number) / EVALUATION
    last = read_record(newest, Evaluation) if newest.is_file() else None
    lineage = _lineage(workspace, number)
    descent = {BASE, *(f"release {inputs.parent}" for inputs in lineage)}
    for inputs in lineage:
        file = cycle_folder(workspace, inputs.number) / EVALUATION
        now = dict(inputs.changes.moved)
        rates = {model: {now.get(leaf, leaf): rate for leaf, rate in of.items()} for model, of in rates.items()}
        trained = {model: tuple(now.get(leaf, leaf) for leaf in leaves) for model, leaves in trained.items()}
        known = {now.get(leaf, leaf) for leaf in known}
        new = tuple(leaf for leaf in _trained(workspace, inputs) if leaf not in known)
        known.update(new)
        if not file.is_file():
            continue
        evaluation = read_record(file, Evaluation)
        own = list(evaluation.models)[-1]
        trained[own] = new
        if unlike(evaluation, last or evaluation):
            continue
        for model in [name for name in evaluation.models if name in {*descent, own}]:
            scores = {leaf: evaluation.rate(model, leaf) for leaf in evaluation.leaves}
            rates[model] = rates.get(model, {}) | scores
    rows = [Row(name=name, first_trained=trained.get(name, ()), rates=scores) for name, scores in rates.items()]
    base = next((row for row in rows if row.name == BASE), None)
    return Matrix(base=base, rows=tuple(row for row in rows if row is not base)) if base else None


def _trained(workspace: Workspace, inputs: Inputs) -> tuple[str, ...]:
    """The leaves that a cycle trained as new: where it starts from the base, as with another student, all of them."""
    entries = cycle_folder(workspace, inputs.number) / ENTRIES
    return tuple(read_json(entries)) if inputs.parent == 0 and entries.is_file() else inputs.new


def _lineage(workspace: Workspace, number: int) -> list[Inputs]:
    """The cycles that led to this one, the oldest first, as far as their records are there; it is the last."""
    made_in = {release.number: release.cycle for release in releases(workspace)}
    known = {each.number: each for each in cycles(workspace)}
    found = [find_cycle(workspace, number)]
    while (before := made_in.get(found[0].parent, number)) < found[0].number and before in known:
        found.insert(0, known[before])
    return found
