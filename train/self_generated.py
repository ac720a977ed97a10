"""Earlier prompts, answered by the model that training starts from, before it does: replay in its own words.

What a model says of itself costs it little to keep saying, so training on it holds it where it was (Marek et al.,
arXiv 2605.26097); what it might have said as well holds it better (docs/log.md). The answers stand in the run's folder:
a run that goes on has the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from ..core.fingerprint import fingerprint
from ..core.jsonl import read_records, write_records
from ..core.progress import Progress
from ..core.records import Message, Record, Sample
from ..llm.likely import MOST, Likely
from ..llm.local import Said, context_tokens, generate, opening, prompt_tokens
from ..llm.untrusted import open_config
from .data import OwnSample
from .load import weights_sha256

OWN_NAME = "self-generated.jsonl"
GENERAL_ANSWERS_NAME = "general-answers.jsonl"
OWN_TOKENS, GENERAL_TOKENS = 256, 96
"""The longest answers to earlier prompts, and to general ones: there is no want of short ones there."""
_AT_ONCE, _BATCH = 256, 32
"""Answers that a kill can cost at most, and those that are given side by side."""

AnswerOwn = Callable[[Sequence[Sample]], list[Sample]]
"""Samples with the student's own answers instead of theirs, without those to which it has none that can be used."""


def as_they_are(samples: Sequence[Sample]) -> list[Sample]:
    """Stands in for the student where no model is run: the samples with the answers that they have."""
    return list(samples)


class _Answer(Record):
    """What the model said to a prompt."""

    prompt: str
    """A hash of the model and of all that it was asked with."""
    answer: str
    likely: str = ""
    """The text of a `Likely`; of what was kept before there were any: none."""


@dataclass(frozen=True)
class OwnAnswers:
    """Asks the model in a folder; is an `AnswerOwn`."""

    model: Path
    tokenizer: Any
    system_prompt: str
    file: Path
    """Where the answers are kept."""
    most_tokens: int
    """Of an answer; one that has more is not used."""
    may_train: Callable[[Sample], bool]
    progress: Progress
    asks: bool = True
    """Else no model is run: the samples stay as they are where one has no answer yet."""

    def __call__(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples with its answers, but for those to which it said nothing, did not end or may not say it.

        Nor is it asked what leaves no room for an answer. Raises ModelError, DataError.
        """
        rooms = {sample.id: self._room(sample) for sample in samples}
        samples = [sample for sample in samples if rooms[sample.id] > 0]
        known = {each.prompt: each for each in read_records(self.file, _Answer)} if self.file.exists() else {}
        missing = [sample for sample in samples if self._prompt(sample) not in known]
        if missing and not self.asks:
            return as_they_are(samples)
        for start in range(0, len(missing), _AT_ONCE):
            some = missing[start : start + _AT_ONCE]
            for prompt, said in zip(map(self._prompt, some), self._answers(some), strict=True):
                known[prompt] = _Answer(prompt=prompt, answer=said.text, likely=said.likely.text)
            write_records(self.file, (known[prompt] for prompt in sorted(known)))
        found = [(sample, self._whole(known[self._prompt(sample)])) for sample in samples]
        whole = [_answered(sample, said) for sample, said in found if self._ended(said.answer, rooms[sample.id])]
        return [sample for sample in whole if self.may_train(sample)]

    @cached_property
    def _weights_sha256(self) -> str:
        return weights_sha256(self.model)

    def _answers(self, samples: Sequence[Sample]) -> list[Said]:
        conversations = [self._asked(sample) for sample in samples]
        return generate(
            self.model, conversations, max_new_tokens=self.most_tokens, batch_size=_BATCH, progress=self.progress
        )

    def _whole(self, said: _Answer) -> _Answer:
        """Looked at when it is used: other versions of tilth kept other numbers of tokens, under other prompts."""
        try:
            Likely(said.likely).arrays()
        except ValueError as error:
            what = f"an answer's probabilities are not as they were written ({error})"
            raise DataError(what, where=str(self.file), fix="delete the file: the model answers again") from error
        return said

    def _asked(self, sample: Sample) -> tuple[Message, ...]:
        asked = sample.messages[:-1]
        if not self.system_prompt or asked[0].role == "system":
            return asked
        return Message(role="system", content=self.system_prompt), *asked

    def _prompt(self, sample: Sample) -> str:
        asked = [message.model_dump() for message in self._asked(sample)]
        return fingerprint([self._weights_sha256, asked, self.most_tokens, MOST])

    def _room(self, sample: Sample) -> int:
        """How many tokens its answer may have."""
        context = context_tokens(self._config, self.tokenizer)
        return min(self.most_tokens, context - len(prompt_tokens(self.tokenizer, self._asked(sample), self.model)))

    @cached_property
    def _config(self) -> Any:
        return open_config(self.model)

    def _ended(self, answer: str, room: int) -> bool:
        said = self.tokenizer(opening(self.tokenizer) + answer, add_special_tokens=False).input_ids
        return bool(answer) and len(said) < room - 1


def _answered(sample: Sample, said: _Answer) -> OwnSample:
    messages = *sample.messages[:-1], Message(role="assistant", content=said.answer)
    source = sample.source.model_copy(update={"teacher": "student", "requests": (), "grades": {}})
    id_ = fingerprint(["self_generated", sample.id, said.answer])
    changed = {"id": id_, "messages": messages, "source": source, "likely": said.likely}
    return OwnSample.model_validate(dict(sample) | changed)
