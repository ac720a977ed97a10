"""Skills: seeds -> new tasks -> solutions -> filters -> judge. Freeform, grounded in a context, and foundational.

A seed with a context makes grounded samples: the user's turn is the context, a blank line and the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.records import Kind, Provenance, Sample
from ...taxonomy.leaf import SeedExample
from .. import filters
from ..flow import LeafRun, Outcome, seed_samples, user_turn
from ..settings import SkillSettings


async def skills(run: LeafRun, settings: SkillSettings) -> list[Outcome]:
    """The samples of a skill leaf: its seeds, then those made from each of them, in order. Raises ModelError."""
    outcomes = seed_samples(run, lambda example: _kind(run, example))
    seeds = [_Seed.of(run, sample) for sample in outcomes if isinstance(sample, Sample)]
    practices = [_practice(run, settings, seed, seeds) for seed in seeds]
    calls = range(settings.calls_per_seed)
    return outcomes + await run.rows(_vary(practice, call) for practice in practices for call in calls)


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
        """The seed as prompts see it."""
        return {"context": self.context, "question": self.question, "answer": self.sample.answer}


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


def _practice(run: LeafRun, settings: SkillSettings, seed: _Seed, seeds: Sequence[_Seed]) -> _Practice:
    alike = [other for other in seeds if other.prefix == seed.prefix]
    about = {"task": run.leaf.task_description, "examples": [other.shown for other in alike[: settings.examples]]}
    fewest, most = settings.question_words
    context_fewest, context_most = settings.context_words if seed.context else (0, 0)
    checks = [
        filters.question_length((fewest + context_fewest, most + context_most)),
        filters.not_like([other.sample.question for other in alike], settings.near_duplicate),
        filters.not_held_out(run.leaf.questions),
    ]
    return _Practice(run, settings, seed, about, checks)


async def _vary(practice: _Practice, call: int) -> list[Outcome]:
    """New tasks like one seed, each solved and judged on its own."""
    run, seed = practice.run, practice.seed
    source = run.source.model_copy(update={"seed_example": seed.sample.source.seed_example})
    variables = {**practice.about, "seed": seed.shown, "number": practice.settings.tasks_per_call}
    reply = await run.ask(f"{seed.prefix}questions", source, variables, index=call)
    return await run.rows(_solve(practice, task, reply.source) for task in reply.items)


async def _solve(practice: _Practice, task: Mapping[str, str], source: Provenance) -> list[Outcome]:
    """One new task: filtered before it costs an answer, then solved and judged."""
    run, seed = practice.run, practice.seed
    question, context = task["question"].strip(), task.get("context", "").strip()
    turn = user_turn(context, question)
    unsolved = Sample.new(seed.sample.kind, turn, "", source)
    if drop := filters.first_drop(unsolved, practice.task_checks):
        return [run.reject(unsolved, drop)]
    variables = {**practice.about, "context": context, "question": question}
    reply = await run.ask(f"{seed.prefix}answer", source, variables)
    sample = Sample.new(seed.sample.kind, turn, reply.data["answer"].strip(), reply.source)
    checks = [filters.answer_length(practice.settings.answer_words), filters.not_held_out(run.leaf.questions)]
    return [await run.grade(sample, checks, f"{seed.prefix}judge", {**variables, "answer": sample.answer})]
