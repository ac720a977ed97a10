"""Multi-hop questions: such as two passages of a leaf answer together, and neither alone.

Two passages belong together if both name the same person, place or thing, or stand under the same heading; the fewer
others do so, the more. The judge answers every question three times: by each passage alone, which must not give the
answer, and by both, which must.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from ...core.records import Place, Reject, Sample
from ...taxonomy.chunks import Chunk
from .. import filters
from ..flow import LeafRun, Outcome
from ..settings import KnowledgeSettings
from ..words import content_words
from .passage import Passage, filtered, long_question, short_question


class Link(NamedTuple):
    """Two passages of a leaf, by their place in it, and what both tell about."""

    first: int
    second: int
    shared: str


_MOST_PASSAGES = 8
"""A name that stands in more passages says nothing about any two of them."""
_MOST_SHOWN = 3
"""Of what two passages share."""


def links(chunks: Sequence[Chunk], partners: int) -> list[Link]:
    """Each passage with the `partners` others that it shares most with, every two once, in the documents' order."""
    if not partners:
        return []
    shared: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)
    for name, places in _places(chunks).items():
        for pair in combinations(places, 2):
            shared[pair][name] = 1 / (len(places) - 1)
    best: defaultdict[int, list[tuple[float, int, int]]] = defaultdict(list)
    for (first, second), names in shared.items():
        for passage in (first, second):
            best[passage].append((-sum(names.values()), first, second))
    chosen = {(first, second) for ranked in best.values() for _, first, second in sorted(ranked)[:partners]}
    return [Link(*pair, _shown(shared[pair])) for pair in sorted(chosen)]


def _places(chunks: Sequence[Chunk]) -> dict[str, list[int]]:
    """Name or heading -> the passages that have it, of those that only some do. Names of the title are everywhere."""
    names = {name for chunk in chunks for name in _names(chunk.text)}
    places: defaultdict[str, list[int]] = defaultdict(list)
    for index, chunk in enumerate(chunks):
        title, *sections = chunk.heading.split(" > ")
        told = frozenset(content_words(title))
        found = dict.fromkeys(_WORD.findall(chunk.text))
        for name in [*(name for name in found if name in names and name.casefold() not in told), *sections]:
            places[name].append(index)
    return {name: there for name, there in places.items() if 2 <= len(there) <= _MOST_PASSAGES}


_WORD = re.compile(r"[^\W\d_][\w-]+")
_AFTER_A_WORD = re.compile(rf"(?<=[\w,;)] ){_WORD.pattern}")
"""A word that begins no sentence, line or quotation."""
_HEADING_LINE = re.compile(r"^#.*", re.MULTILINE)


def _names(text: str) -> Iterator[str]:
    """The words that are written with a capital though no sentence begins with them; in a heading many are."""
    for word in _AFTER_A_WORD.findall(_HEADING_LINE.sub("", text)):
        if word[0].isupper() and content_words(word):
            yield word


def _shown(names: Mapping[str, float]) -> str:
    return ", ".join(sorted(names, key=lambda name: (-names[name], name))[:_MOST_SHOWN])


async def multi_hop(
    run: LeafRun, settings: KnowledgeSettings, first: Passage, second: Passage, shared: str, call: int
) -> list[Outcome]:
    """A question about two passages, with a short answer and with the steps that lead to it.

    Raises RowFailed and ModelError.
    """
    both = _joined(first, second)
    variables = {**first.variables, "other_heading": second.heading, "other": second.text, "shared": shared}
    reply = await run.ask("multi_hop", both.source, variables, index=call)
    question, answer, steps = (reply.data[name].strip() for name in ("question", "answer", "explanation"))
    short = short_question(both, question, answer, reply.source.model_copy(update={"fact": steps}))
    passed, outcomes = filtered(run, settings, both, [short])
    for sample in passed:
        outcome = await _judged(run, sample, both, (first, second))
        outcomes.append(outcome)
        if isinstance(outcome, Sample):
            source = outcome.source.model_copy(update={"grades": {}})
            long = long_question(both, f"{question} {settings.long_instruction}", steps, source)
            outcomes += await run.rows([_explained(run, settings, both, long, answer)])
    return outcomes


def _joined(first: Passage, second: Passage) -> Passage:
    """Both as one passage, with the places of both."""
    place = second.source
    also = (Place(document=place.document, heading=place.heading, span=place.span or (0, 0)),)
    source = first.source.model_copy(update={"also": also})
    headings = " and ".join(dict.fromkeys([first.heading, second.heading]))
    return Passage(first.title, headings, f"{first.text}\n\n{second.text}", source)


async def _judged(run: LeafRun, sample: Sample, both: Passage, parts: Sequence[Passage]) -> Outcome:
    """What becomes of a question that both passages must answer, and neither alone."""
    for part in parts if run.recipe.settings.judge else ():
        reply = await run.judged(sample, sample.question, "judge", part.variables)
        said, source = reply.data, reply.source
        sample = sample.model_copy(update={"source": source})
        if not said.reason:
            run.told("rejected")
            known = sample.model_copy(update={"source": source.model_copy(update={"grades": said.grades})})
            return Reject(sample=known, step="judge", reason="one_passage_is_enough", score=part.heading)
    return await run.grade_by_asking(sample, sample.question, "judge", both.variables)


async def _explained(
    run: LeafRun, settings: KnowledgeSettings, both: Passage, long: Sample, answer: str
) -> list[Outcome]:
    """The steps as a long answer, if they come to the short one and rest on the passages."""
    passed, dropped = filtered(run, settings, both, [long])

    def comes_to_it(sample: Sample) -> filters.Drop | None:
        return None if filters.same_answer(answer, sample.answer) else filters.Drop("explains_another_answer")

    about = {**both.variables, "text": f"{long.question}\n{long.answer}"}
    return [*[await run.grade(sample, [comes_to_it], "faithful", about) for sample in passed], *dropped]
