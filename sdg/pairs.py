"""Which of several graded answers make a preference pair, and whether pairs lean to the longer answer."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import correlation, fmean, pstdev

from ..core.records import BY_HAND, Candidate, Preference, Record
from .filters import Drop
from .words import words


def choose(candidates: Sequence[Candidate], margin: float) -> tuple[Candidate, Candidate] | Drop:
    """The chosen and the rejected answer, or why there is no pair.

    Chosen is what a person wrote (a seed's answer), however it was graded; else the best, of equally good ones the
    sample's own answer, which was judged before, else the shortest.
    Rejected is, of those that are worse by `margin` or more, the one whose score is nearest to the mean less two
    standard deviations of all scores, for the very worst of many teaches little (arXiv 2502.16825); of equally near
    ones that whose length is nearest to the chosen one's. Where some answered with less to go by (`side`), these alone
    may be rejected, and the others alone chosen.
    """
    may_win = [each for each in candidates if each.side != "weak"]
    may_lose = [each for each in candidates if each.side in {"", "weak"}]
    if len(candidates) < 2 or not may_win or not may_lose:
        return Drop("too_few_answers", str(len(candidates)))
    best = max(may_win, key=lambda each: (each.model == BY_HAND, each.score, each.side == "reference", -_length(each)))
    worse = [each for each in may_lose if each.score <= best.score - margin]
    if not worse:
        next_best = max((each.score for each in may_lose if each is not best), default=best.score)
        return Drop("tie", f"{best.score:g} against {next_best:g}")
    scores = [each.score for each in candidates]
    target = fmean(scores) - 2 * pstdev(scores)
    return best, min(worse, key=lambda each: (abs(each.score - target), abs(_length(each) - _length(best))))


class LengthBias(Record):
    """Whether longer answers were preferred. What is learned from pairs that lean so is to write more."""

    pairs: int
    chosen_longer: float
    """The share of pairs whose chosen answer has more words; of pairs with the same number half."""
    correlation: float | None
    """Of an answer's words and score, each as the distance from its question's mean; None where one never varies."""


def length_bias(pairs: Sequence[Preference]) -> LengthBias | None:
    """Over pairs with all their candidates; None where there are none."""
    if not pairs:
        return None
    lengths = [(_words(pair.chosen[-1].content), _words(pair.rejected[-1].content)) for pair in pairs]
    longer = fmean(1.0 if more > fewer else 0.5 if more == fewer else 0.0 for more, fewer in lengths)
    by_words = [gap for pair in pairs for gap in _gaps([_length(each) for each in pair.candidates])]
    by_score = [gap for pair in pairs for gap in _gaps([each.score for each in pair.candidates])]
    varies = any(by_words) and any(by_score)
    related = round(correlation(by_words, by_score), 3) if varies else None
    return LengthBias(pairs=len(pairs), chosen_longer=round(longer, 3), correlation=related)


def _gaps(values: Sequence[float]) -> list[float]:
    mean = fmean(values)
    return [value - mean for value in values]


def _length(candidate: Candidate) -> int:
    return _words(candidate.answer)


def _words(text: str) -> int:
    return len(words(text))
