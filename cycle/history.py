"""What a cycle's candidate and those before it knew of every leaf, from the evaluations that their cycles left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from ..core.atomic import read_json
from ..core.rate import Rate, wilson
from ..core.workspace import Workspace
from ..eval.continual import Matrix, Row
from ..eval.evaluation import Answer, Evaluation, unlike
from ..eval.findings import LEARNERS
from .journal import BASE, CANDIDATE, ENTRIES, EVALUATION, Inputs, cycle_folder, cycles, find_cycle, read_record
from .releases import releases

Value = TypeVar("Value")

_Marks = Mapping[str, bool]
"""Question id -> whether it was answered rightly."""


def read_matrix(workspace: Workspace, number: int) -> Matrix | None:
    """The base, the releases from which the candidate of cycle `number` descends, and the candidate.

    A leaf has the name that it has now. A model that several cycles asked, as their parent or as the base, has the
    newest of its scores on each leaf; all are over the same questions, as far as a leaf's have changed. A cycle whose
    evaluation is not there, or was made by another judge or with other settings than that of cycle `number`, is left
    out; None where none is. Raises DataError when one is broken.
    """
    marks: dict[str, dict[str, _Marks]] = {}
    trained: dict[str, tuple[str, ...]] = {}
    known: set[str] = set()
    newest = cycle_folder(workspace, number) / EVALUATION
    last = read_record(newest, Evaluation) if newest.is_file() else None
    lineage = _lineage(workspace, number)
    descent = {BASE, *(f"release {inputs.parent}" for inputs in lineage)}
    for inputs in lineage:
        file = cycle_folder(workspace, inputs.number) / EVALUATION
        now = dict(inputs.changes.moved)
        marks = {model: _renamed(of, now) for model, of in marks.items()}
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
            marks[model] = marks.get(model, {}) | _marks(evaluation, model)
    rates = _rates(marks)
    rows = [Row(name=name, first_trained=trained.get(name, ()), rates=scores) for name, scores in rates.items()]
    base = next((row for row in rows if row.name == BASE), None)
    return Matrix(base=base, rows=tuple(row for row in rows if row is not base)) if base else None


def when_learned(workspace: Workspace, number: int, evaluation: Evaluation) -> Evaluation | None:
    """The answers of cycle `number`'s candidate beside those that the leaves' questions got when they were learned.

    These are, under the name `LEARNERS`, those of one of the releases that it descends from and that were trained on
    the leaf as new: of the one that answered most of today's questions rightly, the first of equals. None where all
    were learned by the parent, or nothing is on record that was made by the same judge and with the same settings.
    Raises DataError when a record is broken.
    """
    best: dict[str, _Learned] = {}
    *before, this = _lineage(workspace, number)
    for inputs in before:
        best = _renamed(best, dict(inputs.changes.moved))
        file = cycle_folder(workspace, inputs.number) / EVALUATION
        record = read_record(file, Evaluation) if file.is_file() else None
        if record is None or unlike(record, evaluation):
            continue
        answers = record.answers_of(list(record.models)[-1])
        asked = {question.id for question in evaluation.questions} & answers.keys()
        for leaf in _trained(workspace, inputs):
            given = {question.id: answers[question.id] for question in record.of_leaf(leaf) if question.id in asked}
            found = _Learned(sum(answer.correct for answer in given.values()), inputs.number, given)
            if given and (leaf not in best or found.right > best[leaf].right):
                best[leaf] = found
    best = _renamed(best, dict(this.changes.moved))
    given = {
        question.id: best[question.leaf].answers[question.id]
        for question in evaluation.questions
        if question.leaf in best and question.id in best[question.leaf].answers
    }
    if not before or all(each.cycle == before[-1].number for each in best.values()):
        return None
    return evaluation.model_copy(
        update={
            "models": {LEARNERS: "", CANDIDATE: evaluation.models[CANDIDATE]},
            "questions": tuple(each for each in evaluation.questions if each.leaf in best and each.id in given),
            "answers": {LEARNERS: given, CANDIDATE: evaluation.answers_of(CANDIDATE)},
            "duels": (),
            "open_book": {},
        }
    )


class _Learned(NamedTuple):
    """What a release that was trained on a leaf answered to its questions."""

    right: int
    cycle: int
    answers: Mapping[str, Answer]


def _renamed(by_leaf: Mapping[str, Value], now: Mapping[str, str]) -> dict[str, Value]:
    """By the names that the leaves have now: `now` has those of the ones that moved, by their old ones."""
    return {now.get(leaf, leaf): value for leaf, value in by_leaf.items()}


def _marks(evaluation: Evaluation, model: str) -> dict[str, _Marks]:
    """By leaf."""
    given = evaluation.answers_of(model)
    return {
        leaf: {question.id: given[question.id].correct for question in evaluation.of_leaf(leaf)}
        for leaf in evaluation.leaves
    }


def _rates(marks: Mapping[str, Mapping[str, _Marks]]) -> dict[str, dict[str, Rate]]:
    """The scores of each model, the last one's of today's questions; on each leaf over questions that all were asked.

    A model that was asked less than half of those that the later ones were is not compared on that leaf.
    """
    shared: dict[str, set[str]] = {}
    asked: dict[str, set[str]] = {model: set() for model in marks}
    for model in reversed([*marks]):
        for leaf, of in marks[model].items():
            both = shared.setdefault(leaf, {*of}) & of.keys()
            if 2 * len(both) >= len(shared[leaf]):
                shared[leaf] = both
                asked[model].add(leaf)
    return {
        model: {
            leaf: wilson(sum(of[id_] for id_ in shared[leaf]), len(shared[leaf]))
            for leaf, of in leaves.items()
            if leaf in asked[model]
        }
        for model, leaves in marks.items()
    }


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
