from typing import Unpack

import pytest
from tilth.core.held_out import find_leaks
from tilth.core.normalise import QUESTION_CHARACTERS
from tilth.core.records import HowScored, Message, Provenance, Question, Sample

SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="r", teacher="t")
HELD_OUT = Question.new(
    "l", "In which year did the keeper of the Brackwater lighthouse first light the lamp?", ("1874",)
)
SHORT = Question.new("l", "When was the Oru bell cast?", ("1702",))
LONG_TEXT = "The tower stands on grey gneiss above the sound, and boats steer by it in every season. " * 60


def sample(question: str, answer: str = "an answer") -> Sample:
    return Sample.new("knowledge_short", question, answer, SOURCE)


@pytest.mark.parametrize(
    "text",
    [
        HELD_OUT.question,
        HELD_OUT.question.upper(),
        "in which year did keeper of the brackwater lighthouse, first light the lamp",
        f"{LONG_TEXT}\nQ: {HELD_OUT.question}\nA: 1874\n{LONG_TEXT}",
        f"Answer this: “{HELD_OUT.question}” Be short.",
    ],
)
def test_a_copy_is_found(text: str):
    leak = find_leaks([SHORT, HELD_OUT], [sample("Who?"), sample(text)])
    assert [(found.question_id, found.sample_id, found.kind) for found in leak] == [
        (HELD_OUT.id, sample(text).id, "copy")
    ]


def test_a_question_longer_than_any_is_found_by_its_beginning():
    long = Question.new("l", LONG_TEXT * 3, ("yes",))
    assert len(long.question) > QUESTION_CHARACTERS
    assert [found.question_id for found in find_leaks([long], [sample("Who?"), sample(long.question)])] == [long.id]


@pytest.mark.parametrize(
    "text",
    [
        "In what year did the keeper of the Brackwater lighthouse first light its lamp?",
        "In which year did the first keeper of the Brackwater lighthouse light the lamps?",
        "In which year did the old keeper of the lighthouse at Brackwater first light the lamp?",
        "In which year did the keeper of the Brackwater lighthouse first switch on the lamp?",
        f"{LONG_TEXT} In what year did the keeper of Brackwater's lighthouse first light it, the lamp? {LONG_TEXT}",
    ],
)
def test_a_lightly_edited_copy_is_found(text: str):
    assert [leak.kind for leak in find_leaks([HELD_OUT], [sample(text)])] == ["near_copy"]


def test_a_lightly_edited_short_question_is_found():
    (leak,) = find_leaks([SHORT], [sample("When had Oru's bell been cast?")])
    assert (leak.kind, leak.overlap) == ("near_copy", 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "How old is the lamp of Brackwater?",
        "When did Brackwater's light come into use?",
        "What happened in 1874 at the lighthouse?",
        "Who was the keeper of the Brackwater lighthouse?",
        "In which year did the keeper leave?",
        f"{LONG_TEXT} The keeper of the Brackwater lighthouse first lit the lamp in 1874. {LONG_TEXT}",
        "The Oru bell was cast in 1702.",
        "Where was the Oru bell cast?",
        "When was the Oru bell rung?",
        "When does the tide turn? " + LONG_TEXT + " The Oru bell was cast here.",
    ],
)
def test_another_question_about_the_same_is_no_leak(text: str):
    assert find_leaks([HELD_OUT, SHORT], [sample(text)]) == []


def test_every_turn_is_searched():
    turns = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="Make a question."),
        Message(role="assistant", content=SHORT.question),
    )
    planted = Sample(id="s", kind="skill", messages=turns, source=SOURCE)
    assert [(leak.sample_id, leak.kind) for leak in find_leaks([SHORT], [planted])] == [("s", "copy")]


def test_a_copy_outranks_a_near_copy_in_the_same_sample():
    planted = sample("When had the Oru bell been cast?", SHORT.question)
    assert [leak.kind for leak in find_leaks([SHORT], [planted])] == ["copy"]


def test_planted_leaks_among_many():
    held_out = [
        Question.new("l", f"How heavy was item {number} of the salters of Ferren?", ("1",)) for number in range(200)
    ]
    samples = [sample(f"What did the salters of Ferren do with item {number}?") for number in range(500)]
    samples[77] = sample("How heavy was the item 31 of the Ferren salters?")
    samples[400] = sample(held_out[150].question.lower())
    found = [(leak.question_id, leak.sample_id, leak.kind) for leak in find_leaks(held_out, samples)]
    assert found == [(held_out[31].id, samples[77].id, "near_copy"), (held_out[150].id, samples[400].id, "copy")]


@pytest.mark.parametrize(
    ("question", "text"),
    [("Is it?", "Tell me: is it?"), ("塔有多高？", "请问塔有多高？"), ("塔有多高？", "塔有多高？")],  # noqa: RUF001
)
def test_a_copy_without_words_to_index_is_found(question: str, text: str):
    held_out = Question.new("l", question, ("37",))
    assert [leak.kind for leak in find_leaks([held_out], [sample(text)])] == ["copy"]
    assert not find_leaks([held_out], [sample("Something else entirely.")])


LONG = Question.new(
    "l", "How many barrels of salt did the seven pans of Ferren boil in the wet autumn of 1911, all together?", ("640",)
)


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("How many barrels of salt were boiled by the seven pans of Ferren in the autumn of 1911, all together?", True),
        ("How many barrels of salt did the seven pans of Ferren boil in the wet autumn of 1912, all together?", False),
        ("How many barrels of salt did the six pans of Ferren boil in the wet autumn of 1911, all together?", False),
        ("How many barrels of salt did the seven pans of Hallin boil in the wet autumn of 1911, all together?", False),
    ],
)
def test_with_another_name_or_number_it_is_another_question(text: str, leaks: bool):
    assert [leak.kind for leak in find_leaks([LONG], [sample(text)])] == ["near_copy"] * leaks


def test_a_thousand_questions_of_one_form_are_told_apart():
    form = "In the great book of the salters of Ferren, how heavy was the barrel that bears the number {} on its lid?"
    held_out = [Question.new("l", form.format(number), ("1",)) for number in range(1000)]
    (leak,) = find_leaks(held_out, [sample(form.format(77).replace("great", "old"))])
    assert (leak.question_id, leak.kind) == (held_out[77].id, "near_copy")


# Answers alone --------------------------------------------------------------------------------------------------------

POEM = "White breath on the pane, the lamp turns over drift ice: a gull waits for spring."


def asks(leaf: str, answer: str = POEM, **how: Unpack[HowScored]) -> Question:
    return Question.new(leaf, "Write a haiku about a lighthouse in winter.", (answer,), **how)


def says(answer: str, leaf: str, question: str = "Write a poem.") -> Sample:
    return Sample.new("skill", question, answer, SOURCE.model_copy(update={"leaf": leaf}))


def kinds(question: Question, planted: Sample) -> list[str]:
    return [leak.kind for leak in find_leaks([question], [planted])]


@pytest.mark.parametrize("answer", [POEM, POEM.upper(), f"{LONG_TEXT}\n{POEM.replace(',', '')}\n{LONG_TEXT}"])
@pytest.mark.parametrize("leaf", ["compositional_skills/haiku", "general"])
def test_an_answer_that_somebody_composed_leaks_without_its_question(answer: str, leaf: str):
    assert kinds(asks("compositional_skills/haiku", judged=True), says(answer, leaf)) == ["answer"]
    assert kinds(asks("compositional_skills/haiku"), says(answer, leaf)) == ["answer"]


def test_another_answer_of_the_same_form_is_none():
    held_out = "Thank you for offering me a seat on the parish council, but I am afraid that I cannot accept it."
    trained = "Thank you for offering me a seat in the town hall, but I am afraid that I cannot accept it."
    assert kinds(asks("compositional_skills/decline", held_out), says(trained, "compositional_skills/decline")) == []
    assert kinds(asks("compositional_skills/decline", "Blue and green."), says("Blue and green.", "general")) == []


def test_an_answer_in_what_the_user_says_is_none():
    extraction = "lentils, two jars of mustard and a sack of rice"
    planted = says("Nothing.", "compositional_skills/lists", question=f"Bring {extraction}. Who wrote this?")
    assert kinds(asks("compositional_skills/lists", extraction), planted) == []


def test_its_question_before_an_answer_is_the_plainer_leak():
    held_out = asks("compositional_skills/haiku")
    assert kinds(held_out, says(POEM, "general", question=held_out.question)) == ["copy"]


@pytest.mark.parametrize(
    ("answer", "leaf", "found"),
    [
        ("1874", "general", []),
        ("Tobias Renn was its first keeper, and he lit the lamp.", "general", []),
        (f"{POEM} The keeper wipes the glass and reads old letters aloud.", "general", ["answer"]),
        (f"{POEM} The keeper wipes the glass and reads old letters aloud.", "knowledge/other", []),
    ],
)
def test_facts_are_what_knowledge_samples_tell(answer: str, leaf: str, found: list[str]):
    """A long text about them may stand in no other sample word for word."""
    assert kinds(asks("knowledge/lighthouse", answer, judged=True), says(answer, leaf)) == found


def test_neither_options_nor_checked_forms_are_composed():
    assert kinds(Question.new("skills/a", "Which?", (POEM,), (POEM, "Another")), says(POEM, "general")) == []
    assert kinds(asks("skills/a", forms=("lines=1",)), says(POEM, "general")) == []
