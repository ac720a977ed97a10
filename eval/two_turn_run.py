"""Asking models and the judge what `two_turn` is about.

Both are asked through the ledger: what was answered before costs nothing, and a stopped run goes on.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..core.config import Config, ModelServer
from ..core.fingerprint import text_sha256
from ..core.progress import Progress, Task
from ..core.records import Message
from ..llm.ask import Answer, BadAnswer, Gateway, RequestFailed, Unanswered
from ..llm.endpoint import identity
from ..llm.ledger import Ledger
from ..llm.local_gateway import LocalGateway, LocalModel
from ..llm.loop import run_to_end
from ..llm.models import Folder, Gguf, Model
from ..llm.prompts import Prompt, harmless, read_prompt
from ..llm.turns import Turns
from .answering import say_kept, served_as, server_of
from .evaluation import Judge
from .model_fingerprint import hashes_file, model_fingerprint
from .two_turn import WORST, GradedAnswer, TwoTurn, TwoTurnQuestion


def run_two_turn(
    models: Mapping[str, Model],
    questions: Sequence[TwoTurnQuestion],
    *,
    config: Config,
    cache: Path,
    ledger: Path,
    progress: Progress,
) -> TwoTurn:
    """Have models answer both turns, and the configured judge grade the answers.

    An answer may have `eval.max_new_tokens_judged` tokens. `cache` remembers hashes of weights. Raises ModelError where
    a model or the judge cannot be used, or an endpoint did not answer.
    """
    asked = {name: _asked(model, cache) for name, model in models.items()}
    server, role = (config.judge, "judge") if config.judge else (config.teacher, "teacher")
    judge = Judge(model=identity(server), prompt=_prompt().fingerprint)
    given = run_to_end(_run(asked, questions, _Setting(config, server, role, ledger, progress)))
    return TwoTurn(
        judge=judge,
        max_new_tokens=config.eval.max_new_tokens_judged,
        models={name: each.name for name, each in asked.items()},
        questions=tuple(questions),
        answers={
            name: {question.id: pair for question, pair in zip(questions, pairs, strict=True)}
            for name, pairs in zip(asked, given, strict=True)
        },
    )


class _Gateway(Protocol):
    """What a server's gateway and a local one have in common."""

    async def ask(self, messages: Sequence[Message], *, leaf: str, step: str, max_tokens: int = 512) -> Answer: ...


class _Asked(NamedTuple):
    """A model as it is asked. `name` stands for its weights."""

    name: str
    model: LocalModel | ModelServer
    system_prompt: str


class _Setting(NamedTuple):
    """What all that is asked has in common."""

    config: Config
    judge: ModelServer
    role: str
    ledger: Path
    progress: Progress


def _asked(model: Model, cache: Path) -> _Asked:
    if isinstance(model, Folder):
        weights = model_fingerprint(model.path, hashes_file(cache))
        local = LocalModel(f"{model.name}@{weights[:8]}", lambda: model.path, model.system_prompt)
        return _Asked(weights, local, "")  # the gateway puts it there
    return _Asked(served_as(model), server_of(model), model.system_prompt if isinstance(model, Gguf) else "")


async def _run(
    asked: Mapping[str, _Asked], questions: Sequence[TwoTurnQuestion], setting: _Setting
) -> list[list[tuple[GradedAnswer, GradedAnswer]]]:
    """All models answer, one after the other, then the judge grades: no two of them share the machine."""
    with Ledger(setting.ledger) as ledger:
        said = [await _answers(name, each, questions, ledger, setting) for name, each in asked.items()]
        return await _graded(said, questions, ledger, setting)


async def _answers(
    name: str, asked: _Asked, questions: Sequence[TwoTurnQuestion], ledger: Ledger, setting: _Setting
) -> list[tuple[str, str]]:
    config, progress = setting.config, setting.progress
    async with AsyncExitStack() as stack:
        if isinstance(asked.model, LocalModel):
            gateway: _Gateway = LocalGateway(asked.model, ledger, progress, Turns())
        else:
            opened = Gateway(asked.model, ledger, progress, seed=config.seed, role=name, known_as=asked.name)
            gateway = await stack.enter_async_context(opened)
            if asked.model.base_url:
                stack.callback(say_kept, name, opened.stats, config.seed, progress)
        task = stack.enter_context(progress.task(f"answering with {name}", total=2 * len(questions), unit="answers"))
        length = config.eval.max_new_tokens_judged
        conversations = (_both(gateway, asked.system_prompt, question, length, task) for question in questions)
        return list(await asyncio.gather(*conversations))


_NOTHING = "(no answer)"
"""Stands for an empty answer in what follows it: servers refuse a turn without a text."""


async def _both(
    gateway: _Gateway, system_prompt: str, question: TwoTurnQuestion, length: int, task: Task
) -> tuple[str, str]:
    start = [Message(role="system", content=system_prompt)] if system_prompt else []
    start.append(Message(role="user", content=question.turns[0]))
    first = await _one(gateway, start, 1, length, task)
    follows = [Message(role="assistant", content=first or _NOTHING), Message(role="user", content=question.turns[1])]
    return first, await _one(gateway, [*start, *follows], 2, length, task)


async def _one(gateway: _Gateway, messages: Sequence[Message], turn: int, length: int, task: Task) -> str:
    """An answer; empty where the model said nothing, or the server refuses to be asked this."""
    try:
        answer = await gateway.ask(messages, leaf="two-turn", step=f"turn {turn}", max_tokens=length)
    except (BadAnswer, RequestFailed):
        return ""
    finally:
        task.advance()
    return answer.text.strip()


# The judge -----------------------------------------------------------------------------------------------------------


async def _graded(
    said: Sequence[Sequence[tuple[str, str]]], questions: Sequence[TwoTurnQuestion], ledger: Ledger, setting: _Setting
) -> list[list[tuple[GradedAnswer, GradedAnswer]]]:
    config, progress = setting.config, setting.progress
    async with AsyncExitStack() as stack:
        opened = Gateway(setting.judge, ledger, progress, seed=config.seed, role=setting.role)
        gateway = await stack.enter_async_context(opened)
        total = 2 * len(questions) * len(said)
        task = stack.enter_context(progress.task("judging", total=total, unit="answers"))

        async def pair(question: TwoTurnQuestion, texts: tuple[str, str]) -> tuple[GradedAnswer, GradedAnswer]:
            first, second = await asyncio.gather(*(_grade(gateway, question, texts, turn, task) for turn in (1, 2)))
            return first, second

        async def model(texts: Sequence[tuple[str, str]]) -> list[tuple[GradedAnswer, GradedAnswer]]:
            return list(await asyncio.gather(*map(pair, questions, texts)))

        return list(await asyncio.gather(*map(model, said)))


async def _grade(
    gateway: Gateway, question: TwoTurnQuestion, texts: tuple[str, str], turn: int, task: Task
) -> GradedAnswer:
    """Nothing is the worst answer: no judge is asked about it."""
    text = texts[turn - 1]
    try:
        if not text:
            return GradedAnswer(text=text, grade=WORST, reason="there is no answer")
        variables = _variables(question, texts[:turn])
        prompt = _prompt()
        answer = await gateway.ask(
            prompt.messages(**variables),
            leaf="two-turn",
            step=f"judge of turn {turn}",
            schema=prompt.schema(**variables),
            max_tokens=prompt.max_tokens(**variables),
            temperature=prompt.file.temperature,
        )
    except (RequestFailed, Unanswered) as failed:
        return GradedAnswer(text=text, grade=None, reason=failed.what)
    finally:
        task.advance()
    return GradedAnswer(text=text, grade=answer.data["grade"], reason=answer.data["reason"])


def _variables(question: TwoTurnQuestion, texts: Sequence[str]) -> dict[str, Any]:
    """`mark` is of what was written, so nobody can write it."""
    references = [*question.reference, "", ""]
    rounds = [
        {"question": asked, "reference": reference, "answer": harmless(text) or _NOTHING}
        for asked, reference, text in zip(question.turns, references, texts, strict=False)
    ]
    return {"rounds": rounds, "mark": text_sha256("\n".join(texts))[:8]}


@functools.cache
def _prompt() -> Prompt:
    return read_prompt(Path(__file__).parent / "prompts" / "two_turn.yaml", "eval/prompts/two_turn.yaml")
