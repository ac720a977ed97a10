"""A student as lm-evaluation-harness asks it: the weights that `llm.local` loads, and a memory of what they answered.

The harness has a memory of its own, but that one is pickled: whoever could put a file into a workspace could run code.
Here it is the answer cache of the held-out questions, so an interrupted benchmark goes on where it stopped, and tasks
that ask the same share the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ..core.fingerprint import canonical_json, text_sha256
from ..core.progress import Task
from ..llm.local import load
from .answer_cache import AnswerCache

_PER_WRITE = 64
"""Answers between two writes of the cache: what a kill can cost. Each write waits for the disk."""


@contextmanager
def remembering_student(folder: Path, known: AnswerCache[str], batch_size: int, task: Task) -> Generator[Any]:
    """The model of a folder as lm-eval's `HFLM`, greedy answers and likelihoods remembered. Raises ModelError."""
    harness: Any = import_module("lm_eval.models.huggingface")
    model, tokenizer = load(folder)

    class Student(harness.HFLM):
        """Asks itself only what it does not remember."""

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return memory.answers("loglikelihood", requests, super().loglikelihood)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return memory.answers("loglikelihood_rolling", requests, super().loglikelihood_rolling)

        def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return memory.answers("generate_until", requests, super().generate_until)

    memory = _Memory(known, task)
    student: Any = Student(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    student.set_cache_hook(memory)
    try:
        yield student
    finally:
        memory.write()


class _Memory:
    """What was answered; the harness tells it each answer as it comes (`add_partial`, the name that it calls)."""

    def __init__(self, known: AnswerCache[str], task: Task) -> None:
        self._known, self._task = known, task
        self._fresh: dict[str, str] = {}

    def answers(self, method: str, requests: Sequence[Any], ask: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """The answers to requests of one method, in their order; each that differs is asked once."""
        if any(_is_sampled(request.args) for request in requests):
            return ask(list(requests))  # the same answer twice would be no sample
        asked = {_key(method, request.args): request for request in requests}
        missing = {key: request for key, request in asked.items() if key not in self._known}
        self._task.grow(len(missing))
        if missing:
            ask(list(missing.values()))
            self.write()
        return [_value(self._known[_key(method, request.args)]) for request in requests]

    def add_partial(self, method: str, arguments: Any, answer: Any) -> None:
        """Keep one answer."""
        if _is_sampled(arguments):
            return
        self._fresh[_key(method, arguments)] = json.dumps(answer)
        self._task.advance()
        if len(self._fresh) >= _PER_WRITE:
            self.write()

    def write(self) -> None:
        """Bring what is new to the disk."""
        if self._fresh:
            self._known.add(self._fresh)
            self._fresh = {}


def _is_sampled(arguments: Sequence[Any]) -> bool:
    return any(isinstance(part, Mapping) and bool(part.get("do_sample")) for part in arguments)


def _key(method: str, arguments: Sequence[Any]) -> str:
    return text_sha256(canonical_json([method, list(arguments)]))


def _value(text: str) -> Any:
    """As the harness gave it: a likelihood and whether it is the greedy answer are a pair."""
    answer = json.loads(text)
    return tuple(answer) if isinstance(answer, list) else answer
