"""Held-out questions in other words: what is compared, and what two questions must share to be one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from tilth.core.held_out import find_leaks
from tilth.core.records import Message, Provenance, Question, Sample
from tilth.core.reworded import Likeness

SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="r", teacher="t")
TALL, HEIGHT, WIDE, AGE = (
    "How tall is the tower?",
    "What is the height of the tower?",
    "How wide is the tower?",
    "How old is the harbour wall?",
)
ANGLES = {TALL: 0.0, HEIGHT: 0.25, WIDE: 0.28, AGE: 1.0}


def embed(text: str) -> Sequence[float]:
    """Of no other text may anything be asked."""
    return math.cos(ANGLES[text]), math.sin(ANGLES[text])


LIKENESS = Likeness(embed, 0.95)
HELD_OUT = Question.new("l", TALL, ("37 metres", "thirty-seven metres"))


def sample(question: str, answer: str = "37 metres.") -> Sample:
    return Sample.new("knowledge_short", question, answer, SOURCE)


def kinds(held_out: Question, asked: Sample, likeness: Likeness | None = LIKENESS) -> list[str]:
    return [leak.kind for leak in find_leaks([held_out], [asked], likeness)]


def test_a_reworded_question_is_found_where_likeness_is_given() -> None:
    (leak,) = find_leaks([HELD_OUT], [sample(HEIGHT)], LIKENESS)
    assert (leak.question_id, leak.kind, leak.overlap) == (HELD_OUT.id, "reworded", 0.969)
    assert kinds(HELD_OUT, sample(HEIGHT), None) == []
    assert kinds(HELD_OUT, sample(HEIGHT), Likeness(embed, 0.97)) == []
    assert kinds(HELD_OUT, sample(AGE)) == []


def test_a_copy_outranks_a_reworded_one() -> None:
    turns = (Message(role="user", content=HEIGHT), Message(role="assistant", content=f"{TALL} 37 metres."))
    assert kinds(HELD_OUT, Sample(id="s", kind="skill", messages=turns, source=SOURCE)) == ["copy"]


@pytest.mark.parametrize(
    ("answer", "agrees"),
    [
        ("It is 37 meters tall.", True),
        ("Thirty-seven.", True),
        ("12 metres", False),
        ("metres", False),
        ("", False),
    ],
)
def test_numbers_in_an_answer_decide(answer: str, agrees: bool) -> None:
    assert kinds(HELD_OUT, sample(HEIGHT, answer)) == ["reworded"] * agrees


@pytest.mark.parametrize(
    ("answer", "agrees"),
    [("Quandt", True), ("The architect Ilse Quandt.", True), ("Jon Quandt", False), ("Tobias Renn", False)],
)
def test_of_other_answers_more_than_half_must_be_the_same(answer: str, agrees: bool) -> None:
    assert kinds(Question.new("l", TALL, ("Ilse Quandt",)), sample(WIDE, answer)) == ["reworded"] * agrees


def test_answers_that_are_long_are_not_compared() -> None:
    essay = "Grey gneiss stands above the sound while old boats steer by green lamps every autumn night."
    assert kinds(Question.new("l", TALL, (essay,)), sample(HEIGHT, "Something quite different.")) == ["reworded"]


def test_questions_with_other_numbers_are_others() -> None:
    feet, miles = "How many feet are in 500 miles?", "How many feet are in two miles?"
    likeness = Likeness(lambda _: (1.0,), 0.95)
    assert kinds(Question.new("l", feet, ("many",)), sample(miles, "Many."), likeness) == []
    one, any_ = "How many tubes are in one zellophar?", "What number of tubes does a zellophar have?"
    assert kinds(Question.new("l", one, ("14",)), sample(any_, "Fourteen."), likeness) == ["reworded"]


@pytest.mark.parametrize("text", [f"{HEIGHT} Answer in full sentences.", f"The tower is green.\n\n{HEIGHT}"])
def test_each_question_of_a_turn_is_compared(text: str) -> None:
    assert kinds(HELD_OUT, sample(text)) == ["reworded"]
    assert kinds(HELD_OUT, sample("Tower", f"It is 37 metres tall. {HEIGHT} Guess!"), likeness_of_all()) == ["reworded"]


def likeness_of_all() -> Likeness:
    return Likeness(lambda text: embed(text) if text in ANGLES else (0.0, 1.0), 0.95)


def test_an_instruction_is_compared_with_and_without_what_follows_it() -> None:
    seen: list[str] = []

    def note(text: str) -> Sequence[float]:
        seen.append(text)
        return embed(TALL)

    find_leaks([HELD_OUT], [sample("Tell me the tower's height. Be brief.")], Likeness(note, 0.95))
    assert seen == ["Tell me the tower's height.", TALL, "Tell me the tower's height. Be brief."]


def test_nothing_is_embedded_whose_answer_differs() -> None:
    assert kinds(HELD_OUT, sample("Who built it?", "Ilse Quandt")) == []  # `embed` knows no such text


def test_nothing_is_embedded_that_has_no_word_in_common() -> None:
    assert kinds(HELD_OUT, sample("How high is it?")) == []  # `embed` knows no such text
