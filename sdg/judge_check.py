"""How far a judge can be trusted: what he says of pairs that people have labelled, and how often he agrees with them.

The pairs stand in a file of JSON lines, one `Case` each. He is asked as in a run, through the same ledger, so that
another threshold or a second look costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from ..core.config import Config
from ..core.errors import ConfigError, DataError, nearest
from ..core.progress import Progress, Task
from ..core.rate import Rate, wilson
from ..core.records import Record
from ..core.wording import worded
from ..llm.ask import Gateway, RequestFailed
from ..llm.ledger import Ledger
from ..llm.loop import run_to_end
from ..llm.prompts import Prompt
from .judges import SHIPPED, Judge, Judgement, Pair, for_votes, judgement, method
from .prompts import load_prompt
from .recipe import load_recipes

SHIPPED_CASES = Path(__file__).parent / "judge_cases.jsonl"
"""100 pairs, most of them about the starter taxonomy, half of them with faults that teachers make."""
_MOST_BYTES = 50_000_000


class Case(Record):
    """A pair and whether it is good: about a text (`passage`), or a task solved as a skill asks (`task`)."""

    question: str
    answer: str
    good: bool
    fault: str = ""
    """What is wrong with it, for people."""
    passage: str = ""
    title: str = ""
    """What the passage is about."""
    task: str = ""
    """The skill's task description."""
    context: str = ""
    """What a grounded skill's task is about."""
    foundational: bool = False
    """Whether it is of a foundational skill: its task has one right result."""

    @property
    def kind(self) -> str:
        """The kind of leaf that it could be of."""
        if self.passage:
            return "knowledge"
        if self.foundational:
            return "foundational"
        return "grounded_skill" if self.context else "skill"


class Labelled(NamedTuple):
    """A case and the line that it stands in."""

    line: int
    case: Case


class Checked(NamedTuple):
    """What the judge said of a case; None where no answer could be used, and so no sample would have been kept."""

    line: int
    case: Case
    judgement: Judgement | None

    @property
    def kept(self) -> bool:
        """Whether a sample like this would have been kept."""
        return self.judgement is not None and not self.judgement.reason


class Agreement(Record):
    """Counts of cases by label and verdict, and what follows from them, with 95 % intervals."""

    good_kept: int
    bad_kept: int
    good_dropped: int
    bad_dropped: int
    precision: Rate
    """Of what he keeps, the share that is good."""
    recall: Rate
    """Of what is good, the share that he keeps."""
    accuracy: Rate
    kappa: float
    """Cohen's: agreement beyond that of a judge who does not look (Cohen 1960, EPM 20:37-46). 1: always, 0: none."""
    kappa_low: float
    kappa_high: float


class Threshold(Record):
    """What a rubric's lowest score would make of the cases."""

    lowest_score: int
    precision: Rate
    recall: Rate


def read_cases(path: Path) -> list[Labelled]:
    """The cases of a file. Raises DataError with the line that is no case, or when there are none."""
    if path.stat().st_size > _MOST_BYTES:
        raise DataError("the file is over 50 MB", where=str(path), fix="give fewer cases: each costs a request")
    found: list[Labelled] = []
    for line, text in enumerate(path.read_bytes().splitlines(), start=1):
        if text.strip():
            found.append(Labelled(line, _case(text, f"{path}:{line}")))
    if not found:
        raise DataError("there are no cases in it", where=str(path), fix=_SHAPE)
    return found


_SHAPE = 'write one a line: {"passage": "…", "question": "…", "answer": "…", "good": true}, or "task" for a skill\'s'


def _case(text: bytes, where: str) -> Case:
    try:
        case = Case.model_validate_json(text)
    except ValidationError as error:
        what = worded(error.errors(include_url=False)[0]).what
        raise DataError(f"not a labelled case: {what}", where=where, fix=_SHAPE) from error
    if bool(case.passage) == bool(case.task):
        what = "both a passage and a task" if case.passage else "neither a passage nor a task"
        raise DataError(f"it has {what}", where=where, fix=_SHAPE)
    return case


_OWN_JUDGES = {"grounded_skill": "grounded_judge", "foundational": "foundational_judge"}


def judges(config: Config, kinds: Sequence[str], *, by: str = "", votes: int = 0) -> dict[str, Judge]:
    """The judge of each kind of case: the recipe's, or asked `by` another method where there is one, or more votes.

    Raises ConfigError for a method that no kind has, and as `load_recipes`.
    """
    methods = {method_ for kind in kinds for method_ in SHIPPED[kind]}
    if by and by not in methods:
        raise ConfigError(f"these cases cannot be judged by {by!r}", where="--by", fix=nearest(by, methods))
    recipes = load_recipes(config)
    found: dict[str, Judge] = {}
    for kind in kinds:
        settings = recipes[kind].settings
        prompts = recipes[kind].prompts
        prompt = prompts.get(_OWN_JUDGES.get(kind, ""), prompts["judge"])
        others: Mapping[str, str] = {**SHIPPED[kind]}
        if by in others and by != method(prompt):
            prompt = load_prompt(others[by])
        times = votes or settings.votes
        found[kind] = Judge(for_votes(prompt, times), times, settings.lowest_score)
    return found


def check_judge(
    cases: Sequence[Labelled], asked: Mapping[str, Judge], *, config: Config, ledger: Path, progress: Progress
) -> list[Checked]:
    """Ask the configured judge about every case; answers that the ledger has cost nothing. Raises ModelError."""
    return run_to_end(_check(cases, asked, config, ledger, progress))


async def _check(
    cases: Sequence[Labelled], asked: Mapping[str, Judge], config: Config, ledger: Path, progress: Progress
) -> list[Checked]:
    server, role = (config.judge, "judge") if config.judge else (config.teacher, "teacher")
    async with contextlib.AsyncExitStack() as stack:
        book = stack.enter_context(Ledger(ledger))
        gateway = await stack.enter_async_context(Gateway(server, book, progress, seed=config.seed, role=role))
        task = stack.enter_context(progress.task("judge", total=len(cases), unit="cases"))
        return list(await asyncio.gather(*(_checked(case, asked[case.case.kind], gateway, task) for case in cases)))


async def _checked(labelled: Labelled, judge: Judge, gateway: Gateway, task: Task) -> Checked:
    line, case = labelled
    variables = _variables(case)
    try:
        answers = [await _asked(gateway, judge.prompt, variables, index) for index in range(judge.votes)]
    except RequestFailed:
        return Checked(line, case, None)
    finally:
        task.advance()
    return Checked(line, case, judgement(judge, answers, Pair(case.question, case.answer, case.passage, case.title)))


async def _asked(gateway: Gateway, prompt: Prompt, variables: dict[str, Any], index: int) -> Any:
    answer = await gateway.ask(
        prompt.messages(**variables),
        leaf="judge-check",
        step="judge",
        schema=prompt.schema(**variables),
        max_tokens=prompt.max_tokens(**variables),
        temperature=prompt.file.temperature,
        index=index,
        prefix=prompt.prefix(**variables),
    )
    return answer.text.strip() if answer.data is None else answer.data


def _variables(case: Case) -> dict[str, Any]:
    pair = {"question": case.question, "answer": case.answer}
    if case.passage:
        title = case.title or case.passage.split(".", 1)[0]
        return {**pair, "title": title, "heading": title, "chunk": case.passage}
    return {**pair, "task": case.task, "context": case.context, "examples": []}


# What it comes to ----------------------------------------------------------------------------------------------------


def agreement(checked: Sequence[Checked]) -> Agreement:
    """How far judge and labels agree."""
    return _agreement([(each.case.good, each.kept) for each in checked])


def thresholds(checked: Sequence[Checked]) -> list[Threshold]:
    """For a judge who gives scores: what each lowest score would keep, from 1 up; empty for another judge."""
    scored = [(each.case.good, each.judgement.score) for each in checked if each.judgement]
    if not scored or any(score is None for _, score in scored):
        return []
    total = sum(each.case.good for each in checked)
    found: list[Threshold] = []
    for lowest in range(1, 6):
        kept = [good for good, score in scored if (score or 0) >= lowest]
        good = sum(kept)
        found.append(Threshold(lowest_score=lowest, precision=wilson(good, len(kept)), recall=wilson(good, total)))
    return found


def suggested(found: Sequence[Threshold], precision: float) -> Threshold | None:
    """The lowest score that reaches a precision on the cases and keeps any of them; None where none does."""
    return next((each for each in found if each.precision.total and each.precision.value >= precision), None)


_RESAMPLES = 2000


def _agreement(labels: Sequence[tuple[bool, bool]]) -> Agreement:
    good_kept, bad_kept = labels.count((True, True)), labels.count((False, True))
    good_dropped, bad_dropped = labels.count((True, False)), labels.count((False, False))
    draw = random.Random(0)  # noqa: S311  a seeded bootstrap, not a secret
    kappas = sorted(_kappa(draw.choices(labels, k=len(labels))) for _ in range(_RESAMPLES))
    return Agreement(
        good_kept=good_kept,
        bad_kept=bad_kept,
        good_dropped=good_dropped,
        bad_dropped=bad_dropped,
        precision=wilson(good_kept, good_kept + bad_kept),
        recall=wilson(good_kept, good_kept + good_dropped),
        accuracy=wilson(good_kept + bad_dropped, len(labels)),
        kappa=_kappa(labels),
        kappa_low=kappas[_RESAMPLES * 25 // 1000],
        kappa_high=kappas[_RESAMPLES * 975 // 1000 - 1],
    )


def _kappa(labels: Sequence[tuple[bool, bool]]) -> float:
    """0 where judge or labels know one word only: then agreement says nothing."""
    total = len(labels)
    good, kept = sum(good for good, _ in labels) / total, sum(kept for _, kept in labels) / total
    chance = good * kept + (1 - good) * (1 - kept)
    agreed = sum(good == kept for good, kept in labels) / total
    return (agreed - chance) / (1 - chance) if chance < 1 else 0.0
