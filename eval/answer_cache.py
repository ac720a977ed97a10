"""Answers that a model has given, on disk, so that it is never asked the same twice.

One file of JSON lines for each (model fingerprint, settings, device and number format); answers are appended and
fsynced as they come, so an interrupted evaluation goes on, and the base model's answers serve every later cycle. Only
texts and likelihoods are kept: scores are computed anew each time, so a mended accepted answer or score rule takes
effect at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..core.atomic import naming
from ..core.errors import DataError
from ..core.fingerprint import fingerprint

Kept = TypeVar("Kept", str, list[float])
"""An answer's text, or the log-probability of each option."""


class AnswerCache(Generic[Kept]):
    """The answers of one model under one set of settings, by what it was asked."""

    def __init__(self, folder: Path, model: str, settings: Mapping[str, Any]) -> None:
        """`model` is its fingerprint. Raises DataError when the file is broken elsewhere than at its torn end."""
        self._path = folder / f"{model}-{fingerprint(dict(settings))}.jsonl"
        self._answers: dict[str, Kept] = self._read()

    def __getitem__(self, question: str) -> Kept:
        """The answer to a question. Raises KeyError when it was not asked."""
        return self._answers[question]

    def __contains__(self, question: str) -> bool:
        """Whether the question was answered."""
        return question in self._answers

    def add(self, answers: Mapping[str, Kept]) -> None:
        """Keep answers; they are on disk when this returns."""
        lines = [json.dumps({"question": ask, "answer": said}, ensure_ascii=False) for ask, said in answers.items()]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self._path), self._path.open("ab") as file:
            file.write("".join(line + "\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())
        self._answers.update(answers)

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):  # a kill in the middle of a write leaves half a line: that answer is asked again
            os.truncate(self._path, whole)
        answers: dict[str, Any] = {}
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                entry = json.loads(line)
                answers[entry["question"]] = _checked(entry["answer"])
            except (ValueError, TypeError, KeyError) as error:
                where, fix = f"{self._path}:{number}", "remove the file and run again"
                raise DataError("not an answer of the cache", where=where, fix=fix) from error
        return answers


def _checked(answer: Any) -> Any:
    """A text, or numbers. Raises TypeError for anything else."""
    if isinstance(answer, str) or (isinstance(answer, list) and all(isinstance(each, float | int) for each in answer)):
        return answer
    raise TypeError(answer)
