"""Judges: the ways to ask a model whether a pair is good, and how its answers are read. Asking is done by who calls.

From the weakest model to the strongest:

- `answering`: he answers the question by the text, or solves the task, not knowing the answer; the two must tell the
  same (round-trip consistency, Alberti et al. 2019, arXiv 1906.05416; of tasks: Wang et al. 2022, 2203.11171). A small
  model that is asked for a yes or a no says yes.
- `verdict`: yes or no.
- `quoting`: yes or no, with the words of the text that the answer rests on. They must stand there, and hold the answer.
- `rubric`: the worst fault, then a score from 1 to 5.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any, Literal, NamedTuple

from ..core.normalise import normalise
from ..llm.prompts import Prompt
from .filters import same_answer
from .words import content_words, stems

Method = Literal["answering", "verdict", "quoting", "rubric"]

ANSWERS: Mapping[Method, str] = {"answering": "", "verdict": "verdict", "quoting": "quote verdict", "rubric": "score"}
"""The properties that an answer must have; empty: it is plain text."""
SHIPPED: Mapping[str, Mapping[Method, str]] = {
    "knowledge": {"answering": "knowledge_judge", "quoting": "quoting_judge"},
    "foundational": {"answering": "foundational_judge", "verdict": "skill_judge", "rubric": "skill_rubric"},
    "skill": {"verdict": "skill_judge", "rubric": "skill_rubric"},
    "grounded_skill": {"verdict": "grounded_judge", "rubric": "grounded_rubric"},
}
"""Kind of leaf -> the methods that there are, with the names of their shipped prompts."""

VOTE_TEMPERATURE = 0.7
"""At temperature 0 all votes would be one."""


@dataclass(frozen=True)
class Judge:
    """How a judge is asked and what decides."""

    prompt: Prompt
    votes: int = 1
    """How often he is asked; more than half of the votes keep a sample."""
    lowest_score: int = 4
    """With a rubric, the lowest score that a sample is kept with."""

    @property
    def by(self) -> Method:
        """How he is asked, which his prompt's schema tells."""
        return method(self.prompt)


def method(prompt: Prompt) -> Method:
    """How a prompt asks, by what its answer has."""
    there = prompt.file.answer.get("properties", {})
    if not prompt.file.answer:
        return "answering"
    return "quoting" if "quote" in there else "rubric" if "score" in there else "verdict"


class Pair(NamedTuple):
    """What is judged. `evidence`: the text that the answer must rest on; empty for a skill."""

    question: str
    answer: str
    evidence: str = ""
    title: str = ""


class Judgement(NamedTuple):
    """What the votes make together. `reason` is empty where the sample is to be kept."""

    reason: str
    grades: dict[str, str]
    score: int | None = None
    """The middle score, of a rubric."""


def for_votes(prompt: Prompt, votes: int) -> Prompt:
    """The prompt, warm enough for votes to differ."""
    if votes == 1 or prompt.file.temperature:
        return prompt
    return Prompt(prompt.name, prompt.file.model_copy(update={"temperature": VOTE_TEMPERATURE}))


def judgement(judge: Judge, answers: Sequence[Any], pair: Pair) -> Judgement:
    """What the answers of a judge, one for each vote (JSON, or text for `answering`), say of a pair."""
    opinions = [_READERS[judge.by](answer, pair) for answer in answers]
    opinions = [each._replace(reason="low_score") if _is_low(each.score, judge) else each for each in opinions]
    keeping = [opinion for opinion in opinions if not opinion.reason]
    dropping = [opinion for opinion in opinions if opinion.reason]
    first = (keeping if len(keeping) > len(dropping) else dropping)[0]
    grades = {"judge": first.said}
    if judge.votes > 1:
        grades["votes"] = f"{len(keeping)} of {len(opinions)}"
    scores = [opinion.score for opinion in opinions if opinion.score is not None]
    return Judgement(first.reason, grades, median_low(scores) if scores else None)


def _is_low(score: int | None, judge: Judge) -> bool:
    return score is not None and score < judge.lowest_score


class _Opinion(NamedTuple):
    """One vote."""

    reason: str
    said: str
    score: int | None = None


def _answering(said: str, pair: Pair) -> _Opinion:
    first = said.strip().partition("\n")[0]  # what it says on is why
    agrees = same_answer(pair.answer, first) and (bool(pair.evidence) or _in_order(pair.answer, first))
    return _Opinion("" if agrees else "judge_answers_otherwise", said)


def _verdict(said: Mapping[str, Any], _pair: Pair) -> _Opinion:
    return _Opinion("" if said["verdict"] == "yes" else "judged_no", said["verdict"])


def _quoting(said: Mapping[str, Any], pair: Pair) -> _Opinion:
    quote = " ".join(said["quote"].split())
    if said["verdict"] != "yes":
        reason = "judged_no"
    elif not stands_in(quote, pair.evidence):
        reason = "quote_not_in_text"
    else:
        reason = "" if _holds(f"{quote} {pair.question} {pair.title}", pair.answer) else "quote_without_answer"
    return _Opinion(reason, f"{said['verdict']}: {quote}")


def _rubric(said: Mapping[str, Any], _pair: Pair) -> _Opinion:
    score, fault = int(said["score"]), " ".join(str(said.get("fault", "")).split())
    return _Opinion("", f"{score}: {fault}" if fault else str(score), score)


_READERS: Mapping[Method, Callable[[Any, Pair], _Opinion]] = {
    "answering": _answering,
    "verdict": _verdict,
    "quoting": _quoting,
    "rubric": _rubric,
}

_FEWEST_IN_ORDER, _SHARE_IN_ORDER = 4, 0.8


def _in_order(answer: str, said: str) -> bool:
    """Whether the words that both have come in one order, most of them: of a task the order may be the answer.

    Of fewer than four words nothing is asked.
    """
    there, shared = normalise(answer).split(), dict.fromkeys(content_words(normalise(said)))
    places = [there.index(word) for word in shared if word in there]
    longest: list[int] = []  # the smallest last place of a rising run of each length
    for place in places:
        at = bisect_left(longest, place)
        longest[at : at + 1] = [place]
    return len(places) < _FEWEST_IN_ORDER or len(longest) >= _SHARE_IN_ORDER * len(places)


_LEFT_OUT = re.compile(r"\s*(?:\[?\.{3}\]?|\[?\u2026\]?)\s*")
_ADDRESS = re.compile(r"\]\([^()\s]*\)")


def stands_in(quote: str, text: str) -> bool:
    """Whether a quote is there, word for word, each piece of it if "..." parts it. Case and marks do not count."""
    there = f" {normalise(_ADDRESS.sub(']', text))} "
    pieces = [piece for part in _LEFT_OUT.split(quote) if (piece := normalise(part))]
    return bool(pieces) and all(f" {piece} " in there for piece in pieces)


_SHARE = 0.6
"""Of an answer's words: of two both, of three one may be another."""


def _holds(quote: str, answer: str) -> bool:
    """Whether a quote, with the question, has the numbers of an answer and most of its other words."""
    there, wanted = normalise(quote).split(), normalise(answer).split()
    if any(word[0].isdigit() and word not in there for word in wanted):
        return False
    known, stemmed = frozenset(stems(there)), stems(content_words(" ".join(wanted)))
    return sum(stem in known for stem in stemmed) >= _SHARE * len(stemmed)
