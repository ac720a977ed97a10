"""Questions of two turns: a model answers both, and a judge grades each answer from 1 to 10 (`two_turn_run` asks them).

The scheme is MT-Bench's single-answer grading (Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot
Arena", arXiv 2306.05685, section 3.1), and a file in its shape can be read; the questions are the user's own. What
differs: models answer greedily, whatever the category, so a result can be had again; an answer that the judge did not
grade is counted and shown, and a mean has an interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import Field, ValidationError

from ..core.config import Section
from ..core.errors import DataError
from ..core.fingerprint import fingerprint
from ..core.records import Record
from ..core.wording import first_fault
from ..core.yaml_source import load_yaml
from .clusters import mean_interval
from .evaluation import Judge

WORST, BEST = 1, 10
Turn = Literal[1, 2]


class TwoTurnQuestion(Section):
    """One question and the one that follows on its answer."""

    turns: tuple[str, str]
    category: str = ""
    reference: tuple[str, ...] = Field(default=(), max_length=2)
    """What a right answer to the first turn holds, and to the second; "" where there is none."""
    question_id: int | str = ""
    """In files of MT-Bench's shape; nothing hangs on it."""

    @property
    def id(self) -> str:
        """A hash of what is asked."""
        return fingerprint([self.turns, self.reference])


class _File(Section):
    """A YAML file of questions."""

    questions: tuple[TwoTurnQuestion, ...] = Field(min_length=1)


class GradedAnswer(Record):
    """A model's answer in one turn, and what the judge said of it."""

    text: str
    grade: int | None
    """None: the judge said nothing that can be used, and `reason` is why."""
    reason: str


class Mean(Record):
    """The mean grade with a 95 % bootstrap interval over questions (`clusters.mean_interval`).

    Fewer than five questions tell too little of the spread: their interval is all that there could be.
    """

    value: float
    low: float
    high: float
    questions: int


class TwoTurn(Record):
    """Models and what a judge gave them."""

    judge: Judge
    max_new_tokens: int
    models: Mapping[str, str]
    """Name -> what stands for the weights: their fingerprint, or the name that the endpoint knows the model by."""
    questions: tuple[TwoTurnQuestion, ...]
    answers: Mapping[str, Mapping[str, tuple[GradedAnswer, GradedAnswer]]]
    """Model name -> question id -> its two answers."""

    @property
    def categories(self) -> tuple[str, ...]:
        """In the order in which the file has them."""
        return tuple(dict.fromkeys(question.category for question in self.questions if question.category))

    def unjudged(self, model: str) -> int:
        """How many of a model's answers have no grade."""
        return sum(answer.grade is None for pair in self._of(model).values() for answer in pair)

    def mean(self, model: str, *, turn: Turn | None = None, category: str = "") -> Mean | None:
        """A model's mean over questions, of one turn or both; None where nothing was graded."""
        return _mean([*self._grades(model, turn, category).values()], WORST, BEST)

    def difference(self, before: str, after: str) -> Mean | None:
        """By how much the later model's grades are higher, question by question, where both were graded."""
        old, new = self._grades(before, None, ""), self._grades(after, None, "")
        return _mean([new[key] - old[key] for key in new if key in old], WORST - BEST, BEST - WORST)

    def _of(self, model: str) -> Mapping[str, tuple[GradedAnswer, GradedAnswer]]:
        if model not in self.answers:
            raise DataError(f"{model!r} was not asked, only {', '.join(self.answers)}")
        return self.answers[model]

    def _grades(self, model: str, turn: Turn | None, category: str) -> dict[str, float]:
        """The grade of each question that has one in every turn that counts: the mean of those."""
        found: dict[str, float] = {}
        for question in self.questions:
            pair = self._of(model)[question.id]
            grades = [answer.grade for answer in (pair if turn is None else (pair[turn - 1],))]
            given = [grade for grade in grades if grade is not None]
            if len(given) == len(grades) and category in {"", question.category}:
                found[question.id] = fmean(given)
        return found


def read_two_turn(path: Path) -> tuple[TwoTurnQuestion, ...]:
    """The questions of a file: YAML with a list `questions`, or JSON lines (`*.jsonl`) with one a line.

    Raises DataError or YamlProblems with the place that is wrong, ConfigError where there is no file.
    """
    found = _lines(path) if path.suffix == ".jsonl" and path.is_file() else load_yaml(path, _File).questions
    return tuple({question.id: question for question in found}.values())


_SHAPE = 'write one a line: {"category": "…", "turns": ["…", "…"], "reference": ["…", "…"]}'


def _lines(path: Path) -> list[TwoTurnQuestion]:
    found: list[TwoTurnQuestion] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(TwoTurnQuestion.model_validate_json(line))
        except ValidationError as error:
            what = f"not a question of two turns: {first_fault(error)}"
            raise DataError(what, where=f"{path}:{number}", fix=_SHAPE) from error
    if not found:
        raise DataError("there are no questions in it", where=str(path), fix=_SHAPE)
    return found


_FEWEST = 5


def _mean(values: Iterable[float], lowest: float, highest: float) -> Mean | None:
    grades = list(values)
    if not grades:
        return None
    low, high = lowest, highest
    if len(grades) >= _FEWEST and len({*grades}) > 1:  # equal ones say nothing of how far others may lie
        low, high = mean_interval([[grade] for grade in grades], level=0.95, seed=0)
    return Mean(value=fmean(grades), low=max(low, lowest), high=min(high, highest), questions=len(grades))
