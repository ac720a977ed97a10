"""Filters of form: how long question and answer are, and whether they are a question and an answer at all.

The phrases are those of English; of other languages the filters say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...core.normalise import normalise
from ...core.records import Sample
from ..words import LIST_MARK, content_words, sentences, words
from .content import ASKING, PRONOUN
from .drop import Drop, Filter

Bounds = tuple[int, int]
"""The fewest and the most words, both allowed."""

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


_CLOSING = " \n\"')]\u201c\u201d\u2018\u2019\u00bb\u00ab\u200e\u200f\u2066\u2067\u2068\u2069"
_QUESTION_MARKS = ("?", "\uff1f", "\u061f", "\u037e", "\u055e", "\u1367")
_GREEK = re.compile("[\u0370-\u03ff]")
"""Asks with a semicolon."""


def is_question(sample: Sample) -> Drop | None:
    """Drop what neither ends in a question mark nor begins with an instruction ("Name the ...")."""
    opening = words(sample.question)[:1]
    question = sample.question.rstrip(_CLOSING)
    asks = question.endswith(_QUESTION_MARKS) or (question.endswith(";") and _GREEK.search(question))
    return None if asks or (opening and opening[0] in _IMPERATIVES) else Drop("not_a_question")


def hides_answer(sample: Sample) -> Drop | None:
    """Drop a question in which its own answer stands, word for word."""
    question, answer = words(sample.question), [word for word in words(sample.answer) if word not in {"a", "an", "the"}]
    starts = range(len(question) - len(answer) + 1)
    stands = bool(answer) and any(question[start : start + len(answer)] == answer for start in starts)
    return Drop("answer_in_question") if stands else None


# A question that nobody understands without the text -----------------------------------------------------------------

_TEXT = r"(?:text|passage|document|article|paragraph|excerpt|extract|snippet|context)\b(?! (?:of|for|in) )"
_PLACE = r"(?:table|figure|diagram|example|section|chapter|page|list|sentence|information|description|statements?)\b"
_POINTS = re.compile(
    rf"\b(?:according to|based on|as per|from|in|by|does|do|did) (?:the|this|that) (?:\w+ )?{_TEXT}"
    rf"|\b(?:the|this|that) {_TEXT} (?:says?|mentions?|describ\w+|states?|tells?|gives?|explains?|lists?|discuss\w*)\b"
    rf"|\b(?:the|this|that) {_TEXT} about\b"
    rf"|\b(?:name|title|subject|topic|author) of (?:the|this) {_TEXT}"
    rf"|\b(?:the|this) (?:above|preceding|given|provided) (?:{_TEXT}|{_PLACE})|\bthe following {_TEXT}"
    rf"|\bthis {_TEXT}"
    rf"|\b(?:mentioned|described|listed|shown|given|stated|discussed|quoted) (?:above|below|earlier|here)\b"
    rf"|\b(?:the|this) (?:{_TEXT}|{_PLACE}) (?:above|below)\b"
    r"|\b(?:according to|does|did|do) (?:the|this) (?:author|writer|narrator|speaker)\b(?! of )",
    re.IGNORECASE,
)

_EXPLETIVE = re.compile(
    r"\bit\b(?!'s)(?= (?:\w+ ){0,30}(?:to|that|when|if|for)\b| takes?\b| called\b| mean\b)", re.IGNORECASE
)
"""In "How long does it take to ...", "Why is it bad that ..." the word points nowhere."""


def stands_alone(sample: Sample) -> Drop | None:
    """Drop a question that points at a text ("according to the passage"), or with a pronoun for nothing before it.

    For questions about a document only: a task on a text may point at it. Of the 90 hand-written questions of knowledge
    in the two public trees and in the starter taxonomy it drops none.
    """
    if points := _POINTS.search(sample.question):
        return Drop("points_to_text", points[0].lower())
    pronoun = PRONOUN.search(_EXPLETIVE.sub("", sample.question))
    if pronoun and ASKING.issuperset(content_words(sample.question[: pronoun.start()])):
        return Drop("dangling_pronoun", pronoun[0].lower())
    return None


# An answer that is none ----------------------------------------------------------------------------------------------

_SELF = re.compile(r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b", re.IGNORECASE)
_NO_ANSWER = re.compile(
    r"^(?:i'm sorry|i am sorry|sorry,|unfortunately|i (?:cannot|can't|do not|don't|am unable|am not able))\b"
    r"|^(?:unknown|n/?a|none|nothing|no answer|not applicable|undefined|null|no information)\W*$"
    r"|\b(?:text|passage|document|article|context|paragraph|excerpt) (?:does|do|did)(?: not|n't) "
    r"|\b(?:is|are|was|were) not (?:\w+ly )?(?:mentioned|specified|provided|stated|disclosed)\b"
    r"|^not (?:\w+ly )?(?:mentioned|specified|provided|stated|disclosed|given|available|known)\b"
    r"|\bno (?:\w+ )?information (?:is|was|about|on)\b"
    r"|\bcan(?: ?not|'t) be (?:determined|answered|inferred)\b",
    re.IGNORECASE,
)
_FEWEST_REPEATED = 4
"""Words of a question that make an answer its repetition; a shorter one begins many answers."""


def is_answer(sample: Sample) -> Drop | None:
    """Drop an answer that refuses, says that the text does not tell, points at the text, or repeats the question.

    For questions about a document: a skill may be to decline. Of 66 hand-written answers of knowledge it drops none.
    """
    answer = sample.answer.replace("\u2019", "'")
    if said := _SELF.search(answer) or _NO_ANSWER.search(answer):
        return Drop("no_answer", said[0].strip().lower())
    if points := _POINTS.search(answer):
        return Drop("points_to_text", points[0].lower())
    question = normalise(sample.question)
    repeated = len(question.split()) >= _FEWEST_REPEATED and normalise(answer).startswith(question)
    return Drop("repeats_question") if repeated else None


_END = re.compile(
    r"[.!?\u2026\u3002\uff01\uff1f\u061f\u0964\u06d4][\"')\]\u201c\u201d\u2019\u00ab\u00bb\u300d\u300f`*]*$|[`|)\]}]$"
    r"|[\u0e01-\u0edf\u1000-\u109f\u1780-\u17ff]$"  # Thai, Lao, Burmese and Khmer end a sentence by no sign
)


def is_finished(sample: Sample) -> Drop | None:
    """Drop a long answer that stops in the middle of a sentence. The last item of a list needs no full stop."""
    answer = sample.answer.rstrip()
    last = answer.rsplit("\n", 1)[-1]
    return None if _END.search(answer) or LIST_MARK.match(last) else Drop("unfinished", " ".join(last.split()[-3:]))


_FEWEST_SENTENCES, _DISTINCT = 4, 0.7
_LABEL, _LONGEST_CYCLE, _IN_A_ROW = 3, 4, 12
_STOPS = (".", "!", "?", "\u3002", "\uff01", "\uff1f", "\u061f", "\u0964", "\u06d4")


def repeats_itself(sample: Sample) -> Drop | None:
    """Drop an answer of four sentences, or more, of which fewer than seven in ten differ: a loop.

    Lines of one or two words and no stop are none, for lists have labels and code has brackets; where they end in the
    same few, in the same order again and again, they are a loop too.
    """
    parts = sentences(sample.answer)
    said = [tuple(words(part)) for part in parts]
    if len(said) < _FEWEST_SENTENCES:
        return None
    counted = said
    if not _goes_round(said):
        counted = [each for each, part in zip(said, parts, strict=True) if len(each) >= _LABEL or part.endswith(_STOPS)]
    if (distinct := 1 - (len(counted) - len(set(counted))) / len(said)) >= _DISTINCT:
        return None
    return Drop("repeats_itself", f"{distinct:.2f}")


def _goes_round(said: Sequence[tuple[str, ...]]) -> bool:
    last = said[-_IN_A_ROW:]
    lengths = range(1, _LONGEST_CYCLE + 1)
    return len(last) == _IN_A_ROW and any(last[length:] == last[:-length] for length in lengths)


_LEFTOVER = re.compile(
    r"<\|[^<>|]{1,40}\|>|</?(?:think|thinking|answer|question|response|output|context|passage|s)>|\[/?INST\]|\ufffd"
    r"|(?:\A|\n)[^\S\n]*(?:\*\*)?(?:answer|question|response|solution|user|assistant|system|human|[qa])(?:\*\*)?:"
    r"|\A\s*(?:\*\*|#{1,6} |```)|\{\{|\}\}|(?-i:\\n(?=[A-Z\d*\\\s-]|$))|\\u[0-9a-f]{4}|&(?:amp|lt|gt|quot|nbsp|#\d+);",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"<\|[^<>|]{1,40}\|>|</?think(?:ing)?>|\[/?INST\]|\ufffd", re.IGNORECASE)


def no_leftovers(evidence: str) -> Filter:
    """Drop what a template, a prompt or an encoding left in a pair about a text: chat tokens, "Answer:", "**".

    What stands in the evidence too belongs to the subject: code keeps its marks.
    """
    return lambda sample: next(
        (
            Drop("leftover", mark[0].strip())
            for text in (sample.question, sample.answer)
            for mark in _LEFTOVER.finditer(text)
            if mark[0].strip() not in evidence
        ),
        None,
    )


def no_chat_tokens(sample: Sample) -> Drop | None:
    """Drop what holds a chat template's tokens or speaks of itself as a model. For skills, whose answers have any form.

    Of the 477 seeds of skills in the two public trees it drops one, which has a broken sign in it.
    """
    texts = [message.content for message in sample.messages]
    if mark := next((mark for text in texts if (mark := _TOKEN.search(text))), None):
        return Drop("leftover", mark[0])
    return Drop("no_answer", said[0].lower()) if (said := _SELF.search(sample.answer)) else None


_RUN = 8
"""Words in a row that nobody writes by chance as the prompt has them."""


def no_instructions(prompt: str, evidence: str = "") -> Filter:
    """Drop what repeats what the teacher was told or shown, eight words or more, unless it stands in the evidence."""
    told = frozenset(_runs(prompt)).difference(_runs(evidence))

    def is_own(sample: Sample) -> Drop | None:
        runs = (run for text in (sample.question, sample.answer) for run in _runs(text))
        return next((Drop("repeats_its_prompt", " ".join(run)) for run in runs if run in told), None)

    return is_own


def _runs(text: str) -> list[tuple[str, ...]]:
    there = words(text)
    return [tuple(there[start : start + _RUN]) for start in range(len(there) - _RUN + 1)]
