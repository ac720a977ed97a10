"""What a flow is written against: `ask`, rows that fail alone, and what comes out of them.

A flow is a coroutine over one leaf. Every model call is one `await run.ask(...)`, control flow is plain Python, and
there is no barrier between rows: an answer that arrives starts its children at once. A flow keeps no state on disk;
run again over a warm ledger it makes the same samples without a call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from ..core.records import BY_HAND, Kind, Preference, Provenance, Question, Record, Reject, Sample
from ..llm.ask import BadAnswer, Gateway, RequestFailed, Unanswered
from ..llm.local_gateway import LocalGateway
from ..taxonomy.leaf import Leaf, SeedExample
from .filters import Drop, Duplicates, Filter, first_drop, not_held_out
from .judges import Judge, Judgement, Pair, judgement
from .recipe import Recipe


class Failure(Record):
    """A row that ended early because a model did not answer, or not as the prompt's schema asks."""

    step: str
    reason: str
    request: str
    """The ledger key, where the raw answer can be read."""
    source: Provenance


Outcome = Sample | Preference | Question | Reject | Failure

Model = Gateway | LocalGateway

Result = TypeVar("Result")

_LOOK_AGAIN_S = 0.02
"""How long a row may take before we look whether it waits for a model, and others can be begun beside it."""


class Reply(NamedTuple):
    """An answer, parsed or (from a prompt without a schema) as text, and the provenance of whatever is made of it."""

    data: Any
    source: Provenance
    is_cut: bool = False
    """It is plain text that ends at the prompt's `max_tokens`."""

    @property
    def items(self) -> list[Any]:
        """The items of an answer to a prompt with `repeat`, in the order they were asked for."""
        return [self.data[f"q{number}"] for number in range(1, len(self.data) + 1)]


class RowFailed(Exception):
    """Ends one row, and no other."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


@dataclass
class Tally:
    """What the flow of one leaf has done so far."""

    asked: Counter[str] = field(default_factory=Counter[str])
    """Requests by step."""
    paid: Counter[str] = field(default_factory=Counter[str])
    """Those of them that neither the ledger nor another request answered."""
    keys: set[str] = field(default_factory=set[str])
    """The ledger keys of all answers."""
    answers: int = 0
    """How many came, cached ones too."""
    unanswered: dict[str, str] = field(default_factory=dict[str, str])
    """Ledger key -> what came instead of an answer, of requests tried in vain: made without them, a leaf is not all."""


@dataclass(frozen=True)
class LeafRun:
    """One leaf on its way through its flow."""

    leaf: Leaf
    recipe: Recipe
    source: Provenance
    """What all samples of the leaf have in common."""
    teacher: Gateway
    judge: Gateway
    tally: Tally
    told: Callable[[str], None]
    """Called with "" for every answer, and with `accepted`, `rejected` or `failed` for every outcome."""
    seed: int = 0
    """What draws follow from."""
    others: Mapping[str, Model] = field(default_factory=dict[str, Model])
    """Other models by their part: `base`, `student`, and the two of a pair of endpoints, `first` and `second`."""

    def holding_out(self, questions: Sequence[Question]) -> LeafRun:
        """The same, with more questions that nothing may repeat."""
        leaf = self.leaf.model_copy(update={"questions": (*self.leaf.questions, *questions)})
        return replace(self, leaf=leaf)

    async def ask(
        self,
        step: str,
        source: Provenance,
        variables: Mapping[str, Any],
        *,
        index: int = 0,
        model: Model | None = None,
        may_be_cut: bool = False,
    ) -> Reply:
        """Put the recipe's prompt for `step` to the teacher, or to another model.

        Raises RowFailed when the answer is not as the prompt's schema asks, is cut or does not come while others do,
        ModelError when none comes at all.
        """
        reply = await self._put(model or self.teacher, step, source, variables, index)
        if reply.is_cut and not may_be_cut:
            limit = self.recipe.prompts[step].max_tokens(**variables)
            what, request = f"the answer was cut at the {limit:,} tokens of its prompt", reply.source.requests[-1]
            raise RowFailed(Failure(step=step, reason=what, request=request, source=source))
        return reply

    async def rows(self, works: Iterable[Coroutine[Any, Any, list[Outcome]]]) -> list[Outcome]:
        """Run rows at once and return their outcomes in the order of `works`, whatever order they end in.

        A row that fails leaves its Failure and harms no other. Any other error ends all of them and is raised.
        """
        return [outcome for row in await all_of(self._row(work) for work in works) for outcome in row]

    async def until(
        self, quota: Mapping[Kind, int], works: Iterable[Callable[[], Coroutine[Any, Any, list[Outcome]]]]
    ) -> list[Outcome]:
        """Run rows until so many samples of each kind are accepted, in the order of `works`, which may have no end.

        What comes out follows from that order alone: rows that end early wait for those before them, and what was begun
        behind the last one that counts is stopped. While the ledger has all answers, nothing is begun ahead, so that a
        finished leaf can be made again from the answers that it rests on.
        """
        outcomes: list[Outcome] = []
        accepted: Counter[Kind] = Counter()
        begun: deque[asyncio.Task[list[Outcome]]] = deque()
        left = iter(works)
        async with together() as group:
            while not quota or any(accepted[kind] < number for kind, number in quota.items()):
                ahead = self.teacher.most if self._is_paying() else 1
                begun += [group.create_task(self._row_of(make)) for make in islice(left, max(0, ahead - len(begun)))]
                if not begun:
                    break
                done, _ = await asyncio.wait([begun[0]], timeout=None if ahead > 1 else _LOOK_AGAIN_S)
                if done:
                    ended = self.settled(begun.popleft().result())
                    accepted.update(outcome.kind for outcome in ended if isinstance(outcome, Sample))
                    outcomes += ended
            for row in begun:
                row.cancel()
        return outcomes

    def _is_paying(self) -> bool:
        """Whether the ledger has not all answers of this leaf."""
        asking = self.teacher.is_asking(self.leaf.id) or self.judge.is_asking(self.leaf.id)
        return asking or bool(self.tally.paid.total())

    @cached_property
    def not_held_out(self) -> Filter:
        """Drops what repeats a held-out question of the leaf."""
        return not_held_out(self.leaf.questions, self.recipe.likeness)

    @cached_property
    def _kept(self) -> Duplicates:
        """What was accepted in the rows whose turn has come."""
        return Duplicates(self.recipe.settings.near_duplicate)

    @cached_property
    def _unjudged(self) -> dict[tuple[str, tuple[str, ...]], Sample]:
        """Id and requests of judged samples, or a failed judge's request and those before it -> as they were before."""
        return {}

    def settled(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """The outcomes of a row whose turn has come: what asks the same as a sample before it becomes a reject.

        It is the same reject whether `grade` saw in time that it needs no judge, or the judge said yes, no or failed.
        """
        return [self._settled(outcome) for outcome in outcomes]

    def _settled(self, outcome: Outcome) -> Outcome:
        match outcome:
            case Sample():
                judged = outcome
            case Reject(step="judge" | "duplicates"):
                judged = outcome.sample
            case Failure():
                judged = self._unjudged.get((outcome.request, outcome.source.requests))
            case _:
                judged = None
        if judged and (drop := self._kept.drop(judged)):
            return _duplicate(self._unjudged.get((judged.id, judged.source.requests), judged), drop)
        if isinstance(outcome, Sample):
            self._kept.add(outcome)
        return outcome

    def reject(self, sample: Sample, drop: Drop) -> Reject:
        """The reject of what a filter dropped."""
        self.told("rejected")
        return Reject(sample=sample, step="filters", reason=drop.reason, score=drop.score)

    def fail(self, failure: Failure) -> Failure:
        """The failure, counted."""
        self.told("failed")
        return failure

    async def grade(
        self, sample: Sample, filters: Sequence[Filter], step: str, variables: Mapping[str, Any]
    ) -> Outcome:
        """The end of every row: the filters, then (where the recipe wants it) the judge, asked with the prompt `step`.

        What is known to repeat an earlier sample is not judged. Raises RowFailed and ModelError.
        """
        if drop := first_drop(sample, filters):
            return self.reject(sample, drop)
        if drop := self._kept.drop(sample):
            self.told("rejected")
            return _duplicate(sample, drop)
        if not self.recipe.settings.judge:
            return self._accept(sample)
        try:
            return self._graded(sample, await self._judged(sample, sample.question, step, variables))
        except RowFailed as failed:
            self._unjudged[failed.failure.request, failed.failure.source.requests] = sample
            raise

    async def grade_by_asking(self, sample: Sample, question: str, step: str, variables: Mapping[str, Any]) -> Outcome:
        """The end of a row about a text: as `judged`, if the recipe wants a judge. Raises RowFailed and ModelError."""
        if not self.recipe.settings.judge:
            return self._accept(sample)
        return self._graded(sample, await self.judged(sample, question, step, variables))

    async def judged(self, sample: Sample, question: str, step: str, variables: Mapping[str, Any]) -> Reply:
        """What the judge says, with the prompt `step`, of the sample's answer to `question` about a text (`chunk`).

        `data` is a `Judgement`. One question a call: a small model that is asked several at once answers them alike.
        Raises RowFailed and ModelError.
        """
        return await self._judged(sample, question, step, {**variables, "question": question, "answer": sample.answer})

    async def _judged(self, sample: Sample, question: str, step: str, variables: Mapping[str, Any]) -> Reply:
        evidence = variables.get("chunk") or variables.get("context", "")
        pair = Pair(question, sample.answer, evidence, variables.get("title", ""))
        settings = self.recipe.settings
        judge = Judge(self.recipe.prompts[step], settings.votes, settings.lowest_score)
        asking = (self._put(self.judge, step, sample.source, variables, vote) for vote in range(judge.votes))
        replies = await all_of(asking)
        requests = dict.fromkeys(key for reply in replies for key in reply.source.requests)
        source = sample.source.model_copy(update={"requests": tuple(requests)})
        return Reply(judgement(judge, [reply.data for reply in replies], pair), source)

    def _graded(self, sample: Sample, reply: Reply) -> Outcome:
        """The sample with its grades, or its reject where there is a reason."""
        said: Judgement = reply.data
        grades = {**reply.source.grades, **said.grades}  # what the student said stands there already
        graded = sample.model_copy(update={"source": reply.source.model_copy(update={"grades": grades})})
        self._unjudged[graded.id, graded.source.requests] = sample
        if not said.reason:
            return self._accept(graded)
        self.told("rejected")
        return Reject(sample=graded, step="judge", reason=said.reason, score=said.grades["judge"])

    def _accept(self, sample: Sample) -> Sample:
        self.told("accepted")
        return sample

    async def _row(self, work: Coroutine[Any, Any, list[Outcome]]) -> list[Outcome]:
        try:
            return await work
        except RowFailed as failed:
            return [self.fail(failed.failure)]

    async def _row_of(self, make: Callable[[], Coroutine[Any, Any, list[Outcome]]]) -> list[Outcome]:
        return await self._row(make())

    async def _put(
        self, server: Model, step: str, source: Provenance, variables: Mapping[str, Any], index: int
    ) -> Reply:
        prompt = self.recipe.prompts[step]
        self.tally.asked[step] += 1
        try:
            answer = await server.ask(
                prompt.messages(**variables),
                leaf=self.leaf.id,
                step=step,
                schema=prompt.schema(**variables),
                max_tokens=prompt.max_tokens(**variables),
                temperature=prompt.file.temperature,
                index=index,
                depth=len(source.requests),
                prefix=prompt.prefix(**variables),
            )
        except RequestFailed as error:
            self.tally.keys.update(error.keys if isinstance(error, BadAnswer) else error.keys[:-1])
            raise RowFailed(Failure(step=step, reason=error.what, request=error.keys[-1], source=source)) from error
        except Unanswered as error:
            self.tally.unanswered[error.key] = error.what
            raise RowFailed(Failure(step=step, reason=error.what, request=error.key, source=source)) from error
        self.tally.keys.update(answer.keys)
        self.tally.answers += 1
        self.tally.paid[step] += not answer.cached
        self.told("")
        data = answer.text.strip() if answer.data is None else answer.data
        requests = dict.fromkeys((*source.requests, *answer.keys))  # a short pair's judgement serves the long one too
        return Reply(data, source.model_copy(update={"requests": tuple(requests)}), answer.is_cut)


def _duplicate(sample: Sample, drop: Drop) -> Reject:
    return Reject(sample=sample, step="duplicates", reason=drop.reason, score=drop.score)


@contextlib.asynccontextmanager
async def together() -> AsyncGenerator[asyncio.TaskGroup]:
    """A TaskGroup whose first error is raised itself, not wrapped in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    else:
        return
    raise first


async def all_of(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run them at once; what they return, in their order. The first error ends the others and is raised."""
    async with together() as group:
        tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]


def seed_samples(run: LeafRun, kind: Callable[[SeedExample], Kind]) -> list[Outcome]:
    """The hand-written pairs as samples, as they stand: no judge is asked; copies of held-out questions are dropped."""
    outcomes: list[Outcome] = []
    for index, example in enumerate(run.leaf.seed_examples):
        source = run.source.model_copy(update={"seed_example": index, "teacher": BY_HAND})
        for pair in example.pairs:
            turn = pair.question if run.leaf.kind == "knowledge" else user_turn(example.context, pair.question)
            sample = Sample.new(kind(example), turn, pair.answer, source)
            drop = run.not_held_out(sample)
            outcomes.append(run.reject(sample, drop) if drop else sample)
    return run.settled(outcomes)


def user_turn(context: str, question: str) -> str:
    """What the user says: the context, if there is one, a blank line, and the question."""
    return f"{context}\n\n{question}" if context else question
