"""The records that cross a border between stages. Frozen, typed, each with an id that follows from its content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .fingerprint import fingerprint

Kind = Literal[
    "document", "knowledge_short", "knowledge_long", "foundational", "skill", "grounded_skill", "preference", "test"
]
"""What a sample is (docs: DESIGN, section 1)."""

Role = Literal["system", "user", "assistant"]


class Record(BaseModel):
    """Base of every record: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn of a conversation."""

    role: Role
    content: str


class Provenance(Record):
    """Where a sample came from, from the commit down to the requests that made it."""

    leaf: str
    leaf_fingerprint: str
    commit: str
    """The taxonomy commit whose leaf was read."""
    document: str = ""
    """The document's path inside the taxonomy; empty where the leaf has none."""
    heading: str = ""
    span: tuple[int, int] | None = None
    """The chunk's place in the document: start and end, in characters."""
    seed_example: int | None = None
    """The index of the seed example that was shown to the teacher."""
    fact: str = ""
    """The statement that the sample was made from (knowledge only)."""
    recipe: str
    recipe_fingerprint: str
    teacher: str
    """The teacher's name; `seed` where a person wrote the sample."""
    requests: tuple[str, ...] = ()
    """Ledger keys of the requests whose answers the sample was made from, in order."""
    grades: Mapping[str, str] = Field(default_factory=dict)
    """What each judge step said of it."""


class Sample(Record):
    """One training record: a conversation whose assistant turns are trained."""

    id: str
    kind: Kind
    messages: tuple[Message, ...]
    unmask: bool = False
    """Train on the user's turn too (continued pre-training in chat form)."""
    source: Provenance

    @classmethod
    def new(cls, kind: Kind, question: str, answer: str, source: Provenance, *, unmask: bool = False) -> Sample:
        """A one-turn sample; its id is a hash of its kind, messages and mask, not of its provenance."""
        messages = (Message(role="user", content=question), Message(role="assistant", content=answer))
        identity = [kind, unmask, [message.model_dump() for message in messages]]
        return cls(id=fingerprint(identity), kind=kind, messages=messages, unmask=unmask, source=source)

    @property
    def question(self) -> str:
        """The first user turn."""
        return next(message.content for message in self.messages if message.role == "user")

    @property
    def answer(self) -> str:
        """The last turn."""
        return self.messages[-1].content


class Reject(Record):
    """A sample that a filter dropped, with the step, the reason and (where it has one) the score."""

    sample: Sample
    step: str
    reason: str
    score: str = ""


class Question(Record):
    """A held-out question of a leaf: shown to no model before the evaluation, trained on never."""

    id: str
    leaf: str
    question: str
    answers: tuple[str, ...]
    """Accepted answers; the first is the reference, the others are variants of it."""

    @classmethod
    def new(cls, leaf: str, question: str, answers: tuple[str, ...]) -> Question:
        """The id is a hash of question and answers, so an edited question is another question."""
        return cls(id=fingerprint([question, list(answers)]), leaf=leaf, question=question, answers=answers)
