"""Tasks and solutions have the form that a person's have, and lack nothing that it takes to solve them."""

from __future__ import annotations

import pytest
from tilth.core.records import Provenance, Sample
from tilth.sdg import filters

SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="g", teacher="t")
ODD = [
    "Which word is the odd one out?\nA. trivial\nB. important\nC. small",
    "Which does not belong? A. index B. glossary C. book",
    "Which word is the odd one out?\n1) hate\n2) liking\n3) fondness",
]
SCENARIOS = [
    'Scenario: "Ann left the key by the door and went out." Question: Is it there?',
    'Scenario: "In the night the wind took Ben\'s hat away." Question: Does he know?',
    'Scenario: "Nobody has told Carla about the new bridge." Question: Which way will she go?',
]


def dropped(check: filters.Filter, question: str = "", answer: str = "") -> filters.Drop | None:
    return check(Sample.new("skill", question, answer, SOURCE))


@pytest.mark.parametrize(
    ("task", "score"),
    [
        ("Which word is the odd one out? Think of a seamstress who mends costumes.", "options"),
        ("Which word is the odd one out, e.g. of three? A. red", "options"),
        ("Which is the odd one out? B. red C. green D. blue", "options"),
    ],
)
def test_where_all_seeds_have_options_a_new_task_has_some(task: str, score: str) -> None:
    assert dropped(filters.task_form_of(ODD), task) == filters.Drop("not_the_form_of_the_seeds", score)


@pytest.mark.parametrize("task", ["Which is odd?\na.Letter\nb.Word\nc.Hat", "Which is odd? 1.oak 2. elm 3.cat"])
def test_options_stand_on_one_line_or_on_several(task: str) -> None:
    assert dropped(filters.task_form_of(ODD), task) is None


def test_two_options_are_not_one() -> None:
    drop = dropped(filters.task_form_of(ODD), "Which is the odd one out?\nA. dislike\nB. hat\nC. Dislike.")
    assert drop == filters.Drop("repeated_option", "dislike")


def test_a_task_with_the_options_of_a_seed_is_that_one() -> None:
    drop = dropped(filters.other_options(ODD), "A trader sells:\n1. book\n2. index\n3. glossary.\nWhich is it not?")
    assert drop == filters.Drop("copy_of_seed", "options")
    assert dropped(filters.other_options(ODD), "Which is odd? 1. index 2. glossary 3. list") is None
    assert dropped(filters.other_options(["Say it.", "Do it."]), "Which?") is None


def test_labels_and_length_of_the_seeds_are_wanted() -> None:
    check = filters.task_form_of(SCENARIOS)
    assert dropped(check, "What does Sarah assume about her shoes?") == filters.Drop(
        "not_the_form_of_the_seeds", "Question"
    )
    assert dropped(check, "Scenario: it rains. Question: why?") == filters.Drop("not_the_form_of_the_seeds", "5 words")
    assert dropped(check, 'Scenario: "Mia left her bicycle by the church." Question: Where is it?') is None


@pytest.mark.parametrize(
    ("task", "missing"),
    [
        ("Give a few words about football.", "rhym"),
        ("Paint a picture of a fish.", "rhym word"),
        ("Name five words that rhyme with house.", ""),
        ("Which word of these rhymes with it: cat, hat?", ""),
    ],
)
def test_a_task_has_most_of_the_words_that_all_seeds_share(task: str, missing: str) -> None:
    seeds = ["Give few rhyming words for cool.", "What are 5 words that rhyme with candy?", "Words rhyming with tree?"]
    expected = filters.Drop("off_skill", missing) if missing else None
    assert dropped(filters.task_form_of(seeds), task) == expected
    assert dropped(filters.task_form_of(["Say it.", "Go there now.", "Name a bird."]), task) is None


def test_of_two_seeds_nothing_is_known() -> None:
    assert dropped(filters.task_form_of(ODD[:2]), "Which?") is None
    assert dropped(filters.form_of(["- a", "- b"]), answer="a") is None


@pytest.mark.parametrize(
    ("task", "pointer"),
    [
        ("Arrange the words given below in a meaningful order for a tax adviser.", "given below"),
        ("What is the best order for the words below?", "words below"),
        ("Arrange the following words in an order that shows a farmer's plan.", "the following"),
    ],
)
def test_what_a_task_points_at_is_there(task: str, pointer: str) -> None:
    assert dropped(filters.shows_what_it_names, task) == filters.Drop("points_to_nothing", pointer)


@pytest.mark.parametrize(
    "task",
    [
        "Put the following words in order: crime, police, judge",
        "Arrange the words given below. 1.Police 2. Crime",
        "Rewrite the following sentence in the passive. The cat eats the mouse.",
        'Translate the following into French: "good morning"',
        "What happens to water below its freezing point?",
        "We came home on the following day. Why?",
    ],
)
def test_what_is_there_or_not_pointed_at_is_kept(task: str) -> None:
    assert dropped(filters.shows_what_it_names, task) is None


def test_what_the_teacher_was_told_is_no_task() -> None:
    check = filters.no_instructions("The person decides only the occasion and the tone: what is true stays true.")
    drop = dropped(check, "Name a bird. The person decides only the occasion, and the tone is yours.")
    assert drop == filters.Drop("repeats_its_prompt", "the person decides only the occasion and the")
    assert dropped(check, "The person decides only the occasion of a poem about a heron.") is None


def test_what_the_teacher_was_shown_is_no_answer_unless_the_passage_says_it_too() -> None:
    shown = 'A line would be "- Arches: Karsten Bridge has nine of them, of red granite."'
    answer = "- Arches: Karsten Bridge has nine of them, of red granite.\n- Contest: in October"
    drop = dropped(filters.no_instructions(shown), answer=answer)
    assert drop == filters.Drop("repeats_its_prompt", "arches karsten bridge has nine of them of")
    assert dropped(filters.no_instructions(shown, evidence=answer), answer=answer) is None


@pytest.mark.parametrize(
    ("answer", "kept"),
    [("- one\n- two", True), ("- one", True), ("one, two", False), ("one\ntwo", False), ("- a " + "word " * 60, False)],
)
def test_where_every_solution_is_a_list_a_new_one_is(answer: str, kept: bool) -> None:
    seeds = ["- salt\n- oil", "- bread", "* flour\n* eggs\n* milk"]
    assert (dropped(filters.form_of(seeds), answer=answer) is None) is kept


def test_a_solution_is_not_its_context_unless_a_seed_s_is() -> None:
    context = "The stove cooks food."
    seeds = [("The master database.", "The primary database.")]
    drop = dropped(filters.changes_its_context(context, seeds), answer="the stove cooks food")
    assert drop == filters.Drop("repeats_its_context")
    assert dropped(filters.changes_its_context(context, seeds), answer="The hob cooks food.") is None
    assert dropped(filters.changes_its_context(context, [("A.", "a")]), answer=context) is None
    assert dropped(filters.changes_its_context("", seeds), answer="") is None
