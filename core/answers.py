"""Whether an answer states an accepted one: what evaluation scores by, and what training rewards."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .normalise import normalise

MAX_WORDS = 40
"""An answer is scored by its first line, and that by its first `MAX_WORDS` normalised words."""


def is_correct(answer: str, accepted: Sequence[str]) -> bool:
    """Whether the answer's first line states an accepted answer.

    It does when the line equals one after normalisation, or when one occurs in it as a run of whole words ("It was
    built in 1874." states "1874", "18745" does not), unless the line hedges there:

    - a word of denial or doubt (not, never, maybe ...) stands before the run in the same clause ("it is not oil" does
      not state "oil", "not oil but wax" states "wax");
    - "no", "without", "instead of" or "rather than" stands right before it ("no oil"; but "No. 5" states "5");
    - "or" stands within two words of the run ("12 or 14 metres" states neither);
    - the run is one of three or more numbers in a row ("10, 12, 14").

    A hedging word that the accepted answer itself contains is no hedge.
    """
    line = first_line(answer)
    runs = [words for text in accepted if (words := normalise(text).split())]
    if normalise(line).split() in runs:
        return True
    clauses = list(_clauses(line))
    return any(_states(clause, run) for clause in clauses for run in runs)


def first_line(answer: str) -> str:
    """The first line that is not blank; empty where there is none."""
    return next((line for line in answer.splitlines() if line.strip()), "")


_ABBREVIATED = r"(?<!\b\w)(?<!\b(?:mr|ms|dr|st|mt|no))(?<!\bmrs)(?<!\bprof)"
_CLAUSE_END = re.compile(rf"[;!?]\s|{_ABBREVIATED}\.\s|\bbut\b", re.IGNORECASE)
"""The full stop of "Dr. Vell" ends no clause."""

_DOUBT = frozenset({"not", "cannot", "never", "neither", "nor", "either", "maybe", "perhaps", "possibly", "unless"})


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
    if _denied(clause[:start], run):
        return True
    if "or" not in run and "or" in clause[max(0, start - 2) : start] + clause[end : end + 2]:
        return True
    first, last = start, end
    while first > 0 and _is_number(clause[first - 1]):
        first -= 1
    while last < len(clause) and _is_number(clause[last]):
        last += 1
    return all(map(_is_number, run)) and last - first >= 3 > len(run)


def _denied(before: list[str], run: list[str]) -> bool:
    if before[-1:] == ["no"]:
        return not _is_number(run[0])
    return before[-1:] == ["without"] or before[-2:] in (["instead", "of"], ["rather", "than"])


def _is_number(word: str) -> bool:
    return word.removeprefix("-")[:1].isdigit()
