"""The judge of answers that have no one wording: graded against a reference, and two models' compared with each other.

Both are reference-guided, reason first (Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena",
arXiv 2306.05685, sections 3.1 and 3.4): a rubric from 1 to 5, and pairs in both orders, where a win counts only if it
does not hang on the order. What models wrote is hostile: it stands in a fence whose mark follows from it, so that it
cannot close it, and marks of turns in it are broken.

A judge asks by the gateway, so each answer is paid for once. One that cannot be used is counted, never dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..core.config import Config
from ..core.fingerprint import fingerprint, text_sha256
from ..core.progress import Progress, Task
from ..core.records import Question
from ..llm.ask import Gateway, RequestFailed, Unanswered
from ..llm.endpoint import identity
from ..llm.ledger import Ledger
from ..llm.loop import run_to_end
from ..llm.prompts import Prompt, read_prompt
from .evaluation import Judge

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
    grades, orders = run_to_end(_judged([*alone.values()], [*together.values()], config, ledger, progress))
    return Judged(dict(zip(alone, grades, strict=True)), dict(zip(together, orders, strict=True)))


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
    answers: Sequence[ToGrade], pairs: Sequence[ToCompare], config: Config, ledger: Path, progress: Progress
) -> tuple[list[Grade], list[tuple[Better, Better]]]:
    server, role = (config.judge, "judge") if config.judge else (config.teacher, "teacher")
    async with contextlib.AsyncExitStack() as stack:
        book = stack.enter_context(Ledger(ledger))
        gateway = await stack.enter_async_context(Gateway(server, book, progress, seed=config.seed, role=role))
        total = len(answers) + 2 * len(pairs)
        task = stack.enter_context(progress.task("judging", total=total, unit="answers"))
        grading = asyncio.gather(*(_grade(each, gateway, task) for each in answers))
        comparing = asyncio.gather(*(_orders(each, gateway, task) for each in pairs))
        return await grading, await comparing


async def _grade(each: ToGrade, gateway: Gateway, task: Task) -> Grade:
    """Nobody is asked about an answer that is a reference, line by line: small judges find faults in that too."""
    if _lines(each.answer) in map(_lines, each.question.answers):
        task.advance()
        return Grade(HIGHEST, "it is the reference")
    variables = _variables(each.question, each.answer) | {"answer": harmless(each.answer)}
    try:
        said = await _asked("rubric", each.question.leaf, variables, gateway)
    except (RequestFailed, Unanswered) as failed:
        return Grade(None, failed.what)
    finally:
        task.advance()
    return Grade(said["grade"], said["reason"])


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


async def _orders(each: ToCompare, gateway: Gateway, task: Task) -> tuple[Better, Better]:
    """Equal answers are a tie, and nobody is asked."""
    if each.first == each.second:
        task.advance(2)
        return "tie", "tie"
    swapped = each._replace(first=each.second, second=each.first)
    one, other = await asyncio.gather(_better(each, gateway, task), _better(swapped, gateway, task))
    return one, other


async def _better(each: ToCompare, gateway: Gateway, task: Task) -> Better:
    shown = {"answer_a": harmless(each.first), "answer_b": harmless(each.second)}
    variables = _variables(each.question, f"{each.first}\n{each.second}") | shown
    try:
        return (await _asked("pairwise", each.question.leaf, variables, gateway))["better"]
    except (RequestFailed, Unanswered):
        return ""
    finally:
        task.advance()


async def _asked(name: str, leaf: str, variables: Mapping[str, Any], gateway: Gateway) -> dict[str, Any]:
    prompt = _prompt(name)
    answer = await gateway.ask(
        prompt.messages(**variables),
        leaf=leaf,
        step=f"evaluation {name}",
        schema=prompt.schema(**variables),
        max_tokens=prompt.max_tokens(**variables),
        temperature=prompt.file.temperature,
    )
    return answer.data


def _variables(question: Question, written: str) -> dict[str, Any]:
    """`mark` is of what was written, so nobody can write it."""
    return {"question": question.question, "references": list(question.answers), "mark": text_sha256(written)[:8]}


_MARKS_OF_TURNS = re.compile(r"(?<=<)(?=\||/?s>|/?(?:start|end)_of_turn>)|(?<=\|)(?=>)|(?<=\[)(?=/?INST\])")
"""Within what chat templates set between turns: servers read it as that wherever it stands."""


def harmless(text: str) -> str:
    """What a model wrote, as it may stand in a prompt."""
    return _MARKS_OF_TURNS.sub(" ", text)


@functools.cache
def _prompt(name: str) -> Prompt:
    return read_prompt(Path(__file__).parent / "prompts" / f"{name}.yaml", f"eval/prompts/{name}.yaml")
