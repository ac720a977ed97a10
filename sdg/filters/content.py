"""Filters of content: what a question is about and what an answer rests on. Endings and function words of English."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...core.normalise import normalise
from ...core.records import Sample
from ..words import content_words, sentences, stems, words
from .drop import Drop, Filter


def self_contained(question: str, subject: str) -> str:
    """The question, led in by its subject unless it holds every word of it: nobody else could tell what it is about."""
    wanted = frozenset(stems(content_words(subject)))
    if wanted <= frozenset(stems(content_words(question))):
        return question
    name = subject[:1].lower() + subject[1:] if subject.lower().startswith("the ") else subject
    return f"About {name}: {question}"


def grounded(evidence: str, share: float) -> Filter:
    """Drop an answer with a number that is not in the evidence, or with fewer than `share` of its other words in it.

    A number may be spelled out in the evidence, or have other separators.
    """
    known = frozenset([*words(evidence), *words(normalise(evidence))])
    there = frozenset(stems(known))

    def is_supported(sample: Sample) -> Drop | None:
        for word in words(sample.answer):
            if word[0].isdigit() and known.isdisjoint([word, normalise(word)]):
                return Drop("number_not_in_source", word)
        supported = _supported(content_words(sample.answer) or words(sample.answer), there)
        return None if supported >= share else Drop("not_grounded", f"{supported:.2f}")

    return is_supported


_FEWEST_WORDS = 3
"""Of a sentence with fewer words that carry meaning nothing is asked: a headline, a single word of a list."""


def grounded_throughout(evidence: str, share: float) -> Filter:
    """Drop a text with a sentence or line that has fewer than `share` of its words from the evidence.

    A line that is made up hides among many that were copied.
    """
    there = frozenset(stems([*words(evidence), *words(normalise(evidence))]))

    def is_supported(sample: Sample) -> Drop | None:
        for said in map(content_words, sentences(sample.answer)):
            if len(said) >= _FEWEST_WORDS and (supported := _supported(said, there)) < share:
                return Drop("sentence_not_grounded", f"{supported:.2f}: {' '.join(said[:6])}")
        return None

    return is_supported


def _supported(said: Sequence[str], there: frozenset[str]) -> float:
    """The share of words that are there, whatever their endings, numbers spelled out or not; 0 of none."""
    found = [stem in there or normalise(word) in there for word, stem in zip(said, stems(said), strict=True)]
    return sum(found) / len(found) if found else 0.0


_ASKING_WORDS = """
    about calculate choose classify color colour compare complete compute convert day define describe explain far fill
    find give heavy high how identify large list long many measure mention much name number often old outline provide
    rewrite say show specify state summarise summarize tall tell time translate what when where which who whom whose why
    wide write year
"""
ASKING = frozenset(_ASKING_WORDS.split())
"""Words of a question that say what is asked for, and nothing of what it is about."""


PRONOUN = re.compile(r"\b(?:he|she|him|his|hers?|they|them|theirs?|its?|this|these|those)\b", re.IGNORECASE)
_LEAD = re.compile(r"\AAbout [^:\n]+: ")


def on_topic(evidence: str) -> Filter:
    """Drop a question without a single word of the evidence: it asks about something else.

    Its lead ("About X: ") does not count, for that was put there; where a pronoun stands for the subject it is kept. Of
    84 hand-written questions, held-out ones in quite other words too, it drops none.
    """
    there = frozenset(stems(content_words(evidence)))

    def is_about(sample: Sample) -> Drop | None:
        question = _LEAD.sub("", sample.question, count=1)
        wanted = stems(word for word in content_words(question) if word not in ASKING)
        is_other = bool(wanted) and there.isdisjoint(wanted) and not PRONOUN.search(question)
        return Drop("off_topic") if is_other else None

    return is_about


_LITTLE_WORDS = "in on at of from to by with for it its is was were are be been being and only very about"
_LITTLE = frozenset(_LITTLE_WORDS.split())
_DENIALS = frozenset(["not", "no", "never", "none", "cannot"])


def same_answer(answer: str, other: str) -> bool:
    """Whether one answer's words hold the other's, or half of all are in both; "nine" is 9, endings do not count.

    Where both have numbers, those of one hold those of the other.
    """
    one, two = (frozenset(stems(set(normalise(text).split()) - _LITTLE)) for text in (answer, other))
    if one.isdisjoint(_DENIALS) != two.isdisjoint(_DENIALS):
        return False
    numbers, others = (frozenset(word for word in each if word.lstrip("-")[:1].isdigit()) for each in (one, two))
    if numbers and others and not (numbers <= others or others <= numbers):
        return False
    shared = len(one & two)
    return shared > 0 and (shared == min(len(one), len(two)) or 2 * shared >= len(one | two))
