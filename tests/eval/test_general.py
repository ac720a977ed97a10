"""The small general set: its items are whole, fair, alike to no other, and cannot be passed by saying nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tilth.core.answers import is_correct
from tilth.core.choices import chosen
from tilth.core.held_out import find_leaks
from tilth.core.normalise import normalise
from tilth.core.records import Provenance, Question, Sample
from tilth.core.reworded import Likeness
from tilth.eval.forms import check_forms
from tilth.eval.general import PARTS, general_questions, is_general
from tilth.llm.embedding import embed

QUESTIONS = general_questions()
CHOICES = [question for question in QUESTIONS if question.options]
STARTER = Path(__file__).parents[2] / "taxonomy/starter"
SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="r", teacher="t")
SAYS_NOTHING = ("", " \n", "I am an AI assistant and I am happy to help.", "I do not know.", "Sure! Here is my answer:")


def is_right(question: Question, answer: str) -> bool:
    match question.scoring:
        case "form":
            return not check_forms(answer, question.forms)
        case "choice":
            index = chosen(answer, question.options)
            return index is not None and question.options[index] == question.answers[0]
        case _:
            return is_correct(answer, question.answers)


def likes(likeness: Likeness | None = None) -> list[tuple[str, str]]:
    """Pairs of questions of which the first stands in the second."""
    made = [Sample.new("test", question.question, question.answers[0], SOURCE) for question in QUESTIONS]
    asked = {sample.id: sample.question for sample in made} | {item.id: item.question for item in QUESTIONS}
    pairs = [(asked[leak.question_id], asked[leak.sample_id]) for leak in find_leaks(QUESTIONS, made, likeness)]
    return [(one, other) for one, other in pairs if one != other]


def test_its_parts_are_of_one_size():
    counts = Counter(question.leaf for question in QUESTIONS)
    assert list(counts) == [f"general/{part}" for part in PARTS]
    assert 220 <= len(QUESTIONS) <= 260
    assert all(55 <= count <= 70 for count in counts.values())
    assert all(is_general(leaf) for leaf in counts)
    assert not is_general("knowledge/general/arithmetic")


def test_each_question_stands_once():
    assert len({question.id for question in QUESTIONS}) == len(QUESTIONS)
    assert len({normalise(question.question) for question in QUESTIONS}) == len(QUESTIONS)


def test_no_question_is_a_near_copy_of_another():
    assert likes() == []


@pytest.mark.slow
def test_no_question_is_another_one_reworded():
    assert likes(Likeness(embed, 0.9)) == []


def test_the_accepted_answers_are_right():
    for question in QUESTIONS:
        accepted = question.answers if question.scoring == "match" else question.answers[:1]
        assert [answer for answer in accepted if not is_right(question, answer)] == [], question.question


def test_empty_talk_and_echoes_are_wrong():
    for question in QUESTIONS:
        echoes = (question.question, question.asked, question.question.lower(), question.question.upper())
        assert [answer for answer in (*SAYS_NOTHING, *echoes) if is_right(question, answer)] == [], question.question


def test_no_answer_can_be_had_by_answering_all_alike():
    answers = Counter(
        normalise(question.answers[0]) for question in QUESTIONS if question.scoring in {"match", "choice"}
    )
    assert answers.most_common(1)[0][1] <= 6


def test_choices_hold_the_reference_once_and_anywhere():
    places = Counter(question.options.index(question.answers[0]) for question in CHOICES)
    assert all(question.options.count(question.answers[0]) == 1 for question in CHOICES)
    assert all(len(set(question.options)) == 4 for question in CHOICES)
    assert sorted(places) == [0, 1, 2, 3]
    assert max(places.values()) - min(places.values()) <= 1


def test_wishes_to_decline_and_to_grant_are_as_many():
    counts = Counter(question.forms[0] for question in QUESTIONS if question.leaf == "general/refusals")
    assert abs(counts["refuses"] - counts["answers"]) <= 1
    assert counts.total() == counts["refuses"] + counts["answers"]


def test_nothing_of_it_stands_in_the_starter_taxonomy():
    texts = [path.read_text(encoding="utf-8") for path in STARTER.rglob("*.*") if path.suffix in {".yaml", ".md"}]
    assert len(texts) == 6
    assert find_leaks(QUESTIONS, [Sample.new("document", "", text, SOURCE) for text in texts]) == []
