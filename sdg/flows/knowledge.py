"""Knowledge: passages -> questions -> the same in other words and with long answers; texts; questions over two.

What makes a fact stick is to meet it in many forms. A passage is asked for questions about its details, and each of the
facts that it tells for questions too; every answer that comes up, and every seed's, is then asked for in other words. A
small teacher that is asked for many forms of one fact while it sees the text drifts to other facts, so the rewording
sees the question, the answer and the one fact alone. What the student knows already is asked in fewer words. All of it
goes in rounds: round 1 asks every passage what round 0 asked it, and the model answers otherwise.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ...core.records import Provenance, Sample
from ...taxonomy.chunks import Chunk
from ...taxonomy.leaf import Leaf
from .. import filters
from ..flow import LeafRun, Outcome, seed_samples
from ..settings import KnowledgeSettings
from ..words import content_words, words
from .multi_hop import Link, links, multi_hop
from .passage import Passage, kept, long_question, number_of_sentences, short_question, with_fact
from .questions import Pair, list_pairs
from .texts import reasons, text_view, whole_passages

Row = Callable[[], Coroutine[Any, Any, list[Outcome]]]


async def knowledge(run: LeafRun, settings: KnowledgeSettings, chunks: Sequence[Chunk]) -> list[Outcome]:
    """The samples of a knowledge leaf: its seeds, those of its passages as they came up, those made of these two.

    All passages are worked on at once. Only which answers are new waits for the passages before, so that it is no
    matter of timing. Raises ModelError.
    """
    passages = [Passage.of(run, chunk) for chunk in chunks]
    outcomes = [*seed_samples(run, lambda _: "knowledge_short"), *whole_passages(run, settings, passages)]
    there = [frozenset(words(passage.text)) for passage in passages]
    by_hand = [sample for sample in outcomes if isinstance(sample, Sample) and _by_hand(sample)]
    seeds = [_seed(run, sample, passages, there) for sample in by_hand]
    known = _Known.of(seeds)
    linked = links(chunks, settings.multi_hop_partners)
    made = await run.until(settings.quota, _rows(run, settings, seeds, passages, linked, known))
    listed = {id(outcome) for outcome in known.listed}
    return outcomes + sorted(made, key=lambda outcome: id(outcome) not in listed)


def estimate(settings: KnowledgeSettings, chunks: Sequence[Chunk], leaf: Leaf, *, judged: bool = True) -> int:
    """About how many answers a leaf will take without a quota; nobody knows before they are there.

    Guessed is that a passage tells a fact with each sentence, that the questions about a passage give a new answer for
    every fourth of them, that what is asked already is among the facts, and that nothing is dropped. Without `judged`
    those of the judge do not count.
    """
    judge, rounds = (settings.judge and judged) * settings.votes, settings.calls_per_chunk
    sentences, calls = sum(number_of_sentences(chunk.text) for chunk in chunks) * rounds, len(chunks) * rounds
    facts = sentences if settings.questions_per_fact else 0
    details = max(facts, sum(len(example.pairs) for example in leaf.seed_examples) + sentences // 4)
    asked = sentences + facts * settings.questions_per_fact
    total = calls + asked * judge + details * (2 + (settings.rewordings + 1) * judge)
    if facts:
        total += calls + facts
    if settings.reasons_per_chunk:
        total += calls * (1 + settings.reasons_per_chunk * judge)
    total += calls * len(settings.views) * (1 + judge)
    return total + len(links(chunks, settings.multi_hop_partners)) * rounds * (1 + 4 * judge)


class _Details:
    """Sets of words, looked up by their words: a leaf has thousands."""

    def __init__(self, details: Iterable[frozenset[str]] = ()) -> None:
        self._by_word: defaultdict[str, list[frozenset[str]]] = defaultdict(list)
        for told in details:
            self.add(told)

    def has(self, told: frozenset[str]) -> bool:
        """Whether one of them holds all of these words, or these all of its."""
        return any(told <= other or other <= told for word in told for other in self._by_word.get(word, ()))

    def add(self, told: frozenset[str]) -> None:
        for word in told:
            self._by_word[word].append(told)


@dataclass(frozen=True)
class _Known:
    """What is asked in other words already. Answers and facts are told apart: a fact's words hold many an answer's."""

    answers: _Details = field(default_factory=_Details)
    facts: _Details = field(default_factory=_Details)
    of_sentence: defaultdict[str, _Details] = field(default_factory=lambda: defaultdict(_Details))
    """The answers that each sentence gives: another sentence may tell another detail in the same words."""
    listed: list[Outcome] = field(default_factory=list[Outcome])
    """What came of the questions before they were asked in other words."""

    @classmethod
    def of(cls, seeds: Iterable[Pair]) -> _Known:
        """What they tell."""
        known = cls()
        for seed in seeds:
            known.is_new(seed)
        return known

    def is_new(self, pair: Pair) -> bool:
        """Whether the pair tells a detail that is not known; then it is from here on."""
        said = pair.sample.answer
        answer, sentence = frozenset(content_words(said) or words(said)), self.of_sentence[_sentence(pair)]
        told, known = answer, self.answers
        if pair.by_fact:
            told, known = frozenset(content_words(pair.sample.source.fact)), self.facts
        if not told or known.has(told) or (pair.by_fact and sentence.has(answer)):
            return False
        known.add(told)
        sentence.add(answer)
        return True


def _sentence(pair: Pair) -> str:
    """The sentence of its passage that tells what it asks for."""
    own = pair.sample.source.model_copy(update={"fact": ""})
    return with_fact(own, pair.passage, pair.sample.question, pair.sample.answer).fact


def _by_hand(sample: Sample) -> bool:
    return sample.source.seed_example is not None


def _seed(run: LeafRun, sample: Sample, passages: Sequence[Passage], there: Sequence[frozenset[str]]) -> Pair:
    """A seed's pair; its passage is the context that stands beside it in the leaf. `there`: each passage's words."""
    context = run.leaf.seed_examples[sample.source.seed_example or 0].context
    wanted = frozenset(words(context))
    home = max(range(len(passages)), key=lambda number: len(wanted & there[number]), default=None)
    title = run.leaf.title if home is None else passages[home].title
    return Pair(sample, sample.question, Passage(title, title, context, sample.source))


def _rows(
    run: LeafRun,
    settings: KnowledgeSettings,
    seeds: Sequence[Pair],
    passages: Sequence[Passage],
    linked: Sequence[Link],
    known: _Known,
) -> Iterator[Row]:
    """The seeds in other words; then round by round each passage's questions and texts, and those of two passages."""
    yield from (partial(_deepened, run, settings, seed) for seed in seeds)
    before = None
    for call in range(settings.calls_per_chunk):
        for passage in passages:
            turn = _Turn(known, before, asyncio.Event())
            before = turn.ended
            yield partial(_questions, run, settings, passage, call, turn)
            yield from (partial(text_view, run, settings, passage, step, call) for step in settings.view_prompts)
            if settings.reasons_per_chunk:
                yield partial(reasons, run, settings, passage, call)
        for first, second, shared in linked:
            yield partial(multi_hop, run, settings, passages[first], passages[second], shared, call)


@dataclass(frozen=True)
class _Turn:
    """A passage's turn to say which of its details are new, after all passages before."""

    known: _Known
    before: asyncio.Event | None
    ended: asyncio.Event


async def _questions(
    run: LeafRun, settings: KnowledgeSettings, passage: Passage, call: int, turn: _Turn
) -> list[Outcome]:
    """Questions about a passage, and those about its new details in other words and with long answers."""
    listing = await list_pairs(run, settings, passage, call)
    if turn.before:
        await turn.before.wait()
    new = [pair for pair in listing.pairs if turn.known.is_new(pair)]
    outcomes = [*(pair.sample for pair in listing.pairs), *listing.others]
    turn.known.listed.extend(outcomes)
    turn.ended.set()
    return outcomes + await run.rows(_deepened(run, settings, pair) for pair in new)


async def _deepened(run: LeafRun, settings: KnowledgeSettings, pair: Pair) -> list[Outcome]:
    """The same detail asked for in other words, and told in full sentences."""
    made_by = pair.sample.source.model_copy(update={"teacher": run.source.teacher, "grades": {}})
    source, rewordings = with_fact(made_by, pair.passage, pair.asked, pair.sample.answer), settings.rewordings
    if settings.ask_student and (student := run.others.get("student")):
        said = await run.ask("student", source, {"question": pair.sample.question}, model=student)
        source = said.source.model_copy(update={"grades": {"student": said.data}})
        rewordings = 1 if filters.same_answer(pair.sample.answer, said.data) else rewordings
    return await run.rows([_reworded(run, settings, pair, source, rewordings), _long(run, settings, pair, source)])


async def _reworded(
    run: LeafRun, settings: KnowledgeSettings, pair: Pair, source: Provenance, number: int
) -> list[Outcome]:
    reply = await run.ask("reword", source, {**pair.variables, "fact": source.fact, "number": number})
    samples = [short_question(pair.passage, text, pair.sample.answer, reply.source) for text in reply.items]
    return await kept(run, settings, pair.passage, samples)


async def _long(run: LeafRun, settings: KnowledgeSettings, pair: Pair, source: Provenance) -> list[Outcome]:
    """The question with a long answer. It says that one is wanted, for the short one is right as well."""
    reply = await run.ask("long", source, pair.variables)
    question = f"{pair.asked} {settings.long_instruction}"
    sample = long_question(pair.passage, question, reply.data, reply.source)
    return await kept(run, settings, pair.passage, [sample], asked=pair.sample.question)
