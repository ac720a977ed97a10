"""Models answer questions: each alone, greedily, and never the same one twice.

A folder is loaded once, if anything is missing, and what it answers is on disk batch by batch. A server is asked
through the ledger, as the teacher is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ..core.choices import with_options
from ..core.config import Config, ModelServer
from ..core.errors import ModelError
from ..core.progress import Progress, Task
from ..core.records import Message, Question
from ..llm.ask import BadAnswer, Gateway, RequestFailed, Stats
from ..llm.endpoint import identity
from ..llm.ledger import Ledger
from ..llm.local import Student, loaded
from ..llm.loop import run_to_end
from ..llm.models import Endpoint, Folder, Gguf, Model
from ..llm.precision import computed_in
from .answer_cache import AnswerCache
from .choice import likeliest


class Asked(NamedTuple):
    """A question as a model is asked it."""

    question: Question
    prompt: str
    """What stands in the user's turn."""
    max_new_tokens: int
    """Of the answer; 0: the likeliest of the question's options is the answer."""

    @property
    def tries_options(self) -> bool:
        """Whether each option is tried as the answer, instead of asking for one."""
        return self.max_new_tokens == 0

    @property
    def key(self) -> str:
        """What it is kept under: the prompt, and the options that are tried."""
        return with_options(self.prompt, self.question.options) if self.tries_options else self.prompt


class Said(NamedTuple):
    """What a model said to it; `problem`: why it said nothing."""

    text: str
    problem: str = ""


class Answering(NamedTuple):
    """What every model is asked with."""

    config: Config
    cache: Path
    """The folder of what model folders answered before."""
    ledger: Path
    """The file of what judge and servers said before."""
    progress: Progress


def answers_of(name: str, model: Model, fingerprint: str, asked: Sequence[Asked], by: Answering) -> list[Said]:
    """The model's answer to each question. Raises ModelError, DataError."""
    if isinstance(model, Folder):
        return _Sheet(model, fingerprint, by).filled(name, asked)
    try:
        return run_to_end(_of_server(name, model, asked, by))
    except ModelError as error:
        fix = "look at its server, or name another model" if f"{_ROLE}." in error.fix else error.fix
        raise ModelError(error.what, where=error.where or name, fix=fix) from error


class _Sheet:
    """The answers of a model folder, those that it gave before and those that are missing."""

    def __init__(self, model: Folder, fingerprint: str, by: Answering) -> None:
        self._model, self._fingerprint, self._by = model, fingerprint, by
        self._texts: dict[int, AnswerCache[str]] = {}
        self._log_probs = AnswerCache[list[float]](by.cache, fingerprint, self._settings(options="likelihood"))

    def filled(self, name: str, asked: Sequence[Asked]) -> list[Said]:
        missing = list({(each.max_new_tokens, each.key): each for each in asked if not self._has(each)}.values())
        self._by.progress.say(f"{name}: {len(missing)} of {len(asked)} held-out questions to answer")
        if missing:
            told = self._by.progress.task(f"answering with {name}", total=len(missing), unit="answers")
            with told as task, loaded(self._model.path, self._by.config.eval.batch_size) as student:
                missing.sort(key=_length)
                for length, group in groupby(missing, key=_length):
                    self._answer(student, list(group), length, task)
        return [Said(self._said(each)) for each in asked]

    def _answer(self, student: Student, asked: Sequence[Asked], length: int, task: Task) -> None:
        conversations = [_conversation(each.prompt, self._model.system_prompt) for each in asked]
        if not length:
            self._try_options(student, asked, conversations, task)
            return
        for batch in student.answers(conversations, length):
            self._of_length(length).add({asked[index].key: text for index, text in batch.items()})
            task.advance(len(batch))

    def _try_options(
        self, student: Student, asked: Sequence[Asked], conversations: Sequence[list[Message]], task: Task
    ) -> None:
        """Options of one question may lie in two batches: it is kept when all of its own are known."""
        pairs = [(index, place) for index, each in enumerate(asked) for place in range(len(each.question.options))]
        texts = [asked[index].question.options[place] for index, place in pairs]
        known: dict[int, dict[int, float]] = {index: {} for index in range(len(asked))}
        for batch in student.log_probs([conversations[index] for index, _ in pairs], texts):
            for at, value in batch.items():
                index, place = pairs[at]
                known[index][place] = value
            whole = [index for index, values in known.items() if len(values) == len(asked[index].question.options)]
            done = {index: known.pop(index) for index in whole}
            self._log_probs.add({asked[i].key: [values[at] for at in sorted(values)] for i, values in done.items()})
            task.advance(len(done))

    def _has(self, asked: Asked) -> bool:
        return asked.key in (self._log_probs if asked.tries_options else self._of_length(asked.max_new_tokens))

    def _said(self, asked: Asked) -> str:
        if asked.tries_options:
            return likeliest(asked.question.options, self._log_probs[asked.key])
        return self._of_length(asked.max_new_tokens)[asked.key]

    def _of_length(self, max_new_tokens: int) -> AnswerCache[str]:
        if max_new_tokens not in self._texts:
            settings = self._settings(max_new_tokens=max_new_tokens)
            self._texts[max_new_tokens] = AnswerCache[str](self._by.cache, self._fingerprint, settings)
        return self._texts[max_new_tokens]

    def _settings(self, **own: str | int) -> Mapping[str, str | int]:
        return {"system_prompt": self._model.system_prompt, **computed_in(), **own}


def _length(asked: Asked) -> int:
    return asked.max_new_tokens


def _conversation(question: str, system_prompt: str) -> list[Message]:
    system = [Message(role="system", content=system_prompt)] if system_prompt else []
    return [*system, Message(role="user", content=question)]


# Servers -------------------------------------------------------------------------------------------------------------

_ROLE = "model"
"""No section of `tilth.yaml`, as other roles are."""


def server_of(model: Endpoint | Gguf) -> ModelServer:
    """How the model is served: by the user, or by tilth itself."""
    return model.server if isinstance(model, Endpoint) else ModelServer(model=str(model.path))


def served_as(model: Endpoint | Gguf) -> str:
    """What names a served model: with its address, for two servers may call two models by one name."""
    server = server_of(model)
    return " at ".join([identity(server), *filter(None, [", ".join(server.base_url)])])


async def _of_server(name: str, model: Endpoint | Gguf, asked: Sequence[Asked], by: Answering) -> list[Said]:
    async with contextlib.AsyncExitStack() as stack:
        book = stack.enter_context(Ledger(by.ledger))
        seed, known_as = by.config.seed, served_as(model)
        gateway = Gateway(server_of(model), book, by.progress, seed=seed, role=_ROLE, known_as=known_as)
        await stack.enter_async_context(gateway)
        task = stack.enter_context(by.progress.task(f"answering with {name}", total=len(asked), unit="answers"))
        system_prompt = model.system_prompt if isinstance(model, Gguf) else ""
        said = await asyncio.gather(*(_asked(each, system_prompt, gateway, task) for each in asked))
        if isinstance(model, Endpoint):
            say_kept(name, gateway.stats, seed, by.progress)
        return list(said)


def say_kept(name: str, stats: Stats, seed: int, progress: Progress) -> None:
    """Say that a server's answers of before are used again: nobody can tell whether it serves the same weights."""
    if stats.kept:
        when = f"since {stats.oldest[:16].replace('T', ' ')} UTC"
        anew = f"if another model is served there now, give it another name or ask anew with `--set seed={seed + 1}`"
        progress.say(
            f"{name}: {stats.kept} of {stats.asked} answers were given before, {when}, and are used again; {anew}"
        )


async def _asked(asked: Asked, system_prompt: str, gateway: Gateway, task: Task) -> Said:
    """An empty answer is an answer, and so is a refusal to answer this one: neither is right."""
    try:
        answer = await gateway.ask(
            _conversation(asked.prompt, system_prompt),
            leaf=asked.question.leaf,
            step="evaluation",
            max_tokens=asked.max_new_tokens,
        )
    except BadAnswer:
        return Said("", "it answered nothing")
    except RequestFailed as failed:
        return Said("", failed.what)
    finally:
        task.advance()
    return Said(answer.text.strip())
