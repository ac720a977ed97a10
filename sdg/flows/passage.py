"""What the knowledge flow works on: a passage of a document, and what every question about it goes through."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...core.records import Kind, Provenance, Reject, Sample
from ...taxonomy.chunks import Chunk
from .. import filters
from ..flow import LeafRun, Outcome
from ..settings import KnowledgeSettings
from ..words import words

_SENTENCE_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f\u061f\u06d4\u0964])(?=\s|$|[\u3040-\u9fff])")
_PARAGRAPH_END = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class Passage:
    """A text that samples are made from, with what it is called and where it stands."""

    title: str
    heading: str
    text: str
    source: Provenance
    """What all samples about it have in common."""

    @classmethod
    def of(cls, run: LeafRun, chunk: Chunk) -> Passage:
        """A chunk of the leaf's documents, under the title of its document."""
        place = {"document": chunk.document, "heading": chunk.heading, "span": chunk.span}
        title = chunk.heading.split(" > ", 1)[0] or run.leaf.title
        return cls(title, chunk.heading, chunk.text, run.source.model_copy(update=place))

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that all prompts share."""
        return {"title": self.title, "heading": self.heading, "chunk": self.text}

    @property
    def evidence(self) -> str:
        """All that an answer may rest on."""
        return f"{self.title}\n{self.heading}\n{self.text}"


def number_of_sentences(text: str) -> int:
    """How many sentences end in a text; 0 in a list of words."""
    return len(_SENTENCE_END.findall(text))


def short_question(passage: Passage, question: str, answer: str, source: Provenance) -> Sample:
    """A question about a passage with a short answer, led in by its subject where it does not name it."""
    return _question("knowledge_short", passage, question, answer, source)


def long_question(passage: Passage, question: str, answer: str, source: Provenance) -> Sample:
    """The same with an answer in sentences."""
    return _question("knowledge_long", passage, question, answer, source)


def _question(kind: Kind, passage: Passage, question: str, answer: str, source: Provenance) -> Sample:
    return Sample.new(kind, filters.self_contained(question.strip(), passage.title), answer.strip(), source)


async def kept(
    run: LeafRun, settings: KnowledgeSettings, passage: Passage, samples: Sequence[Sample], *, asked: str = ""
) -> list[Outcome]:
    """What becomes of samples about one passage: the filters, then repetitions go, then the judge.

    `asked` is the question for the judge where it is another than the sample's. Raises ModelError.
    """
    passed, dropped = filtered(run, settings, passage, samples)

    async def judged(sample: Sample) -> list[Outcome]:
        return [await run.grade_by_asking(sample, asked or sample.question, "judge", passage.variables)]

    return [*await run.rows(judged(sample) for sample in passed), *dropped]


def filtered(
    run: LeafRun, settings: KnowledgeSettings, passage: Passage, samples: Sequence[Sample]
) -> tuple[list[Sample], list[Outcome]]:
    """Of questions about one passage those that may cost a judgement, and the rejects of the others."""
    checks = _checks(run, settings, passage)
    drops = [filters.first_drop(sample, checks) for sample in samples]
    dropped = [run.reject(sample, drop) for sample, drop in zip(samples, drops, strict=True) if drop]
    passed = [sample for sample, drop in zip(samples, drops, strict=True) if not drop]
    different, repeated = _without_copies(passed, settings.near_duplicate)
    return different, [*repeated, *dropped]


def _without_copies(samples: Sequence[Sample], threshold: float) -> tuple[list[Sample], list[Reject]]:
    """Without what asks the same and has the same answer. With another answer the judge says which is right."""
    by_answer: defaultdict[tuple[str, ...], list[Sample]] = defaultdict(list)
    for sample in samples:
        by_answer[tuple(words(sample.answer))].append(sample)
    told_apart = [filters.without_duplicates(alike, threshold) for alike in by_answer.values()]
    different = {id(sample) for kept, _ in told_apart for sample in kept}
    return [sample for sample in samples if id(sample) in different], [
        each for _, again in told_apart for each in again
    ]


def _checks(run: LeafRun, settings: KnowledgeSettings, passage: Passage) -> list[filters.Filter]:
    of_kind: dict[Kind, list[filters.Filter]] = {
        "knowledge_short": [
            filters.is_question,
            filters.answer_length(settings.short_answer_words),
            filters.hides_answer,
        ],
        "knowledge_long": [
            filters.answer_length(settings.long_answer_words),
            *([filters.is_finished] if settings.strict else []),
        ],
    }
    strict = [
        filters.stands_alone,
        filters.on_topic(passage.evidence),
        filters.is_answer,
        filters.no_leftovers(passage.evidence),
        filters.same_language(passage.text),
    ]
    return [
        filters.question_length(settings.question_words),
        lambda sample: filters.first_drop(sample, of_kind[sample.kind]),
        *(strict if settings.strict else []),
        filters.grounded(passage.evidence, settings.grounded_share),
        run.not_held_out,
    ]


def with_fact(source: Provenance, passage: Passage, question: str, answer: str) -> Provenance:
    """The source with its fact: the sentence that holds most words of the answer and, of several, of the question."""
    if source.fact:
        return source
    paragraphs = _PARAGRAPH_END.split(passage.text)  # a heading is no part of the sentence below it
    sentences = [" ".join(part.split()) for paragraph in paragraphs for part in _SENTENCE_END.split(paragraph)]

    def shared(sentence: str) -> tuple[int, ...]:
        there = frozenset(words(sentence))
        return tuple(len(there.intersection(words(text))) for text in (answer, question))

    return source.model_copy(update={"fact": max(sentences, key=shared)})
