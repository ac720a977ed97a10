"""Tests: held-out questions from the chunks of a knowledge leaf, with short answers and with options to choose from.

They are made first and stand beside the questions that people wrote, so that no sample of the leaf may repeat them. A
question is kept if the judge answers it rightly with the passage, and the base model, where it can be asked, does not
without it: such a question measures nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, NamedTuple

from ...core.choices import chosen
from ...core.held_out import find_leaks
from ...core.records import Provenance, Question, Record, Reject, Sample
from ...core.reworded import Likeness
from ...taxonomy.chunks import Chunk
from .. import filters
from ..flow import LeafRun, Model, Outcome, Reply
from ..settings import TestSettings
from ..words import words
from .passage import Passage

_NUM_OPTIONS = 4
_KNOWN_FROM = 3
"""Of a question with options, asked with the right one in each of the four places: by guessing, 3 or 4 come out right
in one of twenty questions, 2 in one of four. A model that says the same letter always is right once."""


async def tests(run: LeafRun, settings: TestSettings, chunks: Sequence[Chunk]) -> list[Outcome]:
    """The held-out questions that are made of a leaf, and what was dropped, in the order of its chunks.

    Of questions that ask nearly the same the first stays. Raises ModelError.
    """
    apart = max(1, len(chunks) / settings.chunks)
    passages = [Passage.of(run, chunks[int(index * apart)]) for index in range(min(len(chunks), settings.chunks))]
    pairs = [pair for example in run.leaf.seed_examples for pair in example.pairs]
    seeds = [Sample.new("test", pair.question, pair.answer, run.source) for pair in pairs]
    works: list[Coroutine[Any, Any, list[Outcome]]] = []
    for passage in passages:
        for step, number in (("tests_short", settings.short_per_chunk), ("tests_choice", settings.choice_per_chunk)):
            if number:
                works.append(_asked(run, settings, passage, seeds, step, number))
    return _different(await run.rows(works), settings.near_duplicate, run.recipe.likeness)


def estimate(settings: TestSettings, chunks: Sequence[Chunk], *, judged: bool = True) -> int:
    """About how many answers a leaf's tests will take of the teacher and the judge, if the filters drop nothing.

    Without `judged` those of the judge do not count.
    """
    by_chunk = [number for number in (settings.short_per_chunk, settings.choice_per_chunk) if number]
    return min(len(chunks), settings.chunks) * (len(by_chunk) + sum(by_chunk) * judged)


def form(question: Question) -> str:
    """What a question asks for."""
    return "multiple_choice" if question.options else "short_answer"


class Guesses(Record):
    """What the base model did with questions of one form, asked without the passage."""

    asked: int
    right: int
    chance: float
    """The share that comes out right by guessing."""


def guesses(questions: Sequence[Question], rejects: Sequence[Reject]) -> dict[str, Guesses]:
    """Form -> how often the base was right, over the kept questions and those dropped because it was."""
    graded = [question.source.grades for question in questions if question.source]
    graded += [reject.sample.source.grades for reject in rejects if reject.sample.kind == "test"]
    asked, right = Counter[str](), Counter[str]()
    for grades in graded:
        if "base" in grades:
            came, tries = map(int, grades["base"].split("/"))
            form = "multiple_choice" if tries == _NUM_OPTIONS else "short_answer"
            asked[form] += tries
            right[form] += came
    chance = {"multiple_choice": 1 / _NUM_OPTIONS, "short_answer": 0.0}
    return {form: Guesses(asked=asked[form], right=right[form], chance=chance[form]) for form in sorted(asked)}


class _Item(NamedTuple):
    """A question on its way. `sample` is what filters and rejects see of it; `distractors`: none of a short one."""

    sample: Sample
    passage: Passage
    distractors: tuple[str, ...] = ()

    @property
    def right(self) -> str:
        return self.sample.answer

    def options(self, place: int) -> tuple[str, ...]:
        """What there is to choose from, the right one at `place`; none of a short question."""
        return (*self.distractors[:place], self.right, *self.distractors[place:]) if self.distractors else ()

    def question(self, leaf: str, place: int = 0) -> Question:
        """As the evaluation asks it."""
        source = self.sample.source
        return Question.new(leaf, self.sample.question, (self.right,), self.options(place), source)


async def _asked(
    run: LeafRun, settings: TestSettings, passage: Passage, seeds: Sequence[Sample], step: str, number: int
) -> list[Outcome]:
    """Questions of one form about a passage."""
    reply = await run.ask(step, passage.source, {**passage.variables, "number": number})
    items = [_item(passage, reply, item) for item in reply.items]
    return await run.rows(_examined(run, settings, item, seeds) for item in items)


def _item(passage: Passage, reply: Reply, said: Mapping[str, Any]) -> _Item:
    question = filters.self_contained(said["question"].strip(), passage.title)
    sample = Sample.new("test", question, said["answer"].strip(), reply.source)
    return _Item(sample, passage, tuple(option.strip() for option in said.get("distractors", ())))


async def _examined(run: LeafRun, settings: TestSettings, item: _Item, seeds: Sequence[Sample]) -> list[Outcome]:
    """One question: the filters, the judge with the passage, the base without it."""
    if drop := filters.first_drop(item.sample, _checks(run, settings, item, seeds)):
        return [run.reject(item.sample, drop)]
    place = random.Random(f"{run.seed}/{item.sample.id}").randrange(_NUM_OPTIONS)  # noqa: S311
    judged = await _answer(run, item, place, run.judge, "tests_choice_judge" if item.distractors else "tests_judge")
    item = item._replace(sample=_graded(item.sample, judged.source, judge=judged.data))
    if not _is_right(item, place, judged.data):
        return [_reject(run, item, "judge", "judge_answers_otherwise", judged.data)]
    base = run.others.get("base") if "tests_base" in run.recipe.prompts else None
    if base:
        item = await _asked_without(run, item, base)
        right, tries = map(int, item.sample.source.grades["base"].split("/"))
        if right >= min(tries, _KNOWN_FROM):
            return [_reject(run, item, "base", "base_knows", item.sample.source.grades["base"])]
    run.told("accepted")
    return [item.question(run.leaf.id, place)]


def _checks(run: LeafRun, settings: TestSettings, item: _Item, seeds: Sequence[Sample]) -> list[filters.Filter]:
    return [
        filters.question_length(settings.question_words),
        filters.is_question,
        filters.answer_length(settings.answer_words),
        filters.hides_answer,
        filters.stands_alone,
        filters.grounded(item.passage.evidence, settings.grounded_share),
        lambda _: _wrong_options(item),
        filters.not_like([seed.question for seed in seeds], settings.near_duplicate),
        lambda sample: _trained_by(seeds, sample, run.recipe.likeness),
        run.not_held_out,
    ]


def _trained_by(seeds: Sequence[Sample], sample: Sample, likeness: Likeness | None) -> filters.Drop | None:
    """Seeds are trained, and go before any question that a model makes."""
    leaks = find_leaks([Question.new("", sample.question, (sample.answer,))], seeds, likeness)
    return filters.Drop("copy_of_seed", leaks[0].kind) if leaks else None


def _wrong_options(item: _Item) -> filters.Drop | None:
    """Why the distractors do not do: two options alike, or one that shows by its kind that it is wrong (or right)."""
    if not item.distractors:
        return None
    options = item.options(0)
    if len({tuple(words(option)) for option in options}) < _NUM_OPTIONS:
        return filters.Drop("options_alike")
    if same := next((option for option in item.distractors if filters.same_answer(item.right, option)), ""):
        return filters.Drop("distractor_is_right", same)
    numbers = [any(character.isdigit() for character in option) for option in options]
    return None if len(set(numbers)) == 1 else filters.Drop("options_of_two_kinds")


async def _answer(run: LeafRun, item: _Item, place: int, model: Model, step: str) -> Reply:
    variables = {**item.passage.variables, "question": item.question(run.leaf.id, place).asked}
    return await run.ask(step, item.sample.source, variables, model=model, may_be_cut=True)


async def _asked_without(run: LeafRun, item: _Item, base: Model) -> _Item:
    """The item with the base's grade: right answers / tries. With options, the right one is in each place once."""
    places, source, right = range(_NUM_OPTIONS if item.distractors else 1), item.sample.source, 0
    for place in places:
        question = item.question(run.leaf.id, place).asked
        reply = await run.ask("tests_base", source, {"question": question}, model=base)
        source = reply.source
        right += _is_right(item, place, reply.data)
    return item._replace(sample=_graded(item.sample, source, base=f"{right}/{len(places)}"))


def _is_right(item: _Item, place: int, answer: str) -> bool:
    if item.distractors:
        return chosen(answer, item.options(place)) == place
    return filters.same_answer(item.right, answer)


def _graded(sample: Sample, source: Provenance, **grades: str) -> Sample:
    return sample.model_copy(update={"source": source.model_copy(update={"grades": {**source.grades, **grades}})})


def _reject(run: LeafRun, item: _Item, step: str, reason: str, score: str) -> Reject:
    run.told("rejected")
    return Reject(sample=item.sample, step=step, reason=reason, score=score)


def _different(outcomes: Sequence[Outcome], threshold: float, likeness: Likeness | None) -> list[Outcome]:
    """Of questions that ask nearly the same the first; the others become rejects."""
    kept: list[Question] = []
    others: list[Outcome] = []
    for outcome in outcomes:
        if not isinstance(outcome, Question):
            others.append(outcome)
            continue
        sample = _as_sample(outcome)
        asked = [question.question for question in kept]
        known = [filters.not_like(asked, threshold), filters.not_held_out(kept, likeness)]
        if drop := filters.first_drop(sample, known):
            others.append(Reject(sample=sample, step="duplicates", reason="near_duplicate", score=drop.score))
        else:
            kept.append(outcome)
    return [*kept, *others]


def _as_sample(question: Question) -> Sample:
    assert question.source
    return Sample.new("test", question.question, question.answers[0], question.source)
