"""A general instruction set, replayed so that the student keeps what it could do before any leaf.

It is the user's, or a list of prompts that the base model answers itself: what it says of itself holds it where it was,
and nobody needs data. The user's is JSON lines, each
`{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}`: a system turn first or none,
then the user and the assistant in turn. Other keys are passed over.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ..core.errors import DataError
from ..core.fingerprint import file_sha256, fingerprint
from ..core.records import Message, Provenance, Sample
from ..core.wording import first_fault
from .plan import Plan

GENERAL_LEAF = "general"
_USUAL_ANSWER = " ".join(["word"] * 20)
"""Stands for the answer to a prompt until a model has given one: about as long."""
_LOOKS_LIKE = (
    'write each line as {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
)


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)

    messages: tuple[Message, ...]

    @model_validator(mode="after")
    def _in_turn(self) -> _Row:
        roles = [message.role for message in self.messages]
        turns = roles[1:] if roles[:1] == ["system"] else roles
        if not turns or turns != ["user", "assistant"] * (len(turns) // 2):
            raise ValueError("the user and the assistant do not speak in turn, the assistant last")
        if not all(message.content.strip() for message in self.messages):
            raise ValueError("a message is empty")
        return self


def read_general(file: Path) -> list[Sample]:
    """The conversations of a file as samples of no leaf of the taxonomy, none twice. Raises DataError."""
    try:
        sha256 = file_sha256(file)
        rows = list(_rows(file))
    except OSError as error:
        fix = "set replay.general_file to a JSONL of conversations, by its path from the plan's folder"
        raise DataError(f"cannot be read ({error.strerror})", where=str(file), fix=fix) from error
    if not rows:
        raise DataError("there is no conversation in it", where=str(file), fix=_LOOKS_LIKE)
    source = _source(sha256)
    samples = [Sample(id=_id(row), kind="skill", messages=row.messages, source=source) for row in rows]
    return list({sample.id: sample for sample in samples}.values())


@functools.cache
def general_prompts() -> tuple[Sample, ...]:
    """The shipped prompts, none answered yet."""
    return tuple(Sample.new("skill", prompt, _USUAL_ANSWER, _source("")) for prompt in _prompts())


def may_be_right(sample: Sample) -> bool:
    """Whether the answer to a shipped prompt comes to the number that it asks for; of other prompts nothing is known.

    A model is not to learn its own wrong sums by heart: it gets all others wrong by them (docs/log.md).
    """
    number = _prompts().get(sample.question, "")
    return not number or sample.answer == _USUAL_ANSWER or re.findall(r"\d+", sample.answer)[-1:] == [number]


@functools.cache
def _prompts() -> dict[str, str]:
    """Each with the number that it asks for, if it asks for one."""
    lines = (Path(__file__).parent / "general_prompts.txt").read_text().splitlines()
    parts = [line.partition(" => ") for line in lines if line and not line.startswith("#")]
    return {prompt: number for prompt, _, number in parts}


def general_samples(plan: Plan) -> list[Sample]:
    """All that phases of the plan may replay so. Raises DataError."""
    files = {phase.replay.general_file: None for phase in plan.phases if phase.replay.general_file}
    samples = [sample for file in files for sample in read_general(Path(file))]
    return list({sample.id: sample for sample in samples}.values())


def _source(fingerprint_of_all: str) -> Provenance:
    return Provenance(
        leaf=GENERAL_LEAF,
        leaf_fingerprint=fingerprint_of_all,
        commit="",
        recipe="",
        recipe_fingerprint="",
        teacher=GENERAL_LEAF,
    )


def _rows(file: Path) -> Iterator[_Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if line.strip():
                    yield _Row.model_validate_json(line)
            except ValidationError as error:
                what = f"not a conversation: {first_fault(error)}"
                raise DataError(what, where=f"{file}:{number}", fix=_LOOKS_LIKE) from error


def _id(row: _Row) -> str:
    return fingerprint([GENERAL_LEAF, [message.model_dump() for message in row.messages]])
