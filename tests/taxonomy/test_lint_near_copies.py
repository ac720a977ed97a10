"""Near copies: found among many texts, and only where nearly all words are the same."""

from __future__ import annotations

import random

import pytest
from tilth.taxonomy.lint import lint
from tilth.taxonomy.lint.near_copies import Passage, near_copies, sketch
from tilth.taxonomy.source import WorkingTree

STORY = (
    "The keeper of the northern bridge walks across it every evening, counts the lamps, writes the number into a blue "
    "book and puts the book back under the third stone from the left"
)


def copies(*texts: str | tuple[str, str]) -> list[tuple[int, int]]:
    sketches = [sketch(text) if isinstance(text, str) else sketch(*text) for text in texts]
    passages = [("x", Passage(number, 1, hashes)) for number, hashes in enumerate(sketches)]
    return [(copy.passage.line, copy.first.line) for copy in near_copies(passages)]


@pytest.mark.parametrize(
    "other",
    [
        STORY.upper(),
        f"  {STORY.replace(', ', ' - ')}!\n",
        f"  {STORY.replace(', ', ' — ')}…\n",
        STORY.replace("blue", "green"),
        STORY.replace("every evening", "each evening"),
        STORY + " now",
    ],
)
def test_nearly_the_same_words_are_a_copy(other):
    assert copies(STORY, "Something else entirely, about a mill.", other) == [(2, 0)]


@pytest.mark.parametrize(
    "other",
    [
        STORY[: len(STORY) // 2],
        " ".join(reversed(STORY.split())),
        STORY.replace("book", "ledger").replace("bridge", "mill").replace("lamps", "sacks").replace("stone", "beam"),
    ],
)
def test_other_words_are_no_copy(other):
    assert copies(STORY, other) == []


def test_in_a_short_text_each_word_matters():
    assert copies("Greet Ada. Hello, Ada.", "Greet Bea. Hello, Bea.", "greet ada: hello ada") == [(2, 0)]


def test_the_same_question_about_another_text_is_no_copy():
    assert copies(("Is it sad? Yes.", STORY), ("Is it sad? Yes.", "A joke."), ("Is it sad? Yes.", STORY)) == [(2, 0)]


def test_long_texts_are_told_by_their_ends():
    words = [f"word{number}" for number in range(2000)]
    near, far = list(words), list(words)
    for number in range(0, 2000, 40):
        near[number] = "other"
    for number in range(0, 2000, 4):
        far[number] = "other"
    assert copies(" ".join(words), " ".join(far), " ".join(near)) == [(2, 0)]


@pytest.mark.slow
def test_the_layout_of_a_long_text_does_not_matter():
    words = [f"word{number}" for number in range(300)]
    lines = [" ".join(words[at : at + 5]) for at in range(0, 300, 5)]
    assert copies(" ".join(words), ",\n    ".join(lines), " ".join(reversed(words))) == [(1, 0)]


def test_all_copies_are_found_among_many_texts():
    chance = random.Random(0)
    words = [f"w{number}" for number in range(300)]
    texts = [" ".join(chance.choices(words, k=30)) for _ in range(1000)]
    texts += [" ".join([*text.split()[:15], "new", *text.split()[16:]]) for text in texts]
    assert len(copies(*texts)) > 990
    assert copies(*texts[:1000]) == []


def test_one_finding_tells_all_that_two_leaves_share(repository, skill):
    for name in "ab":
        repository.write(f"compositional_skills/{name}/qna.yaml", {**skill, "version": 1})
    [finding] = lint(WorkingTree(repository.root))
    assert finding.path == "compositional_skills/b/qna.yaml"
    first = "compositional_skills/a/qna.yaml:5"
    what = f"this is nearly the same as {first}, and so are 4 more with others there; change or remove one of the two"
    assert (finding.code, finding.line, finding.message) == ("W209", 5, what)


def test_copies_in_one_leaf_are_told_one_by_one(repository, skill):
    seeds = [
        {"question": STORY, "answer": "Yes"},
        {"question": STORY, "answer": "No"},
        {"question": STORY, "answer": "O"},
    ]
    repository.write("compositional_skills/a/qna.yaml", {**skill, "version": 1, "seed_examples": seeds})
    findings = lint(WorkingTree(repository.root))
    assert [(finding.code, finding.message.split(";")[0]) for finding in findings] == [
        ("W209", "this is nearly the same as line 5")
    ] * 2
