"""Proposals for a new leaf: seed examples and held-out questions that the teacher writes and a person decides on.

They pass the filters and the judge that samples pass, and go through the ledger, so the same call again costs nothing.
A small teacher does best with one passage at a time. A held-out question is a proposed seed's, asked in other words.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..core.config import Config
from ..core.errors import ModelError
from ..core.held_out import find_leaks
from ..core.progress import Progress, Task
from ..core.records import Provenance, Question, Sample
from ..llm.ask import Gateway
from ..llm.ledger import Ledger
from ..llm.loop import run_to_end
from ..taxonomy.chunks import Chunk, split
from ..taxonomy.contribute import NewLeaf
from ..taxonomy.documents import Document
from ..taxonomy.leaf import Leaf, SeedExample, SeedPair
from ..taxonomy.qna import comparable
from ..taxonomy.scaffold import NUM_PAIRS, NUM_SEEDS, Draft
from . import filters
from .flow import LeafRun, Outcome, RowFailed, Tally, together, user_turn
from .flows.passage import number_of_sentences
from .prompts import load_prompt
from .recipe import Recipe, load_recipes
from .settings import KnowledgeSettings, SkillSettings
from .words import words

PROMPTS = ("suggest_outline", "suggest_held_out", "suggest_tasks", "suggest_grounded_tasks")

_PASSAGES_AT_ONCE, _MOST_ROUNDS = 6, 3
_MOST_SEEDS = NUM_SEEDS + 1
_MOST_PAIRS = NUM_PAIRS + 1
"""One more than are needed, so that one of each may be dropped and still nobody has to look at fifty."""
_EXTRA_QUESTIONS, _CALLS = 1, 2
"""A passage is asked for a question per sentence and so many more, in so many calls: each asks for other details."""
_FORMS_ASKED = 2
_TASKS_ASKED = NUM_SEEDS + 3
_FEWEST_WORDS = 8
"""Nobody finds three questions about a passage with fewer words, such as a heading alone."""

_NOWHERE = Provenance(leaf="", leaf_fingerprint="", commit="", recipe="", recipe_fingerprint="", teacher="")


def suggest(
    new: NewLeaf,
    documents: Sequence[Document],
    *,
    task: str = "",
    config: Config,
    ledger: Path,
    progress: Progress,
) -> Draft:
    """What the teacher proposes for `new`: from its documents (knowledge), or from what the skill is to do, `task`.

    It may be less than a leaf needs, when the filters drop too much or the documents are short. Raises ModelError when
    there is no answer or nothing of use in any, ConfigError and YamlProblems for a wrong recipe.
    """
    recipe = load_recipes(config)[new.kind]
    prompts = {**recipe.prompts, **{name: load_prompt(name) for name in PROMPTS}}
    recipe = replace(recipe, prompts=prompts)
    draft = run_to_end(_suggest(new.as_leaf(task), recipe, documents, config, ledger, progress))
    if not draft.seed_examples:
        fix = "name a larger teacher in tilth.yaml, or write the leaf yourself: leave --suggest out"
        raise ModelError("the teacher proposed nothing that the filters let pass", where=new.id, fix=fix)
    return draft


def without_copies(held_out: Sequence[SeedPair], seeds: Sequence[SeedExample]) -> list[SeedPair]:
    """The held-out questions, each once, that no seed question repeats: those that would prove something."""
    asked = [
        Sample.new("knowledge_short", pair.question, pair.answer, _NOWHERE) for seed in seeds for pair in seed.pairs
    ]
    different: dict[str, SeedPair] = {}
    for pair in held_out:
        different.setdefault(comparable(pair.question), pair)
    questions = {Question.new("", pair.question, (pair.answer,)): pair for pair in different.values()}
    leaked = {leak.question_id for leak in find_leaks(list(questions), asked)}
    return [pair for question, pair in questions.items() if question.id not in leaked]


async def _suggest(
    leaf: Leaf, recipe: Recipe, documents: Sequence[Document], config: Config, ledger: Path, progress: Progress
) -> Draft:
    async with contextlib.AsyncExitStack() as stack:
        book = stack.enter_context(Ledger(ledger))
        teacher = await stack.enter_async_context(Gateway(config.teacher, book, progress, seed=config.seed))
        judge = teacher
        if config.judge is not None:
            judge = await stack.enter_async_context(
                Gateway(config.judge, book, progress, seed=config.seed, role="judge")
            )
        run = LeafRun(leaf, recipe, _NOWHERE, teacher, judge, Tally(), lambda _: None)
        if isinstance(recipe.settings, SkillSettings):
            draft = await _skill(run, recipe.settings, progress)
        else:
            draft = await _knowledge(run, recipe.settings, documents, progress)
    if not draft.seed_examples and (unanswered := list(run.tally.unanswered.values())):
        fix = "run the same command again: what was answered is kept"
        raise ModelError(f"the teacher gave no answer ({unanswered[0]})", where=leaf.id, fix=fix)
    return draft


# Knowledge -----------------------------------------------------------------------------------------------------------


class _Proposed(NamedTuple):
    """What one passage gave."""

    chunk: Chunk
    pairs: list[SeedPair]
    held_out: list[SeedPair]


async def _knowledge(
    run: LeafRun, settings: KnowledgeSettings, documents: Sequence[Document], progress: Progress
) -> Draft:
    """Ask about passages from all over the documents, some at a time, until there are enough good ones."""
    chunks = _passages(documents, settings.chunk_tokens)
    if not chunks:
        return Draft()
    proposed: list[_Proposed] = []
    for batch in list(_batches(chunks))[:_MOST_ROUNDS]:
        with progress.task("suggest", total=len(batch), unit="passages") as task:
            proposed += await _asked(run, settings, batch, task)
        if sum(len(each.pairs) >= NUM_PAIRS for each in proposed) >= NUM_SEEDS:
            break
    full = [each for each in proposed if len(each.pairs) >= NUM_PAIRS][:_MOST_SEEDS]
    chosen = full if len(full) >= NUM_SEEDS else sorted(proposed, key=lambda each: -len(each.pairs))[:_MOST_SEEDS]
    chosen = sorted((each for each in chosen if each.pairs), key=lambda each: chunks.index(each.chunk))
    seeds = tuple(SeedExample(context=each.chunk.text, pairs=tuple(each.pairs)) for each in chosen)
    held_out = [pair for each in chosen for pair in each.held_out]
    domain, outline = await _outline(run, documents, chunks)
    return Draft(
        domain=domain,
        document_outline=outline,
        seed_examples=seeds,
        held_out=tuple(without_copies(held_out, seeds)),
    )


def _passages(documents: Sequence[Document], budget: int) -> list[Chunk]:
    """The documents in passages as the recipe cuts them; short documents in smaller ones, for five are needed."""
    found: list[Chunk] = []
    for size in (budget, budget // 2, budget // 4):
        chunks = [chunk for document in documents for chunk in split(document, size)]
        chunks = [chunk for chunk in chunks if len(chunk.text.split()) >= _FEWEST_WORDS]
        found = max(found, chunks, key=len)
        if len(found) >= _MOST_SEEDS:
            break
    return found


def _batches(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """All chunks, so that every batch reaches from the documents' beginning to their end."""
    stride = -(-len(chunks) // _PASSAGES_AT_ONCE)
    return [list(chunks[start::stride]) for start in range(stride)]


async def _asked(run: LeafRun, settings: KnowledgeSettings, chunks: Sequence[Chunk], task: Task) -> list[_Proposed]:
    async with together() as group:
        passages = [group.create_task(_passage(run, settings, chunk)) for chunk in chunks]
        for passage in passages:
            passage.add_done_callback(lambda _: task.advance())
    return [passage.result() for passage in passages]


async def _passage(run: LeafRun, settings: KnowledgeSettings, chunk: Chunk) -> _Proposed:
    """Questions about one passage, and each of those that were kept in other words."""
    title = chunk.heading.split(" > ", 1)[0] or run.leaf.title
    about = {"title": title, "heading": chunk.heading, "chunk": chunk.text}
    checks: list[filters.Filter] = [
        filters.question_length(settings.question_words),
        filters.is_question,
        filters.answer_length(settings.short_answer_words),
        filters.hides_answer,
        filters.grounded(f"{title}\n{chunk.text}", settings.grounded_share),
    ]
    asked = _samples(await run.rows(_questions(run, title, about, call) for call in range(_CALLS)))
    different, _ = filters.without_duplicates(asked, settings.near_duplicate)
    graded = _samples(await run.rows(_examined(run, checks, about, sample) for sample in different))
    kept = _different_answers_first(graded)[:_MOST_PAIRS]
    new = [*checks, filters.not_like([sample.question for sample in kept], settings.near_duplicate)]
    forms = _samples(await run.rows(_reworded(run, title, sample) for sample in kept[:NUM_PAIRS]))
    examined = _samples(await run.rows(_examined(run, new, about, sample) for sample in forms))
    one_each: dict[str, SeedPair] = {}
    for sample in examined:
        one_each.setdefault(sample.answer, _pair(sample))
    return _Proposed(chunk, [_pair(sample) for sample in kept], list(one_each.values()))


def _different_answers_first(samples: Sequence[Sample]) -> list[Sample]:
    """In their order, but behind all others those that have an answer again."""
    first: dict[tuple[str, ...], Sample] = {}
    for sample in samples:
        first.setdefault(tuple(words(sample.answer)), sample)
    return [*first.values(), *(sample for sample in samples if sample not in first.values())]


async def _questions(run: LeafRun, title: str, about: Mapping[str, str], call: int) -> list[Outcome]:
    number = max(1, number_of_sentences(about["chunk"])) + _EXTRA_QUESTIONS
    reply = await run.ask("questions", run.source, {**about, "number": number}, index=call)
    texts = [(filters.self_contained(item["question"].strip(), title), item["answer"].strip()) for item in reply.items]
    return [Sample.new("knowledge_short", *text, reply.source) for text in texts]


async def _examined(
    run: LeafRun, checks: Sequence[filters.Filter], about: Mapping[str, str], sample: Sample
) -> list[Outcome]:
    if drop := filters.first_drop(sample, checks):
        return [run.reject(sample, drop)]
    return [await run.grade_by_asking(sample, sample.question, "judge", about)]


async def _reworded(run: LeafRun, title: str, sample: Sample) -> list[Outcome]:
    variables = {"question": sample.question, "answer": sample.answer, "number": _FORMS_ASKED}
    reply = await run.ask("suggest_held_out", sample.source, variables)
    forms = dict.fromkeys(filters.self_contained(form.strip(), title) for form in reply.items)
    return [Sample.new("knowledge_short", form, sample.answer, reply.source) for form in forms]


async def _outline(run: LeafRun, documents: Sequence[Document], chunks: Sequence[Chunk]) -> tuple[str, str]:
    """Domain and outline, read off the beginning; empty, for the author to fill, if the teacher has none."""
    title = chunks[0].heading.split(" > ", 1)[0] or run.leaf.title
    beginning = " ".join(documents[0].text.split()[:300])
    try:
        reply = await run.ask("suggest_outline", run.source, {"title": title, "chunk": beginning})
    except RowFailed:
        return "", ""
    return reply.data["domain"].strip(), reply.data["outline"].strip()


# Skills --------------------------------------------------------------------------------------------------------------


async def _skill(run: LeafRun, settings: SkillSettings, progress: Progress) -> Draft:
    """Solved tasks, all asked for at once so that no two are alike, each judged on its own."""
    prefix = "grounded_" if run.leaf.kind == "grounded_skill" else ""
    variables = {"task": run.leaf.task_description, "number": _TASKS_ASKED}
    with progress.task("suggest", total=_TASKS_ASKED, unit="examples") as task:
        try:
            reply = await run.ask(f"suggest_{prefix}tasks", run.source, variables)
        except RowFailed:
            return Draft()
        seeds = [
            SeedExample(
                context=item.get("context", "").strip(),
                pairs=(SeedPair(question=item["question"].strip(), answer=item["answer"].strip()),),
            )
            for item in reply.items
        ]
        samples = {_task_sample(run, seed, reply.source).id: seed for seed in seeds}
        different, _ = filters.without_duplicates(
            [_task_sample(run, seed, reply.source) for seed in samples.values()], settings.near_duplicate
        )
        works = [_judged(run, settings, prefix, sample, samples[sample.id]) for sample in different]
        kept = _samples(await run.rows(works))
        task.advance(len(seeds))
    examples = tuple(samples[sample.id] for sample in kept)
    return Draft(task_description=run.leaf.task_description, seed_examples=examples)


def _task_sample(run: LeafRun, seed: SeedExample, source: Provenance) -> Sample:
    [pair] = seed.pairs
    kind = "grounded_skill" if run.leaf.kind == "grounded_skill" else "skill"
    return Sample.new(kind, user_turn(seed.context, pair.question), pair.answer, source)


async def _judged(
    run: LeafRun, settings: SkillSettings, prefix: str, sample: Sample, seed: SeedExample
) -> list[Outcome]:
    [pair] = seed.pairs
    fewest, most = settings.question_words
    context_fewest, context_most = settings.context_words if prefix else (0, 0)
    checks = [
        filters.question_length((fewest + context_fewest, most + context_most)),
        filters.answer_length(settings.answer_words),
    ]
    about = {"task": run.leaf.task_description, "examples": [], "context": seed.context}
    variables = {**about, "question": pair.question, "answer": pair.answer}
    return [await run.grade(sample, checks, f"{prefix}judge", variables)]


def _samples(outcomes: Sequence[Outcome]) -> list[Sample]:
    return [outcome for outcome in outcomes if isinstance(outcome, Sample)]


def _pair(sample: Sample) -> SeedPair:
    return SeedPair(question=sample.question, answer=sample.answer)
