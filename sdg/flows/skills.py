"""Skills: seeds -> new tasks -> the same made harder -> solutions -> filters -> judge.

Freeform, grounded in a context, and foundational. A seed with a context makes grounded samples: the user's turn is the
context, a blank line and the task. A persona varies what new tasks are about; an evolution makes a task harder and
keeps its context. What is drawn follows from the seed and the place in the leaf, so no row's timing matters.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...core.records import Kind, Provenance, Sample
from ...taxonomy.leaf import Leaf, SeedExample
from .. import filters
from ..flow import LeafRun, Outcome, seed_samples, user_turn
from ..settings import Evolution, SkillSettings
from ..words import similarity

Row = Coroutine[Any, Any, list[Outcome]]


async def skills(run: LeafRun, settings: SkillSettings) -> list[Outcome]:
    """The samples of a skill leaf: its seeds, then those made from each of them, call by call. Raises ModelError."""
    outcomes = seed_samples(run, lambda example: _kind(run, example))
    seeds = [_Seed.of(run, sample) for sample in outcomes if isinstance(sample, Sample)]
    practices = [_practice(run, settings, seed, seeds) for seed in seeds]
    quota: dict[Kind, int] = {seed.sample.kind: settings.quota for seed in seeds} if settings.quota else {}
    return outcomes + await run.until(quota, _works(run, settings, practices))


def estimate(settings: SkillSettings, leaf: Leaf, *, judged: bool = True) -> int:
    """About how many answers a leaf will take, if the filters drop nothing and no quota is met before.

    Without `judged` those of the judge do not count.
    """
    rounds = settings.evolution_rounds if settings.evolutions else 0
    by_task = rounds + (1 + rounds) * (1 + (settings.judge and judged) * settings.votes)
    return len(leaf.seed_examples) * settings.calls_per_seed * (1 + settings.tasks_per_call * by_task)


@dataclass(frozen=True)
class _Seed:
    sample: Sample
    context: str
    question: str

    @classmethod
    def of(cls, run: LeafRun, sample: Sample) -> _Seed:
        example = run.leaf.seed_examples[sample.source.seed_example or 0]
        return cls(sample, example.context, example.pairs[0].question)

    @property
    def prefix(self) -> str:
        """What the names of its prompts begin with."""
        return "grounded_" if self.context else ""

    @property
    def shown(self) -> dict[str, str]:
        """The seed as prompts see it: no persona asked for it."""
        pair = {"context": self.context, "question": self.question, "answer": self.sample.answer}
        return {**pair, "turn": self.sample.question, "persona": ""}


def _kind(run: LeafRun, example: SeedExample) -> Kind:
    if run.leaf.kind == "foundational":
        return "foundational"
    return "grounded_skill" if example.context else "skill"


@dataclass(frozen=True)
class _Practice:
    """What all new tasks of one seed share."""

    run: LeafRun
    settings: SkillSettings
    seed: _Seed
    about: Mapping[str, Any]
    """The variables of all prompts."""
    task_checks: Sequence[filters.Filter]
    form: filters.Filter
    """Of solutions."""
    solved: Sequence[tuple[str, str]]
    """Context and solution of each seed."""

    @property
    def examples_before_seed(self) -> list[Mapping[str, str]]:
        """As many examples as the recipe says, the seed as the last of them."""
        others: list[Mapping[str, str]] = [each for each in self.about["examples"] if each != self.seed.shown]
        return [*others[: self.settings.examples - 1], self.seed.shown]

    def draw(self, *place: int) -> random.Random:
        """The draws of one place among this seed's tasks: the same wherever the leaf lies."""
        return random.Random(f"{self.run.seed}/{self.seed.sample.question}/{place}")  # noqa: S311


def _practice(run: LeafRun, settings: SkillSettings, seed: _Seed, seeds: Sequence[_Seed]) -> _Practice:
    alike = [other for other in seeds if other.prefix == seed.prefix]
    about = {"task": run.leaf.task_description, "examples": [other.shown for other in alike[: settings.examples]]}
    fewest, most = settings.question_words
    context_fewest, context_most = settings.context_words if seed.context else (0, 0)
    there = [other.sample.question for other in alike]
    checks = [
        filters.no_instructions(run.recipe.prompts[f"{seed.prefix}questions"].told),
        *([] if seed.context else [filters.shows_what_it_names, filters.other_options(there)]),
        filters.task_form_of(there),
        filters.question_length((fewest + context_fewest, most + context_most)),
        filters.not_like(there, settings.near_duplicate),
        run.not_held_out,
    ]
    form = filters.form_of([other.sample.answer for other in alike])
    solved = [(other.context, other.sample.answer) for other in alike]
    return _Practice(run, settings, seed, about, checks, form, solved)


def _works(run: LeafRun, settings: SkillSettings, practices: Sequence[_Practice]) -> Iterator[Callable[[], Row]]:
    """All calls in order: the first of every seed, then the second; each with the next persona."""
    personas = list(settings.personas)
    random.Random(f"{run.seed}/{run.leaf.task_description}").shuffle(personas)  # noqa: S311
    calls = [(call, practice) for call in range(settings.calls_per_seed) for practice in practices]
    for number, (call, practice) in enumerate(calls):
        yield functools.partial(_vary, practice, call, personas[number % len(personas)] if personas else "")


class _Task(NamedTuple):
    """A task without its solution, and what it came from."""

    kind: Kind
    context: str
    question: str
    source: Provenance

    @property
    def unsolved(self) -> Sample:
        """What filters are asked about before it costs a solution."""
        return Sample.new(self.kind, user_turn(self.context, self.question), "", self.source)


async def _vary(practice: _Practice, call: int, persona: str) -> list[Outcome]:
    """New tasks like one seed, and what they evolve into, each solved and judged on its own."""
    run, seed = practice.run, practice.seed
    varied = {"seed_example": seed.sample.source.seed_example, "variation": (persona,) if persona else ()}
    variables = {
        **practice.about,
        "examples": practice.examples_before_seed,
        "seed": seed.shown,
        "persona": persona,
        "number": practice.settings.tasks_per_call,
    }
    source = run.source.model_copy(update=varied)
    reply = await run.ask(f"{seed.prefix}questions", source, variables, index=call)
    rows: list[Row] = []
    for number, item in enumerate(_items(reply.data, seed)):
        task = _Task(seed.sample.kind, item.get("context", "").strip(), item["question"].strip(), reply.source)
        rows.append(_grow(practice, task, _evolutions(practice, call, number)))
    return await run.rows(rows)


def _items(said: Any, seed: _Seed) -> list[dict[str, str]]:
    """The tasks of an answer; of one in plain text what stands before its last paragraph is the context."""
    if not isinstance(said, str):
        return list(said.values())
    context, _, question = said.rpartition("\n\n") if seed.context else ("", "", said)
    return [{"context": context, "question": question}]


def _evolutions(practice: _Practice, *place: int) -> list[Evolution]:
    """The ways in which the task at one place is made harder, round by round."""
    settings, draw = practice.settings, practice.draw(*place)
    return [draw.choice(settings.evolutions) for _ in range(settings.evolution_rounds) if settings.evolutions]


async def _grow(practice: _Practice, task: _Task, ways: Sequence[Evolution]) -> list[Outcome]:
    """A task that passes the filters: solved, and beside that made harder and harder."""
    if drop := filters.first_drop(task.unsolved, practice.task_checks):
        return [practice.run.reject(task.unsolved, drop)]
    evolved = [_evolve(practice, task, ways[0], ways[1:])] if ways else []
    return await practice.run.rows([_solve(practice, task), *evolved])


async def _evolve(practice: _Practice, task: _Task, way: Evolution, later: Sequence[Evolution]) -> list[Outcome]:
    """The task made harder in one way, with its context as it is; then in the later ways."""
    variables = {**practice.about, "context": task.context, "question": task.question, "evolution": way}
    reply = await practice.run.ask("evolve", task.source, variables)
    source = reply.source.model_copy(update={"variation": (*task.source.variation, way)})
    harder = task._replace(question=reply.data["question"].strip(), source=source)
    if drop := _unevolved(task, harder, practice.settings.near_duplicate):
        return [practice.run.reject(harder.unsolved, drop)]
    return await _grow(practice, harder, later)


_ABOUT_ITSELF = re.compile(
    r"\b(?:given|original|rewritten|new|evolved|harder) (?:task|prompt|question)\b", re.IGNORECASE
)
"""What a model writes that tells of its rewriting (Evol-Instruct, section 3.2, "elimination evolving")."""


def _unevolved(before: _Task, after: _Task, threshold: float) -> filters.Drop | None:
    """Why an evolution failed: the task is the same, or it talks of the one before."""
    score = similarity(before.question, after.question)
    if score >= threshold:
        return filters.Drop("not_evolved", f"{score:.2f}")
    told = _ABOUT_ITSELF.search(after.question)
    return filters.Drop("tells_of_its_rewriting", told[0]) if told and told[0] not in before.question else None


_OTHER_FORM: Evolution = "form"
"""The evolution that asks for a solution that looks otherwise."""


async def _solve(practice: _Practice, task: _Task) -> list[Outcome]:
    run, seed = practice.run, practice.seed
    variables = {**practice.about, "context": task.context, "question": task.question}
    reply = await run.ask(f"{seed.prefix}answer", task.source, variables)
    turn = user_turn(task.context, task.question)
    sample = Sample.new(task.kind, turn, reply.data, reply.source)
    checks = [
        filters.answer_length(practice.settings.answer_words),
        filters.no_chat_tokens,
        filters.repeats_itself,
        *([] if _OTHER_FORM in task.source.variation else [practice.form]),
        filters.changes_its_context(task.context, practice.solved),
        run.not_held_out,
    ]
    return [await run.grade(sample, checks, _judge(practice), {**variables, "answer": sample.answer})]


def _judge(practice: _Practice) -> str:
    """Whom a solution is shown: of a foundational skill it can be right or wrong, so he may solve the task himself."""
    part = "foundational_judge"
    if practice.seed.sample.kind == "foundational" and part in practice.run.recipe.prompts:
        return part
    return f"{practice.seed.prefix}judge"
