from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tilth.core.atomic import read_json, write_json
from tilth.core.config import Config
from tilth.core.records import Question
from tilth.core.workspace import Workspace
from tilth.cycle.history import read_matrix, when_learned
from tilth.cycle.journal import CANDIDATE, ENTRIES, EVALUATION, Inputs, begin, cycle_folder, read_record
from tilth.cycle.releases import Release, add_release
from tilth.eval.continual import summarise
from tilth.eval.evaluation import Answer, Evaluation, Settings
from tilth.eval.findings import LEARNERS
from tilth.eval.gate import Verdict
from tilth.eval.report import LeafChanges

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def turn(
    workspace: Workspace,
    number: int,
    parent: int,
    new: str,
    rights: dict[str, dict[str, int]],
    *,
    moved: tuple[tuple[str, str], ...] = (),
    others: int = 0,
) -> None:
    """A cycle about the leaf `new`: model -> leaf -> how many of four questions it answers rightly.

    `others` of each leaf's are others than those that cycles ask by default.
    """
    leaves = list(next(iter(rights.values())))
    was = {leaf: old for old, leaf in moved}
    texts = {leaf: [f"{was.get(leaf, leaf)} {place + others}?" for place in range(4)] for leaf in leaves}
    asked = [Question.new(leaf, text, ("yes",)) for leaf in leaves for text in texts[leaf]]
    answers: dict[str, dict[str, Any]] = {}
    for model, by_leaf in rights.items():
        left, answers[model] = dict(by_leaf), {}
        for question in asked:
            outcome = "right" if left[question.leaf] > 0 else "wrong"
            left[question.leaf] -= 1
            answers[model][question.id] = Answer.model_validate(
                {"outcome": outcome, "exact": False, "f1": 0, "text": "x"}
            )
    settings = Settings(system_prompt="", max_new_tokens=8, max_new_tokens_judged=16, choice="letter")
    evaluation = Evaluation(
        settings=settings, models={model: model for model in rights}, questions=tuple(asked), answers=answers
    )
    inputs = Inputs(
        number=number, identity=f"{number}", commit="c", parent=parent, changes=LeafChanges(moved=moved), new=(new,),
        config={}, started_at=NOW,
    )  # fmt: skip
    begin(workspace, inputs)
    write_json(cycle_folder(workspace, number) / EVALUATION, evaluation.model_dump(mode="json"))


def release(workspace: Workspace, number: int, cycle: int, parent: int) -> None:
    model = workspace.root / "model"
    model.mkdir(exist_ok=True)
    made = Release(
        number=number, cycle=cycle, parent=parent, created_at=NOW, commit="c", student="s", teacher="t", plan="p",
        seed=1, datasets=(), weights_sha256="w", scores={}, verdict=Verdict(outcome="pass", reasons=()), tilth="1",
    )  # fmt: skip
    add_release(workspace, made, model, {"model/README.md": "card"})


def three_cycles(tmp_path: Path) -> Workspace:
    """Release 1, a refused cycle, and a third that starts from release 1 again."""
    made = Workspace(tmp_path / "coast", Config())
    turn(made, 1, 0, "a", {"base": {"a": 0}, "release 1": {"a": 4}})
    release(made, 1, 1, 0)
    turn(made, 2, 1, "b", {"base": {"a": 0, "b": 1}, "release 1": {"a": 4, "b": 1}, "candidate": {"a": 0, "b": 1}})
    turn(made, 3, 1, "b", {"base": {"a": 1, "b": 1}, "release 1": {"a": 3, "b": 2}, "release 2": {"a": 2, "b": 4}})
    release(made, 2, 3, 1)
    return made


def test_a_row_for_the_base_and_each_release_with_its_newest_scores(tmp_path: Path) -> None:
    matrix = read_matrix(three_cycles(tmp_path), 3)
    assert matrix
    assert {leaf: rate and rate.correct for leaf, rate in matrix.base.rates.items()} == {"a": 1, "b": 1}
    rows = [(row.name, row.first_trained, {leaf: rate and rate.correct for leaf, rate in row.rates.items()})
            for row in matrix.rows]  # fmt: skip
    assert rows == [("release 1", ("a",), {"a": 3, "b": 2}), ("release 2", ("b",), {"a": 2, "b": 4})]
    summary = summarise(matrix, seed=1)
    assert summary.backward_transfer
    assert summary.backward_transfer.value == -0.25
    assert summary.forward_transfer
    assert summary.forward_transfer.terms == {"b": 0.25}


def test_a_refused_candidate_is_the_last_row_of_its_own_cycle_only(tmp_path: Path) -> None:
    matrix = read_matrix(three_cycles(tmp_path), 2)
    assert matrix
    assert [(row.name, row.first_trained) for row in matrix.rows] == [("release 1", ("a",)), ("candidate", ("b",))]


def test_a_cycle_whose_evaluation_is_gone_is_left_out(tmp_path: Path) -> None:
    made = three_cycles(tmp_path)
    (cycle_folder(made, 1) / EVALUATION).unlink()
    matrix = read_matrix(made, 3)
    assert matrix
    assert [row.name for row in matrix.rows] == ["release 1", "release 2"]
    (cycle_folder(made, 3) / EVALUATION).unlink()
    assert read_matrix(made, 3) is None


def test_what_other_settings_examined_is_left_out(tmp_path: Path) -> None:
    made = Workspace(tmp_path / "coast", Config())
    turn(made, 1, 0, "a", {"base": {"a": 0, "gone": 2}, "release 1": {"a": 4, "gone": 2}})
    release(made, 1, 1, 0)
    turn(made, 2, 1, "b", {"base": {"a": 0, "b": 1}, "release 1": {"a": 4, "b": 1}, "candidate": {"a": 4, "b": 4}})
    alike = read_matrix(made, 2)
    assert alike
    assert set(alike.base.rates) == {"a", "b", "gone"}
    path = cycle_folder(made, 1) / EVALUATION
    record = read_json(path)
    write_json(path, record | {"settings": record["settings"] | {"max_new_tokens": 4}})
    matrix = read_matrix(made, 2)
    assert matrix
    assert set(matrix.base.rates) == {"a", "b"}
    assert [(row.name, row.first_trained) for row in matrix.rows] == [("release 1", ("a",)), ("candidate", ("b",))]


def test_a_leaf_that_moved_is_followed(tmp_path: Path) -> None:
    made = Workspace(tmp_path / "coast", Config())
    turn(made, 1, 0, "old", {"base": {"old": 0}, "release 1": {"old": 4}})
    release(made, 1, 1, 0)
    scores = {"base": {"a": 0, "b": 0}, "release 1": {"a": 4, "b": 0}, "candidate": {"a": 1, "b": 4}}
    turn(made, 2, 1, "b", scores, moved=(("old", "a"),))
    matrix = read_matrix(made, 2)
    assert matrix
    assert set(matrix.base.rates) == {"a", "b"}
    assert [(row.name, row.first_trained) for row in matrix.rows] == [("release 1", ("a",)), ("candidate", ("b",))]
    summary = summarise(matrix, seed=1)
    assert summary.backward_transfer
    assert summary.backward_transfer.value == -0.75


def test_another_student_descends_from_no_release_and_has_learned_all_leaves_at_once(tmp_path: Path) -> None:
    made = Workspace(tmp_path / "coast", Config())
    turn(made, 1, 0, "a", {"base": {"a": 0}, "release 1": {"a": 4}})
    release(made, 1, 1, 0)
    scores = {"base": {"a": 1, "b": 1}, "release 1": {"a": 4, "b": 3}, "candidate": {"a": 3, "b": 4}}
    turn(made, 2, 0, "b", scores)
    write_json(cycle_folder(made, 2) / ENTRIES, {"a": "a-0", "b": "b-0"})
    matrix = read_matrix(made, 2)
    assert matrix
    assert [(row.name, row.first_trained) for row in matrix.rows] == [("candidate", ("a", "b"))]
    assert summarise(matrix, seed=1).forward_transfer is None


def test_rows_are_over_the_questions_that_they_share(tmp_path: Path) -> None:
    """Release 1 answered all four easy questions, and nobody answers those that took their place: none is forgotten."""
    for others, kept in ((4, ()), (3, ()), (2, ("release 1",)), (0, ("release 1",))):
        made = Workspace(tmp_path / f"coast {others}", Config())
        turn(made, 1, 0, "a", {"base": {"a": 0}, "release 1": {"a": 4}})
        release(made, 1, 1, 0)
        turn(made, 2, 1, "b", {"base": {"b": 0}, "release 1": {"b": 0}, "release 2": {"b": 4}})
        release(made, 2, 2, 1)
        turn(made, 3, 2, "c", {"base": {"a": 0}, "release 2": {"a": 0}, "candidate": {"a": 0}}, others=others)
        matrix = read_matrix(made, 3)
        assert matrix
        asked = {row.name: rate for row in matrix.rows if (rate := row.rate("a"))}
        assert tuple(asked) == (*kept, "release 2", "candidate")
        assert {rate.total for rate in asked.values()} == {4 - others if kept else 4}
        found = summarise(matrix, seed=1).backward_transfer
        assert (found.terms if found else {}).get("a") == (-1 if kept else None)


def learned(made: Workspace, number: int) -> dict[str, tuple[int, int]] | None:
    """Leaf -> how many of its questions are on record from when it was learned, and how many were right then."""
    evaluation = read_record(cycle_folder(made, number) / EVALUATION, Evaluation)
    found = when_learned(made, number, evaluation)
    if found is None:
        return None
    assert {*found.answers_of(LEARNERS)} == {question.id for question in found.questions}
    assert found.answers_of(CANDIDATE) == evaluation.answers_of(CANDIDATE)
    rates = {leaf: found.rate(LEARNERS, leaf) for leaf in found.leaves}
    return {leaf: (rate.total, rate.correct) for leaf, rate in rates.items()}


def test_what_was_answered_when_a_leaf_was_learned_is_that_of_the_best_release_trained_on_it(tmp_path: Path) -> None:
    made = Workspace(tmp_path / "coast", Config())
    turn(made, 1, 0, "a", {"base": {"a": 0}, "candidate": {"a": 3}})
    assert learned(made, 1) is None
    release(made, 1, 1, 0)
    turn(made, 2, 1, "b", {"base": {"a": 0, "b": 0}, "release 1": {"a": 3, "b": 0}, "candidate": {"a": 4, "b": 2}})
    assert learned(made, 2) is None, "it was learned by the parent"
    release(made, 2, 2, 1)
    rights = {"base": {"a": 0, "b": 0}, "release 2": {"a": 4, "b": 2}, "candidate": {"a": 1, "b": 4}}
    turn(made, 3, 2, "b", rights)
    assert learned(made, 3) == {"a": (4, 3), "b": (4, 2)}
    release(made, 3, 3, 2)
    rights = {"base": {"x": 0, "b": 0}, "release 3": {"x": 1, "b": 4}, "candidate": {"x": 0, "b": 1}}
    turn(made, 4, 3, "b", rights, moved=(("a", "x"),))
    assert learned(made, 4) == {"x": (4, 3), "b": (4, 4)}
    release(made, 4, 4, 3)
    rights = {"base": {"x": 0, "b": 0}, "release 4": {"x": 0, "b": 1}, "candidate": {"x": 0, "b": 1}}
    turn(made, 5, 4, "c", rights, others=3)
    assert learned(made, 5) == {"b": (1, 1)}, "of x other questions were asked"
    path = cycle_folder(made, 3) / EVALUATION
    record = read_json(path)
    write_json(path, record | {"settings": record["settings"] | {"max_new_tokens": 4}})
    turn(made, 4, 3, "b", rights, moved=(("a", "x"),))
    assert learned(made, 4) == {"x": (4, 3), "b": (4, 2)}, "other settings examined cycle 3"
