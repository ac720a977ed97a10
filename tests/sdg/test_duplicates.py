from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tilth.core.records import Provenance, Sample
from tilth.sdg.filters import Duplicates, duplicates, without_duplicates
from tilth.sdg.words import similarity, words

SOURCE = Provenance(leaf="l", leaf_fingerprint="f", commit="c", recipe="r", recipe_fingerprint="g", teacher="t")


def pair(question: str, answer: str = "amber") -> Sample:
    return Sample.new("skill", question, answer, SOURCE)


def compared_with_all(samples: Sequence[Sample], threshold: float) -> list[Sample]:
    """What the module's docstring says, in the slowest way."""
    question, answer = ({each.id: words(getattr(each, part)) for each in samples} for part in ("question", "answer"))
    kept: list[Sample] = []
    for sample in samples:
        same = any(question[other.id] == question[sample.id] for other in kept)
        near = any(
            answer[other.id] == answer[sample.id] and similarity(other.question, sample.question) >= threshold
            for other in kept
        )
        if not same and not near:
            kept.append(sample)
    return kept


@pytest.mark.parametrize("threshold", [0.5, 0.75, 0.8, 0.9, 1.0])
@pytest.mark.slow
def test_the_index_finds_what_comparing_with_all_finds(threshold: float) -> None:
    draw = random.Random(threshold)
    questions = [" ".join(draw.choices("abcdefghijkl", k=draw.randint(1, 9))) for _ in range(120)]
    for number in range(150):  # forms of one question, in which a word or two differ
        form = f"tell me which of the {number % 20} lamps of the tower by the sea was lit first".split()
        form[draw.randrange(len(form))] = draw.choice("uvwxyz")
        questions.append(" ".join(form))
    samples = [pair(question, draw.choice("xy")) for question in questions]
    kept, rejects = without_duplicates(samples, threshold)
    assert kept == compared_with_all(samples, threshold)
    assert len(kept) + len(rejects) == len(samples)
    assert len(kept) < len(samples)


@given(st.lists(st.text("ab ", max_size=9), max_size=90), st.sampled_from([0.5, 0.8, 1.0]))
def test_any_texts_are_told_apart_as_by_comparing_with_all(texts: list[str], threshold: float) -> None:
    samples = [pair(text) for text in texts]
    assert without_duplicates(samples, threshold)[0] == compared_with_all(samples, threshold)


def test_a_long_question_with_another_word_or_two_is_a_copy_and_another_is_not() -> None:
    draw = random.Random(1)
    text = draw.choices([f"word{number}" for number in range(2000)], k=300)
    edited = [*text[:100], "other", *text[101:200], "else", *text[201:]]
    others = [draw.choices([f"word{number}" for number in range(2000)], k=300) for _ in range(100)]
    samples = [pair(" ".join(each)) for each in (*others, text, edited)]
    kept, [reject] = without_duplicates(samples, 0.8)
    assert kept == samples[:-1]
    assert (reject.sample, reject.reason) == (samples[-1], "near_duplicate")


def test_a_lookup_changes_nothing_and_what_was_added_counts() -> None:
    known = Duplicates(0.8)
    first, again = pair("Which lamp burns in the tower?"), pair("Which lamp burns in the tower", "red")
    assert known.drop(first) is None
    assert known.drop(first) is None
    known.add(first)
    assert known.drop(again) == ("same_question", "")
    assert known.drop(pair("And which lamp burns in the tower?")) == ("near_duplicate", "0.83")
    assert known.drop(Sample.new("knowledge_long", first.question, first.answer, SOURCE)) is None


def test_a_template_that_all_share_makes_no_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be quadratic: questions with one answer that differ in one rare word alone."""
    known = Duplicates(0.9)
    for number in range(500):
        known.add(pair(f"What is the mood of the review with number {number} of the list?"))
    compared = 0

    def counted(one: frozenset[int], two: frozenset[int]) -> float:
        nonlocal compared
        compared += 1
        return len(one & two) / len(one | two)

    monkeypatch.setattr(duplicates, "_jaccard", counted)
    assert known.drop(pair("What is the mood of the review with number 777 of the list?")) is None
    assert known.drop(pair("And what is the mood of the review with number 42 of the list?")) is not None
    assert compared < 10
