"""A student that answers by rule, for tests of the evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tilth.core.records import Message
from tilth.eval import answering


class Writer:
    """Stands where a loaded student does: answers by rule, remembers what it was asked, dies at its `dies_at`-th batch.

    The likelier of two options is the one with the later letter.
    """

    def __init__(self, dies_at: int = 0) -> None:
        self.asked: list[str] = []
        self.tried: list[str] = []
        self.lengths: set[int] = set()
        self.system: list[str] = []
        self.loads = 0
        self._batches, self._dies_at, self._folder = 0, dies_at, Path()

    @contextlib.contextmanager
    def loaded(self, folder: Path, batch_size: int) -> Iterator[Writer]:
        self.loads += 1
        self._folder = folder
        yield self

    def answers(self, conversations: Sequence[Sequence[Message]], max_new_tokens: int) -> Iterator[dict[int, str]]:
        self.lengths.add(max_new_tokens)
        self.system += [turns[0].content for turns in conversations if turns[0].role == "system"]
        for index, turns in enumerate(conversations):
            self._batches += 1
            if self._batches == self._dies_at:
                raise KeyboardInterrupt
            self.asked.append(turns[-1].content)
            yield {index: self.answer(turns[-1].content)}

    def answer(self, question: str) -> str:
        return f"answer {question.rsplit(maxsplit=1)[-1][:-1]} of {self._folder.name}"

    def log_probs(self, conversations: Sequence[Sequence[Message]], texts: Sequence[str]) -> Iterator[dict[int, float]]:
        for index, text in enumerate(texts):
            self._batches += 1
            if self._batches == self._dies_at:
                raise KeyboardInterrupt
            self.tried.append(f"{conversations[index][-1].content} {text}")
            yield {index: float(ord(text[0]) * len(text))}


def put_writer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Writer]:
    """What puts a fresh one in the student's place."""

    def put(dies_at: int = 0) -> Writer:
        new = Writer(dies_at)
        monkeypatch.setattr(answering, "loaded", new.loaded)
        return new

    return put


def fake_model(folder: Path, weights: bytes = b"w") -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text("{}")
    return folder
