"""Questions about why and how: the reason must stand in the passage, be what is answered, and be found by the judge."""

from __future__ import annotations

from typing import Any

import pytest
from tilth.sdg.store import read_manifest

from .conftest import Bench, items
from .test_knowledge_flow import named, samples_of, town

__all__ = ["town"]


def reason_why(asked: dict[str, Any]) -> dict[str, Any]:
    why = "Why did the mill of Orla come to Bram Osk?"
    told = {"because": "planned by Bram Osk", "answer": "Because Bram Osk planned it, the mill is his."}
    return items(*({**told, "question": f"{why[:-1]} {n}?"} for n in "ab"))


REASONS = {"reasons_per_chunk": 2, "prompts": named("reasons"), "grounded_share": 0.0, "near_duplicate": 1.0}


def test_reasons_are_long_answers_that_a_judge_finds_too(town: Bench) -> None:
    town.teacher.rules |= {
        "knowledge reasons": reason_why,
        "knowledge judge": lambda asked: "unknown" if "b?" in asked["question"] else "Bram Osk planned it",
    }
    found = samples_of(town, **REASONS)
    (why,) = {sample.question: sample for sample in found}.values()
    assert (why.kind, why.question) == ("knowledge_long", "Why did the mill of Orla come to Bram Osk a?")
    assert (why.source.grades, why.source.heading) == ({"judge": "Bram Osk planned it"}, "Orla Mill > Past")


@pytest.mark.parametrize(
    ("because", "answer", "reason"),
    [
        ("It was planned by Ada Brook", "Ada Brook planned the mill of Orla.", "reason_not_in_text"),
        ("Bram Osk", "It is because of Bram Osk.", "reason_not_in_text"),
        ("was planned by Bram Osk", "Everybody in the village loved the mill.", "reason_not_told"),
    ],
)
def test_a_reason_that_the_text_does_not_give_is_dropped(town: Bench, because: str, answer: str, reason: str) -> None:
    why = {"because": because, "question": "Why did the mill of Orla come?", "answer": answer}
    town.teacher.rules["knowledge reasons"] = lambda asked: items(*[why] * asked["number"])
    assert samples_of(town, **REASONS) == []
    assert reason in read_manifest(town.run()[0].folder).rejects_by_reason
    assert "knowledge judge" not in town.teacher.asked
