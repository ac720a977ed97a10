"""Knowledge: document -> chunks -> facts -> questions with short and with long answers -> filters -> judge.

A question prompt is made for one fact, with the leaf's title and outline: a small teacher that sees the whole document
drifts to its other facts and repeats itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...core.records import Kind, Provenance, Sample
from ...taxonomy.chunks import Chunk
from .. import filters
from ..flow import Failure, LeafRun, Outcome, RowFailed, seed_samples, together
from ..recipe import KnowledgeSettings


async def knowledge(run: LeafRun, settings: KnowledgeSettings, chunks: Sequence[Chunk]) -> list[Outcome]:
    """The samples of a knowledge leaf: its seeds, then those of every fact in the order of the documents.

    All chunks are asked for their facts at once, and a fact's questions start as soon as it is known to be new. For
    that only the facts of earlier chunks are waited for: which of two equal facts stays is no matter of timing.
    Raises ModelError.
    """
    outcomes = seed_samples(run, lambda _: "knowledge_short")
    subject = _subject(run, chunks)
    known: set[tuple[str, ...]] = set()
    rows: list[asyncio.Task[list[Outcome]]] = []
    async with together() as group:
        listings = [group.create_task(_facts(run, chunk)) for chunk in chunks]
        for listing in listings:
            match await listing:
                case Failure() as failure:
                    outcomes.append(failure)
                case facts:
                    new = [fact for fact in facts if _is_wanted(run, settings, fact, known)]
                    rows += [group.create_task(_samples(run, settings, fact, subject)) for fact in new]
    return outcomes + [outcome for row in rows for outcome in row.result()]


@dataclass(frozen=True)
class _Fact:
    text: str
    about: dict[str, Any]
    """The variables of its chunk's prompts."""
    source: Provenance

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that all prompts about the fact share."""
        return {**self.about, "fact": self.text}

    @property
    def evidence(self) -> str:
        """All that an answer may rest on."""
        return "\n".join([self.text, self.passage])

    @property
    def passage(self) -> str:
        """The chunk and what it is called."""
        return "\n".join([self.about["title"], self.about["heading"], self.about["chunk"]])


def _subject(run: LeafRun, chunks: Sequence[Chunk]) -> str:
    """The title, or else the outline, if the documents use a word of it; else nothing, and every question will do."""
    text = "\n".join(chunk.text for chunk in chunks)
    return next((name for name in (run.leaf.title, run.leaf.document_outline) if filters.shares_a_word(name, text)), "")


async def _facts(run: LeafRun, chunk: Chunk) -> list[_Fact] | Failure:
    place = {"document": chunk.document, "heading": chunk.heading, "span": chunk.span}
    about = {
        "title": run.leaf.title,
        "outline": run.leaf.document_outline,
        "heading": chunk.heading,
        "chunk": chunk.text,
    }
    try:
        reply = await run.ask("facts", run.source.model_copy(update=place), about)
    except RowFailed as failed:
        return run.fail(failed.failure)
    texts = [" ".join(text.split()) for text in reply.data["facts"]]
    return [_Fact(text, about, reply.source.model_copy(update={"fact": text})) for text in texts]


def _is_wanted(run: LeafRun, settings: KnowledgeSettings, fact: _Fact, known: set[tuple[str, ...]]) -> bool:
    """Whether a fact is whole, stands in its chunk and was not seen before; the answer is tallied."""
    words = tuple(filters.words(fact.text))
    fewest, most = settings.fact_words
    if words in known:
        verdict = "duplicate"
    elif not fewest <= len(words) <= most:
        verdict = "length"
    elif drop := filters.unsupported(fact.text, fact.passage, settings.fact_grounded_share):
        verdict = drop.reason
    else:
        verdict = "kept"
    known.add(words)
    run.tally.facts[verdict] += 1
    return verdict == "kept"


async def _samples(run: LeafRun, settings: KnowledgeSettings, fact: _Fact, subject: str) -> list[Outcome]:
    """Everything that is made of one fact."""
    long = [_long(run, settings, fact, subject, index) for index in range(settings.long_per_fact)]
    return await run.rows([_short(run, settings, fact, subject), *long])


async def _short(run: LeafRun, settings: KnowledgeSettings, fact: _Fact, subject: str) -> list[Outcome]:
    """One question and short answer for each form of the recipe, asked for in one call."""
    reply = await run.ask("short", fact.source, {**fact.variables, "forms": settings.forms})
    pairs = [reply.data[f"q{number}"] for number in range(1, len(settings.forms) + 1)]
    samples = [_sample("knowledge_short", pair, reply.source) for pair in pairs]
    # The same question twice in one answer is common; without the second, a judge's call is saved.
    samples, repeated = filters.without_duplicates(samples, settings.near_duplicate)
    checks = [
        filters.is_question,
        filters.question_length(settings.question_words),
        filters.answer_length(settings.short_answer_words),
        filters.names_subject(subject),
        filters.hides_answer,
        filters.grounded(fact.evidence, settings.grounded_share),
        filters.not_held_out(run.leaf.questions),
    ]
    return [*await run.rows(_graded(run, fact, sample, checks) for sample in samples), *repeated]


async def _long(run: LeafRun, settings: KnowledgeSettings, fact: _Fact, subject: str, index: int) -> list[Outcome]:
    """One question whose answer is one to three sentences."""
    reply = await run.ask("long", fact.source, fact.variables, index=index)
    checks = [
        filters.is_question,
        filters.question_length(settings.question_words),
        filters.answer_length(settings.long_answer_words),
        filters.names_subject(subject),
        filters.grounded(fact.evidence, 0.0),  # its numbers only: a full sentence needs words of its own
        filters.not_held_out(run.leaf.questions),
    ]
    return await _graded(run, fact, _sample("knowledge_long", reply.data, reply.source), checks)


def _sample(kind: Kind, pair: dict[str, str], source: Provenance) -> Sample:
    return Sample.new(kind, pair["question"].strip(), pair["answer"].strip(), source)


async def _graded(run: LeafRun, fact: _Fact, sample: Sample, checks: Sequence[filters.Filter]) -> list[Outcome]:
    variables = {**fact.variables, "question": sample.question, "answer": sample.answer}
    return [await run.grade(sample, checks, "judge", variables)]
