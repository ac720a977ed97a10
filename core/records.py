"""The records that cross a border between stages. Frozen, typed, each with an id that follows from its content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict, Field

from .choices import with_options
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


class TokensUsed(Record):
    """What answers of a model took, whether they were paid for now or before."""

    prompt: int
    completion: int


class Place(Record):
    """Where a passage stands; the fields are as in `Provenance`."""

    document: str
    heading: str
    span: tuple[int, int]


BY_HAND = "seed"
"""In place of a teacher's name: a person wrote it."""


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
    also: tuple[Place, ...] = ()
    """The other passages that the sample rests on: a multi-hop question's second."""
    seed_example: int | None = None
    """The index of the seed example that was shown to the teacher."""
    fact: str = ""
    """The statement that the sample was made from (knowledge only)."""
    variation: tuple[str, ...] = ()
    """Who was thought to ask, and the evolutions that made the task harder, in order (skills only)."""
    recipe: str
    recipe_fingerprint: str
    teacher: str
    """The teacher's name; `BY_HAND` where a person wrote the sample, `document` where it is a passage as it stands."""
    requests: tuple[str, ...] = ()
    """Ledger keys of the requests whose answers the sample was made from, in order."""
    grades: Mapping[str, str] = Field(default_factory=dict)
    """What each judge step said of it."""


class Sample(Record):
    """One training record: a conversation whose assistant turns are trained.

    A `document` sample, for continued pre-training, is a text with its title: the title is the user's turn, the text is
    the assistant's, and both are trained (`unmask`). A blank line between them makes it plain text; the chat template
    makes it a turn like any other.
    """

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


class Candidate(Record):
    """One answer to a question that several answers were asked to, and what the grader gave it."""

    answer: str
    model: str
    """The name of the model that gave it."""
    side: Literal["", "reference", "strong", "weak"] = ""
    """`reference` is the sample's own answer, `strong` saw what the question is about: they may be chosen only. `weak`
    did not see it and may be rejected only."""
    score: float
    """The mean of the grader's votes, from 1 to 10."""
    requests: tuple[str, ...] = ()
    """Ledger keys of the answer and of its grades."""


class Preference(Record):
    """A better and a worse answer to one conversation.

    `prompt`, `chosen` and `rejected` are TRL's conversational preference format with an explicit prompt; `score_chosen`
    and `score_rejected` are its score columns.
    """

    id: str
    kind: Literal["preference"] = "preference"
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    score_chosen: float
    score_rejected: float
    candidates: tuple[Candidate, ...]
    """All that were graded, in the order in which they were asked for."""
    source: Provenance

    @classmethod
    def new(
        cls,
        question: str,
        chosen: Candidate,
        rejected: Candidate,
        candidates: tuple[Candidate, ...],
        source: Provenance,
    ) -> Preference:
        """A pair about a one-turn conversation; its id is a hash of the turns, not of scores and provenance."""
        return cls(
            id=fingerprint(["preference", question, chosen.answer, rejected.answer]),
            prompt=(Message(role="user", content=question),),
            chosen=(Message(role="assistant", content=chosen.answer),),
            rejected=(Message(role="assistant", content=rejected.answer),),
            score_chosen=chosen.score,
            score_rejected=rejected.score,
            candidates=candidates,
            source=source,
        )

    @property
    def sides(self) -> tuple[Sample, Sample]:
        """The conversation with the better answer, and the one with the worse."""
        better, worse = (
            Sample(id=self.id, kind=self.kind, messages=(*self.prompt, *answer), source=self.source)
            for answer in (self.chosen, self.rejected)
        )
        return better, worse


class Reject(Record):
    """A sample that a filter dropped, with the step, the reason and (where it has one) the score."""

    sample: Sample
    step: str
    reason: str
    score: str = ""
    candidates: tuple[Candidate, ...] = ()
    """Of a question whose answers make no pair: all of them."""


Scoring = Literal["match", "choice", "judge", "form"]
"""By the accepted answers, by the likelihood of each option, by a judge, by checks of its form."""


class HowScored(TypedDict, total=False):
    """How a question is scored and what hangs on it; the fields are as in `Question`."""

    judged: bool
    forms: tuple[str, ...]
    must_pass: bool


class Question(Record):
    """A held-out question of a leaf: shown to no model before the evaluation, trained on never."""

    id: str
    leaf: str
    question: str
    answers: tuple[str, ...]
    """Accepted answers; the first is the reference, the others are variants of it."""
    options: tuple[str, ...] = ()
    """Of a multiple-choice question: what there is to choose from, the reference among them."""
    judged: bool = False
    """Whether a judge grades the answer against the reference: there is no one wording of it."""
    forms: tuple[str, ...] = ()
    """Checks that an answer must pass, as `eval.forms` reads them; then `answers` may be empty."""
    must_pass: bool = False
    """Whether the gate refuses a model that does not answer it rightly."""
    source: Provenance | None = None
    """Where a generated question was made from; None: a person wrote it."""

    @classmethod
    def new(
        cls,
        leaf: str,
        question: str,
        answers: tuple[str, ...],
        options: tuple[str, ...] = (),
        source: Provenance | None = None,
        **how: Unpack[HowScored],
    ) -> Question:
        """The id is a hash of question, answers, options and forms, so an edited question is another question."""
        identity = [question, list(answers), *(list(part) for part in (options, how.get("forms", ())) if part)]
        return cls(
            id=fingerprint(identity),
            leaf=leaf,
            question=question,
            answers=answers,
            options=options,
            source=source,
            **how,
        )

    @property
    def scoring(self) -> Scoring:
        """How an answer to it is scored."""
        return "form" if self.forms else "choice" if self.options else "judge" if self.judged else "match"

    @property
    def asked(self) -> str:
        """The question as it is put to a model."""
        return with_options(self.question, self.options)
