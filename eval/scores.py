"""Scores of a short answer against the accepted ones.

Exact match and token F1 follow SQuAD (Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of
Text", section 6.1, and its evaluation script): lower case, no punctuation, no articles, single spaces. Departures, each
because the original calls different answers equal or equal ones different: a decimal point stays ("3.5" is not "35"),
hyphens and other marks between words become spaces, number words become digits, "%" becomes "percent" and "n't" "not".

The score that decides is `is_correct`; the other two are recorded beside it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

from ..core.records import Record

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


def normalise(text: str) -> str:
    """Words in one spelling, separated by single spaces. The module says which rules apply."""
    text = unicodedata.normalize("NFKC", text).lower().translate(_TYPOGRAPHY)
    text = re.sub(r"n't\b", " not", text)
    text = text.replace("'", "").replace("%", " percent ")
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(?<=[^\W\d])\.(?=[^\W\d])", "", text)  # "p.m." and "U.S." are one word each
    text = re.sub(r"(?<!\d)\.|\.(?!\d)|[^\w\s.]|_", " ", text)
    words = [word for word in text.split() if word not in _ARTICLES]
    return _NUMBER.sub(lambda match: str(_number(match.group())), " ".join(words))


_TYPOGRAPHY = str.maketrans({"’": "'", "‘": "'", "ʼ": "'"})  # noqa: RUF001  the marks that models really write
_ARTICLES = frozenset({"a", "an", "the"})

_UNITS = (
    "zero one two three four five six seven eight nine ten "
    "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_VALUES = {
    **dict(zip(_UNITS.split(), range(20), strict=True)),
    **dict(zip(_TENS.split(), range(20, 100, 10), strict=True)),
}
_ONES = "|".join(_UNITS.split()[:10])
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS.split())})(?: (?:{_ONES}))?|{'|'.join(reversed(_UNITS.split()))})"
_BELOW_1000 = rf"(?:(?:(?:{_ONES}) )?hundred(?: (?:and )?{_BELOW_100})?|{_BELOW_100})"
_NUMBER = re.compile(rf"\b(?:(?:{_BELOW_1000} )?thousand(?: (?:and )?{_BELOW_1000})?|{_BELOW_1000})\b")


def _number(words: str) -> int:
    """The value of number words below a million: "three hundred and forty" is 340."""
    total = current = 0
    for word in words.split():
        if word == "thousand":
            total, current = (current or 1) * 1000, 0
        elif word == "hundred":
            current = (current or 1) * 100
        elif word != "and":
            current += _VALUES[word]
    return total + current


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
