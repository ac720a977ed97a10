"""The shapes in which samples are exported: those that trainers read, and what each column of them holds.

Columns are written down as the types of a row: a name of Hugging Face's (`string`, `int64`), a list of one type, or
names with their types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from ..core.errors import DataError
from ..core.records import Candidate, Message, Preference, Provenance, Record, Sample

Row = dict[str, Any]
Columns = Mapping[str, Any]
Exported = Sample | Preference

_TURNS = [{"role": "string", "content": "string"}]
_UNMASK = {"unmask": "bool"}
"""Whether the user's turn is to be trained too."""
_TOLD = {"id": "string", "kind": "string", "leaf": "string"}
"""What every row says of its sample."""


@dataclass(frozen=True)
class Format:
    """A shape: its own columns, how a sample becomes a row of them, and whether files are Parquet or JSON lines."""

    own_columns: Columns
    own_row: Callable[[Any], Row]
    """Of a Sample, or with `pairs` of a Preference. Raises DataError when the shape cannot hold it."""
    parquet: bool = False
    pairs: bool = False

    @property
    def columns(self) -> Columns:
        """Its own and those that tell of the sample."""
        return {**self.own_columns, **_TOLD}

    def row(self, sample: Exported, leaf: str) -> Row:
        """A row of all columns, `leaf` being its leaf's path now. Raises DataError when the shape cannot hold it."""
        return {**self.own_row(sample), "id": sample.id, "kind": sample.kind, "leaf": leaf}


def _columns_of(record: type[Record], **known: Any) -> dict[str, Any]:
    """The fields of a record, and their types where these are not `known`."""
    return {name: known.get(name) or _type(field.annotation) for name, field in record.model_fields.items()}


def _type(annotation: Any) -> Any:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in {Union, UnionType}:
        return _type(inner[0])  # or None: every column may be empty
    if origin is tuple:
        return [_type(inner[0])]
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return _columns_of(annotation)
    return {int: "int64", float: "float64"}.get(annotation, "string")


def _messages(sample: Sample) -> Row:
    return {"messages": _turns(sample.messages), "unmask": sample.unmask}


def _prompt_completion(sample: Sample) -> Row:
    *before, last = sample.messages
    return {"prompt": _turns(before), "completion": _turns([last]), "unmask": sample.unmask}


def _preference(pair: Preference) -> Row:
    sides = {name: _turns(getattr(pair, name)) for name in ("prompt", "chosen", "rejected")}
    candidates = [candidate.model_dump(mode="json") for candidate in pair.candidates]
    scores = {"score_chosen": pair.score_chosen, "score_rejected": pair.score_rejected}
    return {**sides, **scores, "candidates": candidates}


def _alpaca(sample: Sample) -> Row:
    if [message.role for message in sample.messages] != ["user", "assistant"]:
        what = "a conversation of more than a question and an answer has no place in this format"
        raise DataError(what, where=f"sample {sample.id}", fix="use --format messages")
    return {"instruction": sample.question, "input": "", "output": sample.answer}


def _sharegpt(sample: Sample) -> Row:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[turn.role], "value": turn.content} for turn in sample.messages]}


def _turns(messages: Sequence[Message]) -> list[Row]:
    return [message.model_dump() for message in messages]


_MESSAGES = {"messages": _TURNS, **_UNMASK}
_PAIR = {
    "prompt": _TURNS, "chosen": _TURNS, "rejected": _TURNS, "score_chosen": "float64", "score_rejected": "float64",
    "candidates": [_columns_of(Candidate)],
}  # fmt: skip
FORMATS: Mapping[str, Format] = {
    "messages": Format(_MESSAGES, _messages),
    "prompt-completion": Format({"prompt": _TURNS, "completion": _TURNS, **_UNMASK}, _prompt_completion),
    "preference": Format(_PAIR, _preference, pairs=True),
    "alpaca": Format({"instruction": "string", "input": "string", "output": "string"}, _alpaca),
    "sharegpt": Format({"conversations": [{"from": "string", "value": "string"}]}, _sharegpt),
    "parquet": Format(_MESSAGES, _messages, parquet=True),
}
"""`prompt-completion` and `preference` are TRL's, as conversations; it passes over what columns they have besides."""

PROVENANCE: Columns = {
    "id": "string", **_columns_of(Provenance, grades=[{"step": "string", "grade": "string"}])
}  # fmt: skip
"""Where each sample came from, a table of its own."""


def provenance_row(sample: Exported) -> Row:
    """A row of `PROVENANCE`."""
    grades = [{"step": step, "grade": grade} for step, grade in sorted(sample.source.grades.items())]
    return {"id": sample.id, **sample.source.model_dump(mode="json"), "grades": grades}
