"""Filters that look at how a pair is put: what teachers really write, and what only looks like it."""

from __future__ import annotations

import pytest
from tilth.core.records import Provenance, Sample
from tilth.sdg import filters

SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="g", teacher="t")


def pair(question: str, answer: str = "amber") -> Sample:
    return Sample.new("knowledge_short", question, answer, SOURCE)


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("According to the passage, who built the tower?", "points_to_text"),
        ("What does the text say about the bell?", "points_to_text"),
        ("Which oil is mentioned in the given text?", "points_to_text"),
        ("What is described in this document?", "points_to_text"),
        ("Based on the context provided, how tall is the tower?", "points_to_text"),
        ("What does the author think of the lamp?", "points_to_text"),
        ("Which of the steps listed above comes first?", "points_to_text"),
        ("What does the table above show?", "points_to_text"),
        ("How tall is it?", "dangling_pronoun"),
        ("When did he leave?", "dangling_pronoun"),
        ("What is the name of this tower?", "dangling_pronoun"),
        ("Which year did they open?", "dangling_pronoun"),
        ("What is the text describing Swifties?", "points_to_text"),
        ("What is the name of the text about Swifties?", "points_to_text"),
    ],
)
def test_a_question_that_needs_its_text_is_dropped(question: str, reason: str) -> None:
    drop = filters.stands_alone(pair(question))
    assert drop is not None
    assert drop.reason == reason


@pytest.mark.parametrize(
    "question",
    [
        "How tall is the tower of the Velmora Lighthouse?",
        "According to the text of the treaty of Orsk, who owns the harbour?",
        "Who is the author of Winter Ferries?",
        "What does the author of Winter Ferries do for a living?",
        "Which of the following statements about the tower is true?",
        "In the context of sailing, what is a knot?",
        "How long does it take to climb the stair?",
        "Why is it bad that the bell cracked?",
        "When the bell cracked, what did the islanders do with it?",
        "About the Velmora Lighthouse: how tall is it?",
        "What did Tobias Renn do before he kept the light?",
        "Name the island and its village.",
        "Who drew the document that made the lighthouse a museum?",
    ],
)
def test_a_question_that_stands_alone_is_kept(question: str) -> None:
    assert filters.stands_alone(pair(question)) is None


QUESTION = "Which oil did the lamp of the lighthouse burn?"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("As an AI language model, I have no view of oils.", "no_answer"),
        ("I'm sorry, but I cannot tell.", "no_answer"),
        ("I\u2019m sorry, but that is not told.", "no_answer"),
        ("Unknown.", "no_answer"),
        ("N/A", "no_answer"),
        ("The passage does not mention the oil.", "no_answer"),
        ("The oil is not explicitly mentioned.", "no_answer"),
        ("Not specified", "no_answer"),
        ("There is no information about the oil.", "no_answer"),
        ("The oil cannot be determined.", "no_answer"),
        ("According to the text, herring oil.", "points_to_text"),
        ("The passage states that it was herring oil.", "points_to_text"),
        ("Which oil did the lamp of the lighthouse burn? Herring oil.", "repeats_question"),
    ],
)
def test_what_is_no_answer_is_dropped(answer: str, reason: str) -> None:
    drop = filters.is_answer(pair(QUESTION, answer))
    assert drop is not None
    assert drop.reason == reason


@pytest.mark.parametrize(
    "answer",
    [
        "Herring oil.",
        "The lamp of the lighthouse burned herring oil.",
        "No oil at all",
        "None of the keepers",
        "An unknown sailor",
        "The document of 1902",
        "He was sorry that he could not stay.",
        "By the text of the treaty",
        "It is not known to burn anything else.",
    ],
)
def test_an_answer_is_kept(answer: str) -> None:
    assert filters.is_answer(pair(QUESTION, answer)) is None


def test_a_short_question_at_the_beginning_of_its_answer_is_no_repetition() -> None:
    assert filters.is_answer(pair("What is slate?", "What is slate is a stone.")) is None


@pytest.mark.parametrize(
    ("answer", "finished"),
    [
        ("The tower is built of slate.", True),
        ('He said: "It is lit."', True),
        ("塔は高い。", True),
        ("It has these parts:\n- a lamp\n- a bell", True),
        ("Use `ring()`", True),
        ("The steps:\n1. climb\n2. light the lamp", True),
        ("The tower is built of slate, and its", False),
        ("The tower is built of slate,", False),
        ("These are its parts:", False),
    ],
)
def test_a_long_answer_is_finished_or_not(answer: str, finished: bool) -> None:
    assert (filters.is_finished(pair(QUESTION, answer)) is None) is finished


@pytest.mark.parametrize(
    "text",
    [
        "herring oil<|im_end|>",
        "Answer: herring oil",
        "**Answer:** herring oil",
        "herring oil\nQuestion: Who?",
        "</answer>",
        "[/INST] oil",
        "first line\\nSecond line",
        "R&amp;D",
        "na\ufffdve",
        "{{ answer }}",
    ],
)
def test_what_a_template_left_behind_is_dropped(text: str) -> None:
    assert filters.no_leftovers("A lamp.")(pair(QUESTION, text)) is not None
    assert filters.no_leftovers("A lamp.")(pair(f"{text}?", "oil")) is not None
    assert filters.no_leftovers(f"In the manual stands: {text}")(pair(QUESTION, text)) is None


@pytest.mark.parametrize("text", ["Q1: 40 lamps", "an answer: none", "a_b <b> 2**3 x | y", "C:\\new\\table", "50 % #1"])
def test_marks_that_belong_to_a_text_are_kept(text: str) -> None:
    assert filters.no_leftovers("")(pair(QUESTION, text)) is None


def test_a_skill_may_have_any_form_but_a_template_s() -> None:
    for answer in ("**Minutes**\n\n# One", "I'm sorry, but I cannot come.", "Answer: 4", "{{ name }}"):
        assert filters.no_chat_tokens(pair("Do it.", answer)) is None
    for answer in ("4<|im_end|>", "<think>4</think>", "As an AI language model, 4", "\ufffd"):
        assert filters.no_chat_tokens(pair("Do it.", answer)) is not None


def test_a_question_in_quotes_is_one() -> None:
    assert filters.is_question(pair('Who is called "the best sleuths?"')) is None


@pytest.mark.parametrize(
    ("question", "on_topic"),
    [
        ("How tall is the tower?", True),
        ("Which bells were rung?", True),
        ("What is the name of it?", True),
        ("What is the capital of France?", False),
        ("Name a famous composer.", False),
        ("About the Velmora Lighthouse: What is the capital of France?", False),
        ("About the Velmora Lighthouse: Who drew its plans?", True),
        ("Who drew the plans of the lighthouse?", True),
    ],
)
def test_a_question_is_about_its_passage_or_another_thing(question: str, on_topic: bool) -> None:
    drop = filters.on_topic("The Velmora Lighthouse\nIts tower has a bell.")(pair(question))
    assert (drop is None) is on_topic
