from __future__ import annotations

import pytest
from tilth.core.choices import chosen, with_options
from tilth.core.records import Question

OPTIONS = ("larch", "oak", "black oak", "12 pines")


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        ("A", 0),
        ("b)", 1),
        ("C. black oak", 2),
        ("**D**", 3),
        ("(B)", 1),
        ("The answer is C.", 2),
        ("The correct option: d", 3),
        ("Answer: B\nbecause it grows there", 1),
        ("\n  oak", 1),
        ("A larch.", 0),  # an article, and the option's word
        ("A pine", None),
        ("It is made of Black Oak.", 2),
        ("twelve pines", 3),
        ("larch or oak", None),
        ("A, B and C", None),
        ("A: larch or B: oak", None),
        ("A and B", None),
        ("A) larch, for C burns", 0),
        ("It is not oak.", None),
        ("Not oak but larch", 0),
        ("A) oak", 0),  # the letter counts
        ("E", None),
        ("I do not know", None),
        ("", None),
    ],
)
def test_an_answer_names_an_option_by_letter_or_words(answer: str, index: int | None) -> None:
    assert chosen(answer, OPTIONS) == index


def test_options_stand_below_the_question() -> None:
    asked = with_options("Which wood?", OPTIONS)
    assert asked == "Which wood?\n\nA) larch\nB) oak\nC) black oak\nD) 12 pines"
    assert Question.new("leaf", "Which wood?", ("oak",), OPTIONS).asked == asked
    assert Question.new("leaf", "Which wood?", ("oak",)).asked == "Which wood?"


def test_options_make_another_question() -> None:
    assert Question.new("leaf", "Which wood?", ("oak",)).id != Question.new("leaf", "Which wood?", ("oak",), OPTIONS).id


def test_what_has_no_words_names_no_option() -> None:
    assert chosen("-", ["?", "-"]) is None
    assert chosen("x < 5", ["x > 5", "x < 5"]) == 1
