"""The judge of answers that have no one wording: graded against a reference, and two models' compared with each other.

Both are reference-guided, reason first (Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena",
arXiv 2306.05685, sections 3.1 and 3.4): a rubric from 1 to 5, and pairs in both orders, where a win counts only if it
does not hang on the order. What contributors and models wrote is hostile: the question, each reference and each answer
stand in fences whose mark follows from all of them, so that none can close its own, and marks of turns are broken.

A judge asks by the gateway, so each answer is paid for once. One that cannot be used is counted, never dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..core.config import Config
from ..core.fingerprint import fingerprint
from ..core.progress import Progress, Task
from ..core.records import Question, TokensUsed
from ..llm.ask import Gateway, RequestFailed, Unanswered
from ..llm.endpoint import identity
from ..llm.ledger import Ledger
from ..llm.loop import run_to_end
from ..llm.prompts import Prompt, harmless, mark, read_prompt
from .evaluation import Judge, Judging, is_reference

HIGHEST = 5
"""The rubric's highest grade."""

Better = Literal["A", "B", "tie", ""]
"""What the judge said of a pair; empty: nothing that can be used."""


class Grade(NamedTuple):
    """What the judge said of an answer. No grade: he said nothing that can be used, and `reason` is why."""

    grade: int | None
    reason: str


class ToGrade(NamedTuple):
    """A question and what a model answered."""

    question: Question
    answer: str

    @property
    def key(self) -> tuple[str, str]:
        """The question's id and the answer."""
        return self.question.id, self.answer


class ToCompare(NamedTuple):
    """A question and what two models answered."""

    question: Question
    first: str
    second: str

    @property
    def key(self) -> tuple[str, str, str]:
        """The question's id and both answers."""
        return self.question.id, self.first, self.second


class Judged(NamedTuple):
    """What a judge has said, by the keys of what he was asked; of pairs in both orders."""

    grades: Mapping[tuple[str, str], Grade]
    orders: Mapping[tuple[str, str, str], tuple[Better, Better]]
    judging: Judging = Judging()


def judge_of(config: Config) -> Judge:
    """Who judges, and by which prompts. Raises ModelError for a name that is not in the catalogue."""
    prompts = [_prompt(name).fingerprint for name in ("rubric", "pairwise")]
    return Judge(model=identity(config.judge or config.teacher), prompt=fingerprint(prompts))


def judge(
    answers: Iterable[ToGrade], pairs: Iterable[ToCompare], *, config: Config, ledger: Path, progress: Progress
) -> Judged:
    """Ask the judge about all that the ledger does not know already. Raises ModelError where he is not there."""
    alone = {each.key: each for each in answers}
    together = {each.key: each for each in pairs}
    if not alone and not together:
        return Judged({}, {})
    return run_to_end(_judged(alone, together, config, ledger, progress))


def winner(orders: tuple[Better, Better]) -> Literal["first", "second", "tie", "unjudged"]:
    """Who won, by what was said with the first model's answer as A, then as B."""
    match orders:
        case ("", _) | (_, ""):
            return "unjudged"
        case ("A", "B"):
            return "first"
        case ("B", "A"):
            return "second"
        case _:
            return "tie"


async def _judged(
    answers: Mapping[tuple[str, str], ToGrade],
    pairs: Mapping[tuple[str, str, str], ToCompare],
    config: Config,
    ledger: Path,
    progress: Progress,
) -> Judged:
    server, role = (config.judge, "judge") if config.judge else (config.teacher, "teacher")
    async with contextlib.AsyncExitStack() as stack:
        book = stack.enter_context(Ledger(ledger))
        gateway = await stack.enter_async_context(Gateway(server, book, progress, seed=config.seed, role=role))
        total = len(answers) + 2 * len(pairs)
        task = stack.enter_context(progress.task("judging", total=total, unit="answers"))
        desk = _Desk(gateway, task, set())
        grading = asyncio.gather(*(_grade(each, desk) for each in answers.values()))
        comparing = asyncio.gather(*(_orders(each, desk) for each in pairs.values()))
        grades, orders = zip(answers, await grading, strict=True), zip(pairs, await comparing, strict=True)
        return Judged(dict(grades), dict(orders), _judging(desk, book))


class _Desk(NamedTuple):
    """Where the judge is asked."""

    gateway: Gateway
    task: Task
    keys: set[str]
    """In the ledger, of what he was asked."""


def _judging(desk: _Desk, book: Ledger) -> Judging:
    entries = [entry for key in desk.keys if (entry := book.get(key))]
    tokens = TokensUsed(
        prompt=sum(entry.prompt_tokens for entry in entries),
        completion=sum(entry.completion_tokens for entry in entries),
    )
    return Judging(requests=len(entries), tokens=tokens, unanswered=desk.gateway.unanswered)


async def _grade(each: ToGrade, desk: _Desk) -> Grade:
    if is_reference(each.question, each.answer):
        desk.task.advance()
        return Grade(HIGHEST, "it is the reference")
    variables = _variables(each.question, answer=each.answer)
    try:
        said = await _asked("rubric", each.question.leaf, variables, desk)
    except (RequestFailed, Unanswered) as failed:
        return Grade(None, failed.what)
    finally:
        desk.task.advance()
    return Grade(said["grade"], said["reason"])


async def _orders(each: ToCompare, desk: _Desk) -> tuple[Better, Better]:
    """Equal answers are a tie, and nobody is asked."""
    if each.first == each.second:
        desk.task.advance(2)
        return "tie", "tie"
    swapped = each._replace(first=each.second, second=each.first)
    one, other = await asyncio.gather(_better(each, desk), _better(swapped, desk))
    return one, other


async def _better(each: ToCompare, desk: _Desk) -> Better:
    variables = _variables(each.question, answer_a=each.first, answer_b=each.second)
    try:
        return (await _asked("pairwise", each.question.leaf, variables, desk))["better"]
    except (RequestFailed, Unanswered):
        return ""
    finally:
        desk.task.advance()


async def _asked(name: str, leaf: str, variables: Mapping[str, Any], desk: _Desk) -> dict[str, Any]:
    prompt = _prompt(name)
    try:
        answer = await desk.gateway.ask(
            prompt.messages(**variables),
            leaf=leaf,
            step=f"evaluation {name}",
            schema=prompt.schema(**variables),
            max_tokens=prompt.max_tokens(**variables),
            temperature=prompt.file.temperature,
        )
    except RequestFailed as failed:
        desk.keys.update(failed.keys)
        raise
    desk.keys.update(answer.keys)
    return answer.data


def _variables(question: Question, **answers: str) -> dict[str, Any]:
    return {
        "question": harmless(question.question),
        "references": [harmless(text) for text in question.answers],
        "mark": mark(question.question, *question.answers, *answers.values()),
    } | {name: harmless(text) for name, text in answers.items()}


@functools.cache
def _prompt(name: str) -> Prompt:
    return read_prompt(Path(__file__).parent / "prompts" / f"{name}.yaml", f"eval/prompts/{name}.yaml")
