"""core/records: an id is a name of the content."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from tilth.core.records import Provenance, Question, Sample

HERE = Provenance(
    leaf="knowledge/birds", leaf_fingerprint="f1", commit="c1", recipe="knowledge", recipe_fingerprint="r1", teacher="t"
)
THERE = HERE.model_copy(update={"commit": "c2", "teacher": "other", "requests": ("k1",)})


def test_a_sample_is_named_by_what_it_trains() -> None:
    sample = Sample.new("skill", "q", "a", HERE)
    assert sample.id == Sample.new("skill", "q", "a", THERE).id
    others = [
        Sample.new("grounded_skill", "q", "a", HERE),
        Sample.new("skill", "q2", "a", HERE),
        Sample.new("skill", "q", "a2", HERE),
        Sample.new("skill", "q", "a", HERE, unmask=True),
    ]
    assert len({sample.id, *(other.id for other in others)}) == 5


def test_a_sample_knows_its_question_and_answer() -> None:
    sample = Sample.new("skill", "q", "a", HERE)
    assert (sample.question, sample.answer) == ("q", "a")


def test_a_question_is_named_by_its_words_not_by_its_leaf() -> None:
    question = Question.new("knowledge/birds", "q", ("a", "b"))
    assert question.id == Question.new("knowledge/moved", "q", ("a", "b")).id
    assert question.id != Question.new("knowledge/birds", "q", ("b", "a")).id
    assert question.id != Question.new("knowledge/birds", "q?", ("a", "b")).id


def test_a_record_survives_json() -> None:
    sample = Sample.new(
        "knowledge_short", "q", "a", THERE.model_copy(update={"span": (3, 9), "grades": {"judge": "yes"}})
    )
    assert Sample.model_validate_json(sample.model_dump_json()) == sample


def test_records_are_frozen_and_closed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        HERE.leaf = "x"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Provenance.model_validate({**HERE.model_dump(), "colour": "red"})
