"""Scores of a short answer against the accepted ones.

Exact match and token F1 follow SQuAD (Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of
Text", section 6.1), with the normalisation of `core.normalise`. The score that decides is `is_correct`; the other two
are recorded beside it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from ..core.choices import chosen
from ..core.normalise import normalise
from ..core.records import Question, Record

MAX_WORDS = 40
"""An answer is scored by its first line, and that by its first `MAX_WORDS` normalised words."""


class Score(Record):
    """What one answer to one question is worth."""

    correct: bool
    exact: bool
    f1: float


def score(answer: str, accepted: Sequence[str]) -> Score:
    """All three scores of a model's answer against the accepted answers."""
    return Score(
        correct=is_correct(answer, accepted), exact=exact_match(answer, accepted), f1=round(f1(answer, accepted), 6)
    )


def score_choice(answer: str, question: Question) -> Score:
    """All scores of an answer to a multiple-choice question: 1 for the right option, by its letter or words, else 0."""
    index = chosen(answer, question.options)
    right = index is not None and question.options[index] == question.answers[0]
    return Score(correct=right, exact=right, f1=float(right))


def is_correct(answer: str, accepted: Sequence[str]) -> bool:
    """Whether the answer's first line states an accepted answer.

    It does when the line equals one after normalisation, or when one occurs in it as a run of whole words ("It was
    built in 1874." states "1874", "18745" does not), unless the line hedges there:

    - a word of denial or doubt (not, never, maybe ...) stands before the run in the same clause ("it is not oil" does
      not state "oil", "not oil but wax" states "wax");
    - "or" stands within two words of the run ("12 or 14 metres" states neither);
    - the run is one of three or more numbers in a row ("10, 12, 14").

    A hedging word that the accepted answer itself contains is no hedge.
    """
    line = _first_line(answer)
    runs = [words for text in accepted if (words := normalise(text).split())]
    if normalise(line).split() in runs:
        return True
    clauses = list(_clauses(line))
    return any(_states(clause, run) for clause in clauses for run in runs)


def exact_match(answer: str, accepted: Sequence[str]) -> bool:
    """SQuAD's exact match of the first line, over the accepted answers."""
    return normalise(_first_line(answer)) in {normalise(text) for text in accepted}


def f1(answer: str, accepted: Sequence[str]) -> float:
    """SQuAD's token F1 of the first line: the best over the accepted answers, 0 to 1."""
    words = normalise(_first_line(answer)).split()
    return max((_f1(words, normalise(text).split()) for text in accepted), default=0.0)


def _f1(answer: list[str], reference: list[str]) -> float:
    common = sum((Counter(answer) & Counter(reference)).values())
    return 2 * common / (len(answer) + len(reference)) if common else 0.0


def _first_line(answer: str) -> str:
    return next((line for line in answer.splitlines() if line.strip()), "")


_ABBREVIATED = r"(?<!\b\w)(?<!\b(?:mr|ms|dr|st|mt|no))(?<!\bmrs)(?<!\bprof)"
_CLAUSE_END = re.compile(rf"[;!?]\s|{_ABBREVIATED}\.\s|\bbut\b", re.IGNORECASE)
"""The full stop of "Dr. Vell" ends no clause."""

_DOUBT = frozenset({"not", "never", "neither", "nor", "either", "maybe", "perhaps", "possibly", "unless"})


def _clauses(line: str) -> Iterator[list[str]]:
    left = MAX_WORDS
    for part in _CLAUSE_END.split(line):
        words = normalise(part).split()[:left]
        left -= len(words)
        yield words


def _states(clause: list[str], run: list[str]) -> bool:
    starts = (at for at in range(len(clause) - len(run) + 1) if clause[at : at + len(run)] == run)
    return any(not _hedged(clause, at, run) for at in starts)


def _hedged(clause: list[str], start: int, run: list[str]) -> bool:
    end = start + len(run)
    if (_DOUBT - set(run)) & set(clause[:start]):
        return True
    if "or" not in run and "or" in clause[max(0, start - 2) : start] + clause[end : end + 2]:
        return True
    first, last = start, end
    while first > 0 and _is_number(clause[first - 1]):
        first -= 1
    while last < len(clause) and _is_number(clause[last]):
        last += 1
    return all(map(_is_number, run)) and last - first >= 3 > len(run)


def _is_number(word: str) -> bool:
    return word[0].isdigit()
