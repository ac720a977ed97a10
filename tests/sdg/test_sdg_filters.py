from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tilth.core.records import Provenance, Question, Sample
from tilth.core.reworded import Likeness
from tilth.sdg import filters
from tilth.sdg.filters import Filter
from tilth.sdg.words import content_words, similarity, words

SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="g", teacher="t")
FACT = "The light of the Velmora Lighthouse is amber, and it flashes once every 9 seconds over Hesk's harbour."
HELD_OUT = Question.new("l", "Which architect drew the plans of the Velmora Lighthouse?", ("Ilse Quandt",))


def pair(question: str, answer: str = "amber") -> Sample:
    return Sample.new("knowledge_short", question, answer, SOURCE)


CASES: list[tuple[Filter, Sample, Sample, str]] = [
    (filters.question_length((3, 5)), pair("What is amber here?"), pair("What?"), "question_length"),
    (filters.question_length((3, 5)), pair("one two three"), pair("one two three four five six"), "question_length"),
    (filters.answer_length((1, 2)), pair("?", "dark amber"), pair("?", ""), "answer_length"),
    (filters.is_question, pair("What colour is it? "), pair("The light is amber."), "not_a_question"),
    (
        filters.is_question,
        pair("\u0645\u062a\u0649 \u0628\u0646\u064a\u062a\u061f\u200f"),
        pair("\u0645\u062a\u0649 \u0628\u0646\u064a\u062a;"),
        "not_a_question",
    ),
    (
        filters.is_question,
        pair("\u03a0\u03cc\u03c4\u03b5;"),
        pair("Was hei\u00dft \u201eFarn\u201c"),
        "not_a_question",
    ),
    (filters.is_question, pair("Was hei\u00dft \u201eFarn?\u201c"), pair("Farn;"), "not_a_question"),
    (filters.grounded("The lamp was lit in May.", 0.5), pair("?", "May"), pair("?", "Will"), "not_grounded"),
    (filters.is_question, pair("Name the colour of the light."), pair("Naming the colour."), "not_a_question"),
    (
        filters.hides_answer,
        pair("What colour is the light?"),
        pair("Is the light Amber, or not?"),
        "answer_in_question",
    ),
    (
        filters.hides_answer,
        pair("Is it an ambergris lamp?"),
        pair("Is it the amber?", "an amber"),
        "answer_in_question",
    ),
    (filters.grounded(FACT, 1.0), pair("?", "Every 9 seconds"), pair("?", "Every 12 seconds"), "number_not_in_source"),
    (
        filters.grounded("It weighs twenty-six tons, or 26,000 kg.", 1.0),
        pair("?", "26 tons, 26000 kg"),
        pair("?", "20 tons"),
        "number_not_in_source",
    ),
    (filters.grounded(FACT, 1.0), pair("?", "the light flashes"), pair("?", "a red light"), "not_grounded"),
    (filters.grounded(FACT, 1.0), pair("?", "Hesk"), pair("?", "Yes"), "not_grounded"),
    (filters.grounded(FACT, 0.5), pair("?", "red light"), pair("?", "red lamp light"), "not_grounded"),
    (filters.grounded(FACT, 0.0), pair("?", "Something else entirely."), pair("?", "In 1874."), "number_not_in_source"),
    (
        filters.not_like(["Say alpha backwards."], 0.8),
        pair("Say beta backwards."),
        pair("say ALPHA backwards"),
        "copy_of_seed",
    ),
]


@pytest.mark.parametrize(("keep_or_drop", "kept", "dropped", "reason"), CASES)
def test_a_filter_keeps_the_one_and_drops_the_other(
    keep_or_drop: Filter, kept: Sample, dropped: Sample, reason: str
) -> None:
    assert keep_or_drop(kept) is None
    drop = keep_or_drop(dropped)
    assert drop is not None
    assert drop.reason == reason


@pytest.mark.parametrize(
    ("question", "subject", "led_in"),
    [
        ("What colour is its light?", "Velmora Lighthouse", "About Velmora Lighthouse: What colour is its light?"),
        ("What colour is its light?", "The Velmora", "About the Velmora: What colour is its light?"),
        ("Is the lighthouse amber?", "Velmora Lighthouse", "About Velmora Lighthouse: Is the lighthouse amber?"),
        ("Are VELMORA's lighthouses amber?", "The Velmora Lighthouse", "Are VELMORA's lighthouses amber?"),
        ("Is it?", "The", "Is it?"),
    ],
)
def test_a_question_is_led_in_by_a_subject_that_it_does_not_name(question: str, subject: str, led_in: str) -> None:
    assert filters.self_contained(question, subject) == led_in
    assert filters.self_contained(led_in, subject) == led_in


def test_the_first_filter_that_drops_speaks() -> None:
    checks = [filters.question_length((3, 40)), filters.is_question, filters.hides_answer]
    drop = filters.first_drop(pair("No question this is."), checks)
    assert drop == ("not_a_question", "")
    assert filters.first_drop(pair("What colour has it?"), checks) is None


def test_a_reworded_held_out_question_is_dropped_with_its_cosine() -> None:
    keep_or_drop = filters.not_held_out([HELD_OUT], Likeness(lambda _: (0.6, 0.8), 0.95))
    reworded = pair("Who planned the lighthouse of Velmora?", HELD_OUT.answers[0])
    assert keep_or_drop(reworded) == ("held_out_copy", f"reworded (1.000) of {HELD_OUT.id}")
    assert filters.not_held_out([HELD_OUT])(reworded) is None


@pytest.mark.parametrize(
    "question",
    [
        HELD_OUT.question,
        "which ARCHITECT drew the plans of the velmora lighthouse",
        "What architect drew the plans of the Velmora Lighthouse?",
        "Of the Velmora Lighthouse, which architect drew the plans?",
        "Tell me: which architect drew plans for the Velmora Lighthouse?",
        f"Here is a text about a tower.\n\n{HELD_OUT.question}",
    ],
)
def test_copies_of_a_held_out_question_are_dropped(question: str) -> None:
    drop = filters.not_held_out([HELD_OUT])(pair(question))
    assert drop is not None
    assert drop.reason == "held_out_copy"
    assert HELD_OUT.id in drop.score


@pytest.mark.parametrize(
    "question",
    [
        "Who designed the Velmora Lighthouse?",
        "When did the architect of the Velmora Lighthouse die?",
        "Which keeper of the Velmora Lighthouse was a baker?",
    ],
)
def test_asking_for_the_same_subject_is_no_copy(question: str) -> None:
    assert filters.not_held_out([HELD_OUT])(pair(question, "Ilse Quandt")) is None


def test_a_held_out_question_in_an_answer_is_dropped() -> None:
    assert filters.not_held_out([HELD_OUT])(pair("Write a question.", HELD_OUT.question)) is not None


def test_duplicates_the_first_stays() -> None:
    first = pair("What colour is the light of the Velmora Lighthouse?")
    same_question = pair("what colour is the light of the Velmora lighthouse", "red")
    near = pair("And what colour is the light of the Velmora Lighthouse?", "Amber.")
    other_answer = pair("And what colour is the light of the Velmora Lighthouse?", "yellow")
    other_words = pair("Name the colour in which Velmora shines.")
    long = Sample.new("knowledge_long", first.question, first.answer, SOURCE)
    kept, rejects = filters.without_duplicates([first, same_question, near, other_answer, other_words, long], 0.8)
    assert kept == [first, other_answer, other_words, long]
    assert [(reject.sample, reject.reason) for reject in rejects] == [
        (same_question, "same_question"),
        (near, "near_duplicate"),
    ]
    assert rejects[1].score == "0.89"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Compute 12 + 4.", "Compute 12 - 4."),
        ("Compute 12 * 4.", "Compute 12 / 4."),
        ("What is C++?", "What is C?"),
        ("Is x > 5?", "Is x < 5?"),
        ("What does \U0001f622 mean?", "What does \U0001f600 mean?"),
        ("\u0926\u093f\u0928 \u0915\u094d\u092f\u093e?", "\u0926\u093e\u0928 \u0915\u094d\u092f\u093e?"),
    ],
)
def test_what_one_sign_tells_apart_is_no_duplicate(one: str, other: str) -> None:
    assert filters.without_duplicates([pair(one), pair(other)], 0.8) == ([pair(one), pair(other)], [])


def test_words_are_compared_without_case_marks_and_forms() -> None:
    assert words("The Keeper\u2019s 1,200 \uff11\uff12 steps\u2014up!") == [
        "the",
        "keeper's",
        "1,200",
        "12",
        "steps",
        "up",
    ]
    assert words("灯台は高い") == ["灯", "台", "は", "高", "い"]
    assert content_words("The keeper's lamp was lit") == ["keeper", "lamp", "lit"]


@given(st.text(), st.text())
def test_similarity_is_a_symmetric_share(first: str, second: str) -> None:
    assert similarity(first, second) == similarity(second, first)
    assert 0.0 <= similarity(first, second) <= 1.0
    assert similarity(first, first) == 1.0


@given(st.text(min_size=1), st.text())
def test_whatever_a_model_says_filters_say_keep_or_drop(question: str, answer: str) -> None:
    checks = [filters.is_question, filters.hides_answer, filters.grounded(FACT, 1.0), filters.not_held_out([HELD_OUT])]
    drops = [drop for check in checks if (drop := check(pair(question, answer))) is not None]
    assert all(drop.reason for drop in drops)


@pytest.mark.parametrize(
    ("answer", "other", "same"),
    [
        ("On Tarrow Island.", "Tarrow Island", True),
        ("Once every nine seconds", "9 seconds", True),
        ("The tower is 37 metres tall.", "37 metres", True),
        ("It was lit in 1874, by hand", "in 1874", True),
        ("Green slate", "grey slate", False),
        ("Old Marta", "unknown", False),
        ("The bronze bell", "Old Marta", False),
        ("Amber", "", False),
        ("edible", "not edible", False),
        ("May 1921", "June 1921", False),
        ("Yes", "yes.", True),
        ("In May", "May", True),
        ("50 metres high", "60 metres high", False),
        ("12 March 1874", "14 March 1874", False),
        ("12 March 1874", "in 1874", True),
        ("the 3rd floor window", "the 4th floor window", False),
        ("Ferns cannot flower", "Ferns can flower", False),
    ],
)
def test_two_answers_tell_the_same_or_not(answer: str, other: str, same: bool) -> None:
    assert filters.same_answer(answer, other) is same
    assert filters.same_answer(other, answer) is same


EVIDENCE = "The zellophar has fourteen tubes, which hang in a frame of pear wood. It weighs 23 kilograms."


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("The zellophar weighs 23 kilograms. Its tubes hang in a frame of pear wood.", ""),
        ("- 14 tubes\n- frame: pear wood", ""),
        ("# A famous instrument\nThe zellophar has fourteen tubes.", ""),
        (
            "The zellophar has fourteen tubes. It is a beloved brand of clothing and television.",
            "sentence_not_grounded",
        ),
        ("- A frame of pear wood\n- Popular among young people everywhere", "sentence_not_grounded"),
    ],
)
def test_each_sentence_of_a_text_rests_on_the_passage(text: str, dropped: str) -> None:
    drop = filters.grounded_throughout(EVIDENCE, 0.5)(pair("About it?", text))
    assert (drop.reason if drop else "") == dropped


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("- celebrity\n- fanfare\n" * 9, "0.11"),
        ("Swift sings. Swift writes. Swift sings. Swift sings.", "0.50"),
        ("- rhyme\n- rhyme\n- rhyme", ""),
        ("One bird. Two birds. Three birds. One bird.", ""),
        ("1. positive\n2. negative\n3. positive\n4. positive\n5. negative\n6. positive", ""),
        ("def f(x):\n    if x:\n        return 1\n    if y:\n        return 1\n    return 1", ""),
        ("\u4ed6\u5f88\u597d\u3002" * 30, "0.03"),
    ],
)
def test_a_loop_is_dropped(text: str, score: str) -> None:
    assert filters.repeats_itself(pair("About it?", text)) == (filters.Drop("repeats_itself", score) if score else None)
