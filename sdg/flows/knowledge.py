"""Knowledge: chunks -> questions with short and with long answers -> the same asked in other words -> filters -> judge.

What makes a fact stick is to meet it in many forms. A chunk is asked for questions about its details; every answer
that comes up, and every seed's, is then asked for in other words. A small teacher that is asked for many forms of one
fact while it sees the text drifts to other facts, so the rewording sees the question and the answer alone.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.records import Kind, Provenance, Reject, Sample
from ...taxonomy.chunks import Chunk
from .. import filters
from ..flow import Failure, LeafRun, Outcome, RowFailed, seed_samples, together
from ..recipe import KnowledgeSettings
from ..words import content_words, words

SENTENCE_END = re.compile(r"[.!?\u3002\uff01\uff1f](?=\s|$|[\u3040-\u9fff])")


async def knowledge(run: LeafRun, settings: KnowledgeSettings, chunks: Sequence[Chunk]) -> list[Outcome]:
    """The samples of a knowledge leaf: its seeds, then those of every passage in the order of the documents.

    All passages are worked on at once. Only which answers are new waits for the passages before, so that it is no
    matter of timing. Raises ModelError.
    """
    outcomes = seed_samples(run, lambda _: "knowledge_short")
    seeds = [_seed(run, sample, chunks) for sample in outcomes if isinstance(sample, Sample)]
    async with together() as group:
        rows = [group.create_task(_deepened(run, settings, seed)) for seed in seeds]
        passages = [_passage(run, chunk) for chunk in chunks]
        asked = [
            group.create_task(_pairs(run, settings, passage, call))
            for passage in passages
            for call in range(settings.calls_per_chunk)
        ]
        known = [_told(seed.sample) for seed in seeds]
        for listing in asked:
            found, rest = await listing
            outcomes += [*(each.sample for each in found), *rest]
            for each in found:
                told = _told(each.sample)
                if not any(told <= other or other <= told for other in known):
                    known.append(told)
                    rows.append(group.create_task(_deepened(run, settings, each)))
    return outcomes + [outcome for row in rows for outcome in row.result()]


@dataclass(frozen=True)
class _Passage:
    """A text that questions are made from, and what samples made from it have in common."""

    title: str
    heading: str
    text: str
    source: Provenance

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
    """A question with a short answer, the passage that it is about, and the question as it was before its subject."""

    sample: Sample
    asked: str
    passage: _Passage


def _passage(run: LeafRun, chunk: Chunk) -> _Passage:
    place = {"document": chunk.document, "heading": chunk.heading, "span": chunk.span}
    title = chunk.heading.split(" > ", 1)[0] or run.leaf.title
    return _Passage(title, chunk.heading, chunk.text, run.source.model_copy(update=place))


def _seed(run: LeafRun, sample: Sample, chunks: Sequence[Chunk]) -> _Pair:
    """A seed's pair; its passage is the context that stands beside it in the leaf."""
    title = _passage(run, chunks[0]).title if chunks else run.leaf.title
    context = run.leaf.seed_examples[sample.source.seed_example or 0].context
    source = sample.source.model_copy(update={"teacher": run.source.teacher})
    return _Pair(sample, sample.question, _Passage(title, title, context, source))


async def _pairs(
    run: LeafRun, settings: KnowledgeSettings, passage: _Passage, call: int
) -> tuple[list[_Pair], list[Outcome]]:
    """Questions about a passage: those that were kept, and what became of the others."""
    number = len(SENTENCE_END.findall(passage.text)) + settings.extra_questions
    try:
        variables = {**passage.variables, "number": number}
        reply = await run.ask("questions", passage.source, variables, index=call)
    except RowFailed as failed:
        return [], [run.fail(failed.failure)]
    items = [reply.data[f"q{position}"] for position in range(1, number + 1)]
    pairs = [_pair(passage, item["question"], item["answer"], reply.source) for item in items]
    return await _kept(run, settings, pairs)


async def _deepened(run: LeafRun, settings: KnowledgeSettings, pair: _Pair) -> list[Outcome]:
    """The same detail asked for in other words, and told in full sentences."""
    source = pair.sample.source.model_copy(update={"teacher": run.source.teacher, "grades": {}})
    variables = {**pair.passage.variables, "question": pair.asked, "answer": pair.sample.answer}
    pair = _Pair(pair.sample.model_copy(update={"source": source}), pair.asked, pair.passage)
    async with together() as group:
        asked = [
            group.create_task(_pairs_or_failure(run, made))
            for made in (_reworded(run, settings, pair, variables), _long(run, settings, pair, variables))
        ]
    pairs = [each for task in asked for each in task.result() if isinstance(each, _Pair)]
    failures = [each for task in asked for each in task.result() if isinstance(each, Failure)]
    kept, rest = await _kept(run, settings, pairs)
    return [*(each.sample for each in kept), *rest, *failures]


async def _pairs_or_failure(run: LeafRun, made: Coroutine[Any, Any, list[_Pair]]) -> list[_Pair | Failure]:
    try:
        return [*await made]
    except RowFailed as failed:
        return [run.fail(failed.failure)]


async def _reworded(
    run: LeafRun, settings: KnowledgeSettings, pair: _Pair, variables: Mapping[str, Any]
) -> list[_Pair]:
    reply = await run.ask("reword", pair.sample.source, {**variables, "number": settings.rewordings})
    questions = [reply.data[f"q{position}"] for position in range(1, settings.rewordings + 1)]
    return [_pair(pair.passage, question, pair.sample.answer, reply.source) for question in questions]


async def _long(run: LeafRun, settings: KnowledgeSettings, pair: _Pair, variables: Mapping[str, Any]) -> list[_Pair]:
    """The question with a long answer. It says that one is wanted, for the short one is right as well."""
    reply = await run.ask("long", pair.sample.source, variables)
    asked = f"{pair.asked} {settings.long_instruction}"
    return [
        _Pair(_sample("knowledge_long", pair.passage, asked, reply.data["answer"], reply.source), asked, pair.passage)
    ]


async def _kept(run: LeafRun, settings: KnowledgeSettings, pairs: Sequence[_Pair]) -> tuple[list[_Pair], list[Outcome]]:
    """The pairs that pass the filters and the judge, who is asked once for all; and what became of the rest."""
    if not pairs:
        return [], []
    passage, by_id = pairs[0].passage, {pair.sample.id: pair for pair in pairs}
    samples, repeated = filters.without_duplicates([pair.sample for pair in pairs], settings.near_duplicate)
    try:
        checks = _checks(run, settings, passage)
        outcomes = await run.grade_together(samples, checks, "judge", passage.variables)
    except RowFailed as failed:
        return [], [run.fail(failed.failure), *repeated]
    kept = [_Pair(each, by_id[each.id].asked, passage) for each in outcomes if isinstance(each, Sample)]
    rest: list[Outcome] = [each for each in outcomes if isinstance(each, Reject)]
    return kept, [*rest, *repeated]


def _checks(run: LeafRun, settings: KnowledgeSettings, passage: _Passage) -> list[filters.Filter]:
    lengths = {
        "knowledge_short": filters.answer_length(settings.short_answer_words),
        "knowledge_long": filters.answer_length(settings.long_answer_words),
    }
    return [
        lambda sample: filters.is_question(sample) if sample.kind == "knowledge_short" else None,
        filters.question_length(settings.question_words),
        lambda sample: lengths[sample.kind](sample),
        lambda sample: filters.hides_answer(sample) if sample.kind == "knowledge_short" else None,
        filters.grounded(passage.evidence, settings.grounded_share),
        filters.not_held_out(run.leaf.questions),
    ]


def _pair(passage: _Passage, question: str, answer: str, source: Provenance) -> _Pair:
    return _Pair(_sample("knowledge_short", passage, question, answer, source), question.strip(), passage)


def _sample(kind: Kind, passage: _Passage, question: str, answer: str, source: Provenance) -> Sample:
    fact = _sentence(passage.text, answer)
    asked = filters.self_contained(question.strip(), passage.title)
    return Sample.new(kind, asked, answer.strip(), source.model_copy(update={"fact": fact}))


def _sentence(text: str, answer: str) -> str:
    """The sentence of a text that holds most words of an answer: the fact that the answer tells."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    places = zip([0, *ends], [*ends, len(text)], strict=True)
    sentences = [" ".join(text[start:end].split()) for start, end in places if text[start:end].strip()]
    wanted = frozenset(words(answer))
    return max(sentences, key=lambda sentence: len(wanted.intersection(words(sentence))), default="")


def _told(sample: Sample) -> frozenset[str]:
    """The words of an answer that tell the detail; where one answer's hold the other's, both tell the same."""
    return frozenset(content_words(sample.answer))
