"""Knowledge: chunks -> questions -> the same in other words and with long answers; each by filters and judge.

What makes a fact stick is to meet it in many forms. A chunk is asked for questions about its details; every answer
that comes up, and every seed's, is then asked for in other words. A small teacher that is asked for many forms of one
fact while it sees the text drifts to other facts, so the rewording sees the question and the answer alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...core.records import Kind, Provenance, Sample
from ...taxonomy.chunks import Chunk
from .. import filters
from ..flow import LeafRun, Outcome, RowFailed, seed_samples, together
from ..settings import KnowledgeSettings
from ..words import content_words, words

SENTENCE_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])(?=\s|$|[\u3040-\u9fff])")
_PARAGRAPH_END = re.compile(r"\n\s*\n")


async def knowledge(run: LeafRun, settings: KnowledgeSettings, chunks: Sequence[Chunk]) -> list[Outcome]:
    """The samples of a knowledge leaf: its seeds, then those of every passage in the order of the documents.

    All passages are worked on at once. Only which answers are new waits for the passages before, so that it is no
    matter of timing. Raises ModelError.
    """
    outcomes = seed_samples(run, lambda _: "knowledge_short")
    seeds = [_seed(run, sample, chunks) for sample in outcomes if isinstance(sample, Sample)]
    known = [told for seed in seeds if (told := _told(seed.sample))]
    calls = [(chunk, call) for chunk in chunks for call in range(settings.calls_per_chunk)]
    async with together() as group:
        rows = [group.create_task(_deepened(run, settings, seed)) for seed in seeds]
        asked = [group.create_task(_asked(run, settings, chunk, call)) for chunk, call in calls]
        for listing in asked:
            pairs, others = await listing
            outcomes += [*(pair.sample for pair in pairs), *others]
            for pair in pairs:
                told = _told(pair.sample)
                if told and not any(told <= other or other <= told for other in known):
                    known.append(told)
                    rows.append(group.create_task(_deepened(run, settings, pair)))
    return outcomes + [outcome for row in rows for outcome in row.result()]


@dataclass(frozen=True)
class _Passage:
    """A text that samples are made from, with what it is called."""

    title: str
    heading: str
    text: str

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that all prompts share."""
        return {"title": self.title, "heading": self.heading, "chunk": self.text}

    @property
    def evidence(self) -> str:
        """All that an answer may rest on."""
        return f"{self.title}\n{self.heading}\n{self.text}"


@dataclass(frozen=True)
class _Pair:
    """A question with a short answer, the question as it was before its subject, and the passage that it is about."""

    sample: Sample
    asked: str
    passage: _Passage

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the prompts that make more of it."""
        return {**self.passage.variables, "question": self.asked, "answer": self.sample.answer}


def _seed(run: LeafRun, sample: Sample, chunks: Sequence[Chunk]) -> _Pair:
    """A seed's pair; its passage is the context that stands beside it in the leaf."""
    context = run.leaf.seed_examples[sample.source.seed_example or 0].context
    there = frozenset(words(context))
    home = max(chunks, key=lambda chunk: len(there.intersection(words(chunk.text))), default=None)
    title = _title(run, home) if home else run.leaf.title
    return _Pair(sample, sample.question, _Passage(title, title, context))


def _title(run: LeafRun, chunk: Chunk) -> str:
    return chunk.heading.split(" > ", 1)[0] or run.leaf.title


async def _asked(
    run: LeafRun, settings: KnowledgeSettings, chunk: Chunk, call: int
) -> tuple[list[_Pair], list[Outcome]]:
    """Questions about a chunk: the pairs that were kept, and what became of the others."""
    passage = _Passage(_title(run, chunk), chunk.heading, chunk.text)
    place = {"document": chunk.document, "heading": chunk.heading, "span": chunk.span}
    number = max(1, len(SENTENCE_END.findall(chunk.text)) + settings.extra_questions)
    try:
        variables = {**passage.variables, "number": number}
        reply = await run.ask("questions", run.source.model_copy(update=place), variables, index=call)
    except RowFailed as failed:
        return [], [run.fail(failed.failure)]
    texts = [(item["question"].strip(), item["answer"].strip()) for item in reply.items]
    samples = [_short(passage, *text, _with_fact(reply.source, passage, *text)) for text in texts]
    asked = {sample.id: question for sample, (question, _) in zip(samples, texts, strict=True)}
    outcomes = await _kept(run, settings, passage, samples)
    pairs = [_Pair(outcome, asked[outcome.id], passage) for outcome in outcomes if isinstance(outcome, Sample)]
    return pairs, [outcome for outcome in outcomes if not isinstance(outcome, Sample)]


async def _deepened(run: LeafRun, settings: KnowledgeSettings, pair: _Pair) -> list[Outcome]:
    """The same detail asked for in other words, and told in full sentences."""
    made_by = pair.sample.source.model_copy(update={"teacher": run.source.teacher, "grades": {}})
    source = _with_fact(made_by, pair.passage, pair.asked, pair.sample.answer)
    return await run.rows([_reworded(run, settings, pair, source), _long(run, settings, pair, source)])


async def _reworded(run: LeafRun, settings: KnowledgeSettings, pair: _Pair, source: Provenance) -> list[Outcome]:
    reply = await run.ask("reword", source, {**pair.variables, "fact": source.fact, "number": settings.rewordings})
    samples = [_short(pair.passage, question, pair.sample.answer, reply.source) for question in reply.items]
    return await _kept(run, settings, pair.passage, samples)


async def _long(run: LeafRun, settings: KnowledgeSettings, pair: _Pair, source: Provenance) -> list[Outcome]:
    """The question with a long answer. It says that one is wanted, for the short one is right as well."""
    reply = await run.ask("long", source, pair.variables)
    question = f"{pair.asked} {settings.long_instruction}"
    sample = _sample("knowledge_long", pair.passage, question, reply.data["answer"], reply.source)
    return await _kept(run, settings, pair.passage, [sample], asked=pair.sample.question)


async def _kept(
    run: LeafRun, settings: KnowledgeSettings, passage: _Passage, samples: Sequence[Sample], *, asked: str = ""
) -> list[Outcome]:
    """What becomes of samples about one passage: the filters, then repetitions go, then the judge.

    `asked` is the question for the judge where it is another than the sample's.
    """
    checks = _checks(run, settings, passage)
    drops = [filters.first_drop(sample, checks) for sample in samples]
    dropped = [run.reject(sample, drop) for sample, drop in zip(samples, drops, strict=True) if drop]
    passed = [sample for sample, drop in zip(samples, drops, strict=True) if not drop]
    different, repeated = filters.without_duplicates(passed, settings.near_duplicate)
    graded = await run.rows(_judged(run, passage, sample, asked or sample.question) for sample in different)
    return [*graded, *repeated, *dropped]


async def _judged(run: LeafRun, passage: _Passage, sample: Sample, question: str) -> list[Outcome]:
    return [await run.grade_by_asking(sample, question, "judge", passage.variables)]


def _checks(run: LeafRun, settings: KnowledgeSettings, passage: _Passage) -> list[filters.Filter]:
    of_kind: dict[Kind, list[filters.Filter]] = {
        "knowledge_short": [
            filters.is_question,
            filters.answer_length(settings.short_answer_words),
            filters.hides_answer,
        ],
        "knowledge_long": [filters.answer_length(settings.long_answer_words)],
    }
    return [
        filters.question_length(settings.question_words),
        lambda sample: filters.first_drop(sample, of_kind[sample.kind]),
        filters.grounded(passage.evidence, settings.grounded_share),
        filters.not_held_out(run.leaf.questions),
    ]


def _short(passage: _Passage, question: str, answer: str, source: Provenance) -> Sample:
    return _sample("knowledge_short", passage, question, answer, source)


def _sample(kind: Kind, passage: _Passage, question: str, answer: str, source: Provenance) -> Sample:
    return Sample.new(kind, filters.self_contained(question.strip(), passage.title), answer.strip(), source)


def _with_fact(source: Provenance, passage: _Passage, question: str, answer: str) -> Provenance:
    """The source with its fact: the sentence that holds most words of the answer and, of several, of the question."""
    paragraphs = _PARAGRAPH_END.split(passage.text)  # a heading is no part of the sentence below it
    sentences = [" ".join(part.split()) for paragraph in paragraphs for part in SENTENCE_END.split(paragraph)]

    def shared(sentence: str) -> tuple[int, ...]:
        there = frozenset(words(sentence))
        return tuple(len(there.intersection(words(text))) for text in (answer, question))

    return source.model_copy(update={"fact": max(sentences, key=shared)})


def _told(sample: Sample) -> frozenset[str]:
    """The words of an answer that tell the detail; where one answer's hold the other's, both tell the same."""
    return frozenset(content_words(sample.answer))
