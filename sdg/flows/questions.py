"""Questions with short answers about a passage: about its details at once, and about each of its facts."""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from ...core.records import Provenance, Sample
from ..flow import LeafRun, Outcome, RowFailed, all_of
from ..settings import KnowledgeSettings
from ..words import words
from .passage import Passage, kept, number_of_sentences, short_question, with_fact


@dataclass(frozen=True)
class Pair:
    """A question with a short answer, the question as it was before its subject, and the passage that it is about."""

    sample: Sample
    asked: str
    passage: Passage
    by_fact: bool = False
    """It was asked about one of the passage's facts."""

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the prompts that make more of it."""
        return {**self.passage.variables, "question": self.asked, "answer": self.sample.answer}


@dataclass(frozen=True)
class Listing:
    """The pairs that were kept of some calls, and what became of the others."""

    pairs: list[Pair] = field(default_factory=list[Pair])
    others: list[Outcome] = field(default_factory=list[Outcome])


async def list_pairs(run: LeafRun, settings: KnowledgeSettings, passage: Passage, call: int) -> Listing:
    """What one round makes of a passage: questions about all of it, then those about its facts. Raises ModelError."""
    number = max(1, number_of_sentences(passage.text) + settings.extra_questions)
    works = [_asked(run, settings, passage, passage.source, number, call)]
    if settings.questions_per_fact:
        works.append(_by_facts(run, settings, passage, call))
    return await _joined(works)


async def _by_facts(run: LeafRun, settings: KnowledgeSettings, passage: Passage, call: int) -> Listing:
    """The facts of a passage, and questions about each of them."""
    try:
        reply = await run.ask("facts", passage.source, passage.variables, index=call, may_be_cut=True)
    except RowFailed as failed:
        return Listing(others=[run.fail(failed.failure)])
    whole = reply.data.rpartition("\n")[0] if reply.is_cut else reply.data
    sources = [reply.source.model_copy(update={"fact": fact}) for fact in facts_in(whole)]
    return await _joined(_asked(run, settings, passage, each, settings.questions_per_fact, call) for each in sources)


_LIST_SIGN = re.compile(r"^\s*(?:[-*\u2022]|\(?\d+[.)])\s+")
_FEWEST_WORDS = 3
"""Of a fact; fewer are a heading or a stray line."""


def facts_in(text: str) -> list[str]:
    """The facts of a text with one to a line, each once, without the signs of a list."""
    lines = (_LIST_SIGN.sub("", line).strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if len(words(line)) >= _FEWEST_WORDS and not line.endswith(":")))


async def _joined(works: Iterable[Coroutine[Any, Any, Listing]]) -> Listing:
    """Several listings made at once, in the order of `works`."""
    listings = await all_of(works)
    pairs = [pair for listing in listings for pair in listing.pairs]
    return Listing(pairs, [outcome for listing in listings for outcome in listing.others])


async def _asked(
    run: LeafRun, settings: KnowledgeSettings, passage: Passage, source: Provenance, number: int, call: int
) -> Listing:
    """Questions about the source's fact, or the passage where it has none; what filters and judge keep of them."""
    variables = {**passage.variables, "fact": source.fact, "number": number}
    try:
        reply = await run.ask("fact_questions" if source.fact else "questions", source, variables, index=call)
    except RowFailed as failed:
        return Listing(others=[run.fail(failed.failure)])
    texts = [(item["question"].strip(), item["answer"].strip()) for item in reply.items]
    samples = [short_question(passage, *text, with_fact(reply.source, passage, *text)) for text in texts]
    asked = {sample.id: question for sample, (question, _) in zip(samples, texts, strict=True)}
    outcomes = await kept(run, settings, passage, samples)
    by_fact = bool(source.fact)
    pairs = [Pair(outcome, asked[outcome.id], passage, by_fact) for outcome in outcomes if isinstance(outcome, Sample)]
    return Listing(pairs, [outcome for outcome in outcomes if not isinstance(outcome, Sample)])
