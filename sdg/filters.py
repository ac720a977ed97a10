"""Filters: a filter maps a sample to None (keep) or to a `Drop`, a reason with its score. Rejects are saved, not lost.

The ones here cost no call and run before the judge. What they compare a sample with is bound when they are made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..core.held_out import find_leaks
from ..core.normalise import normalise
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


def self_contained(question: str, subject: str) -> str:
    """The question, led in by its subject unless it holds every word of it: nobody else could tell what it is about."""
    wanted = frozenset(stems(content_words(subject)))
    if wanted <= frozenset(stems(content_words(question))):
        return question
    name = subject[:1].lower() + subject[1:] if subject.lower().startswith("the ") else subject
    return f"About {name}: {question}"


def grounded(evidence: str, share: float) -> Filter:
    """Drop an answer with a number that is not in the evidence, or with fewer than `share` of its other words in it."""
    known = frozenset(words(evidence))
    there = frozenset(stems(known))

    def is_supported(sample: Sample) -> Drop | None:
        for word in words(sample.answer):
            if word[0].isdigit() and word not in known:
                return Drop("number_not_in_source", word)
        wanted = stems(content_words(sample.answer))
        supported = sum(stem in there for stem in wanted) / len(wanted) if wanted else 0.0
        return None if supported >= share else Drop("not_grounded", f"{supported:.2f}")

    return is_supported


_LITTLE_WORDS = "in on at of from to by with for it its is was were are be been and only very about"
_LITTLE = frozenset(_LITTLE_WORDS.split())
_DENIALS = frozenset(["not", "no", "never", "none"])


def same_answer(answer: str, other: str) -> bool:
    """Whether one answer's words hold the other's, or half of all are in both; "nine" is 9, endings do not count."""
    one, two = (frozenset(stems(set(normalise(text).split()) - _LITTLE)) for text in (answer, other))
    if one.isdisjoint(_DENIALS) != two.isdisjoint(_DENIALS):
        return False
    shared = len(one & two)
    return shared > 0 and (shared == min(len(one), len(two)) or 2 * shared >= len(one | two))


# Copies --------------------------------------------------------------------------------------------------------------


def not_held_out(questions: Sequence[Question]) -> Filter:
    """Drop a sample with a copy or near copy of a held-out question in any turn: what the cycle would refuse."""

    def is_new(sample: Sample) -> Drop | None:
        leaks = find_leaks(questions, [sample]) if questions else []
        return Drop("held_out_copy", f"{leaks[0].kind} of {leaks[0].question_id}") if leaks else None

    return is_new


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
