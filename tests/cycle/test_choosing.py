from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.progress import SilentProgress
from tilth.core.records import Question
from tilth.cycle.choosing import right_answers, set_apart
from tilth.cycle.open_cycle import OpenCycle
from tilth.eval.answering import Answering
from tilth.eval.run import evaluate
from tilth.train.plan import Phase, Plan
from tilth.train.settings import Selection

from ..loop import make_student


def plan(by: Any) -> Plan:
    return Plan(phases=(Phase(name="p", kinds=("skill",), select=Selection(by=by)),))


def cycle(root: Path, *, tests: int) -> OpenCycle:
    nothing: Any = None
    written = SimpleNamespace(questions=(Question.new("a", "When did the ferry first sail?", ("1902",)),))
    return OpenCycle(
        SimpleNamespace(config=Config(), state=root, ledger=root / "ledger.db"),  # pyright: ignore[reportArgumentType]
        SimpleNamespace(leaves=[written]),  # pyright: ignore[reportArgumentType]
        nothing,
        root,
        SilentProgress(),
        tests=tuple(Question.new("a", f"How much is {number} and one?", (str(number + 1),)) for number in range(tests)),
    )


def test_what_chooses_does_not_judge_and_is_always_the_same_half(tmp_path: Path) -> None:
    whole = cycle(tmp_path, tests=40)
    apart = set_apart(whole, plan("held_out"))
    assert 10 < len(apart.choosing) < 30
    assert {*apart.choosing, *apart.tests} == set(whole.tests)
    assert not {*apart.choosing} & {*apart.questions}
    assert set(set_apart(cycle(tmp_path, tests=80), plan("held_out")).choosing) > set(apart.choosing)
    assert set_apart(whole, plan("validation_loss")) == whole
    assert right_answers(whole) is None


@pytest.mark.slow
def test_a_model_is_asked_what_chooses(tmp_path: Path) -> None:
    student = make_student(tmp_path / "student")
    apart = set_apart(cycle(tmp_path, tests=6), plan("held_out"))
    by = Answering(Config(), tmp_path / "answers", tmp_path / "ledger.db", SilentProgress())
    given = evaluate({"m": student}, apart.choosing, by).answers_of("m")
    first, *others = apart.choosing
    text = given[first.id].text.strip() or "nothing"
    knows = Question.new("a", first.question, (text,))
    count = right_answers(OpenCycle(**{**vars(apart), "choosing": (knows, *others)}))
    assert count
    assert count(student) == 1 + sum(given[other.id].correct for other in others)
