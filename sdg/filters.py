"""Filters: a filter maps a sample to None (keep) or to a `Drop`, a reason with its score. Rejects are saved, not lost.

The ones here cost no call and run before the judge. What they compare a sample with is bound when they are made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..core.records import Question, Reject, Sample
from .words import content_words, similarity, stems, words

Bounds = tuple[int, int]
"""The fewest and the most words, both allowed."""


class Drop(NamedTuple):
    """Why a sample is dropped."""

    reason: str
    score: str = ""


Filter = Callable[[Sample], Drop | None]


def first_drop(sample: Sample, filters: Sequence[Filter]) -> Drop | None:
    """What the first filter that does not keep the sample says; later ones are not asked."""
    return next((drop for keep_or_drop in filters if (drop := keep_or_drop(sample))), None)


# Form ----------------------------------------------------------------------------------------------------------------

_IMPERATIVE_WORDS = """
    calculate choose classify compare complete compute convert define describe explain fill find give identify list
    mention name outline provide rewrite say show specify state summarise summarize tell translate write
"""
_IMPERATIVES = frozenset(_IMPERATIVE_WORDS.split())


def question_length(bounds: Bounds) -> Filter:
    """Drop a question with too few or too many words."""
    return lambda sample: _outside("question_length", sample.question, bounds)


def answer_length(bounds: Bounds) -> Filter:
    """Drop an answer with too few or too many words."""
    return lambda sample: _outside("answer_length", sample.answer, bounds)


def _outside(reason: str, text: str, bounds: Bounds) -> Drop | None:
    count = len(words(text))
    return None if bounds[0] <= count <= bounds[1] else Drop(reason, str(count))


def is_question(sample: Sample) -> Drop | None:
    """Drop what neither ends in a question mark nor begins with an instruction ("Name the ...")."""
    opening = words(sample.question)[:1]
    asks = sample.question.rstrip().endswith(("?", "\uff1f")) or (opening and opening[0] in _IMPERATIVES)
    return None if asks else Drop("not_a_question")


def hides_answer(sample: Sample) -> Drop | None:
    """Drop a question in which its own answer stands, word for word."""
    question, answer = words(sample.question), [word for word in words(sample.answer) if word not in {"a", "an", "the"}]
    starts = range(len(question) - len(answer) + 1)
    stands = bool(answer) and any(question[start : start + len(answer)] == answer for start in starts)
    return Drop("answer_in_question") if stands else None


# Content -------------------------------------------------------------------------------------------------------------


def names_subject(title: str) -> Filter:
    """Drop a question without any word of the title: nobody can tell what it asks about."""
    subject = frozenset(stems(content_words(title)))

    def names_it(sample: Sample) -> Drop | None:
        named = not subject or not subject.isdisjoint(stems(content_words(sample.question)))
        return None if named else Drop("subject_not_named")

    return names_it


def shares_a_word(name: str, text: str) -> bool:
    """Whether a text uses any content word of a name."""
    return not frozenset(stems(content_words(name))).isdisjoint(stems(words(text)))


def grounded(evidence: str, share: float) -> Filter:
    """Drop an answer with a number that is not in the evidence, or with fewer than `share` of its other words in it."""
    return lambda sample: unsupported(sample.answer, evidence, share)


def unsupported(text: str, evidence: str, share: float) -> Drop | None:
    """What is wrong with a text that the evidence should support; None where nothing is."""
    known = frozenset(words(evidence))
    for word in words(text):
        if word[0].isdigit() and word not in known:
            return Drop("number_not_in_source", word)
    wanted, there = stems(content_words(text)), frozenset(stems(known))
    supported = sum(stem in there for stem in wanted) / len(wanted) if wanted else 0.0
    return None if supported >= share else Drop("not_grounded", f"{supported:.2f}")


# Copies --------------------------------------------------------------------------------------------------------------

_HELD_OUT_SIMILARITY = 0.8
_WORDS_PER_MISSING = 8
_WORDS_PER_EXTRA = 3
"""A near copy may lack one content word of the question in so many, and have another one put in for so many."""


def not_held_out(questions: Sequence[Question]) -> Filter:
    """Drop a sample with a copy or near copy of a held-out question in any of its turns.

    A near copy has word pairs at least 0.8 alike, or the question's content words (its question word too), endings
    aside, close together in whatever order.
    """
    held_out = [(question, frozenset(_content_stems(question.question))) for question in questions]

    def is_new(sample: Sample) -> Drop | None:
        turns = [(message.content, _content_stems(message.content)) for message in sample.messages]
        for question, wanted in held_out:
            for text, found in turns:
                score = max(similarity(question.question, text), _together(wanted, found))
                if score >= _HELD_OUT_SIMILARITY:
                    return Drop("held_out_copy", f"{score:.2f} {question.id}")
        return None

    return is_new


def _content_stems(text: str) -> list[str]:
    return stems("what" if word == "which" else word for word in content_words(text))


def _together(wanted: frozenset[str], found: Sequence[str]) -> float:
    """The share of the wanted stems that stand close together; 0 where too many are missing to be a near copy."""
    reach = len(wanted) + len(wanted) // _WORDS_PER_EXTRA
    windows = (found[place : place + reach] for place, stem in enumerate(found) if stem in wanted)
    most = max((len(wanted.intersection(window)) for window in windows), default=0)
    needed = max(2, len(wanted) - len(wanted) // _WORDS_PER_MISSING)
    return most / len(wanted) if most >= needed else 0.0


def not_like(questions: Iterable[str], threshold: float) -> Filter:
    """Drop a question that is nearly one of these (the seeds that it was to vary)."""
    known = list(questions)

    def is_new(sample: Sample) -> Drop | None:
        score = max((similarity(question, sample.question) for question in known), default=0.0)
        return Drop("copy_of_seed", f"{score:.2f}") if score >= threshold else None

    return is_new


def without_duplicates(samples: Iterable[Sample], threshold: float) -> tuple[list[Sample], list[Reject]]:
    """Keep the first of every group of samples of one kind that ask the same.

    The same: equal questions (a second answer to one question would contradict the first), or equal answers and word
    pairs of the questions alike to `threshold` or more. What is kept follows from the order of `samples` alone.
    """
    kept: list[Sample] = []
    rejects: list[Reject] = []
    questions: set[tuple[str, ...]] = set()
    by_answer: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for sample in samples:
        question, answer = (sample.kind, *words(sample.question)), (sample.kind, *words(sample.answer))
        score = max((similarity(other, sample.question) for other in by_answer[answer]), default=0.0)
        if question in questions:
            rejects.append(Reject(sample=sample, step="duplicates", reason="same_question"))
        elif score >= threshold:
            rejects.append(Reject(sample=sample, step="duplicates", reason="near_duplicate", score=f"{score:.2f}"))
        else:
            kept.append(sample)
            questions.add(question)
            by_answer[answer].append(sample.question)
    return kept, rejects
