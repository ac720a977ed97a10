"""Contamination: how near every held-out question comes to what a model was trained on, and what of it is a leak.

Of each question the nearest sample by its words and, where an embedding model is given, by its meaning, with where that
sample came from. What a leak is says `core.held_out`; what is near and none is there to be read.

Neither search compares all with all. Words: a sample is looked up by its words among those of the questions. Meaning:
only the few samples that have most in common with a question are embedded (docs/decisions/0016 has what that misses).
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from operator import mul
from typing import Literal, NamedTuple, get_args

from ..core.held_out import Leak, LeakKind, leak_finder, read_words, share_together
from ..core.records import Provenance, Question, Record, Sample
from ..core.reworded import Likeness, questions_in

NEAREST = 16
"""So many samples are kept for each question, to be compared with it in full."""

_CROWD = 64
"""A word that more questions have tells none of them from the others: samples are not looked up by it."""

_SHOWN_CHARACTERS = 300

Origin = Literal["new", "earlier_phase", "earlier_cycle", "general", "self_generated", "past_release"]
"""Why a sample is trained: it is of this cycle, or of what it may replay; or a release before it saw it, and the sample
is there no more."""

_BY_THE_RECIPE: frozenset[Origin] = frozenset({"new", "earlier_phase", "earlier_cycle"})
"""Made by the recipe as it is now."""

Embed = Callable[[str], Sequence[float]]
"""A text's embedding, of length 1."""


class Trained(NamedTuple):
    """A sample that is trained, and why."""

    sample: Sample
    origin: Origin


class Neighbour(Record):
    """A trained sample that comes near a question."""

    sample_id: str
    leaf: str
    origin: Origin
    text: str
    """The turn, or the question in it, that comes near; its beginning."""
    likeness: float
    """From 0 to 1. By words: the share of the question's words that stand together there, function words not counted.
    By meaning: the cosine. To three digits."""
    run: int = 0
    """By words: how many of the question's words, all counted, stand there in a row."""


class Item(Record):
    """What comes nearest to one held-out question."""

    question_id: str
    leaf: str
    question: str
    kind: LeakKind | Literal["none"]
    """The plainest leak of it."""
    leak: Neighbour | None = None
    """A sample that it leaks into so."""
    by_words: Neighbour | None
    """None: no sample has a word of it that few questions have."""
    by_meaning: Neighbour | None = None


class ContaminationReport(Record):
    """Every held-out question against all that was trained. Saved as `contamination.json`."""

    as_trained: bool
    """Whether it is about the files that were trained on; else about all that they may be drawn from."""
    samples: Mapping[Origin, int]
    by_meaning: bool
    """Whether questions were compared by meaning as well; else by their words alone."""
    counts: Mapping[str, int]
    """Held-out questions by `kind`."""
    items: tuple[Item, ...]
    leaks: tuple[Leak, ...]


def contamination(
    questions: Sequence[Question],
    trained: Iterable[Trained],
    *,
    likeness: Likeness | None = None,
    embed: Embed | None = None,
    as_trained: bool = False,
) -> ContaminationReport:
    """Look for every question in every sample; samples are passed through once.

    With `likeness` a reworded question leaks too, if it stands in a sample made by the recipe as it is now: others were
    made as the recipe of their day had it. `embed` alone tells what is nearest by meaning and decides nothing.
    """
    embed = embed or (likeness.embed if likeness else None)
    strict, plain = leak_finder(questions, likeness), leak_finder(questions)
    shortlists, counts = _Shortlists(questions), Counter[Origin]()
    leaks: list[Leak] = []
    first: dict[str, tuple[Leak, Trained]] = {}
    for each in trained:
        counts[each.origin] += 1
        found = (strict if each.origin in _BY_THE_RECIPE else plain)(each.sample)
        for leak in found:
            if leak.question_id not in first or _rank(leak) < _rank(first[leak.question_id][0]):
                first[leak.question_id] = leak, each
        leaks += found
        shortlists.look_at(each, {leak.question_id for leak in found})
    items = [
        _item(question, shortlist, first.get(question.id), embed)
        for question, shortlist in zip(questions, shortlists.best(), strict=True)
    ]
    return ContaminationReport(
        as_trained=as_trained,
        samples=counts,
        by_meaning=embed is not None,
        counts=Counter(item.kind for item in items),
        items=tuple(items),
        leaks=tuple(leaks),
    )


def _rank(leak: Leak) -> int:
    return get_args(LeakKind).index(leak.kind)


def _item(
    question: Question, shortlist: Sequence[Trained], first: tuple[Leak, Trained] | None, embed: Embed | None
) -> Item:
    leaked = None
    if first:
        leak, trained = first
        text = (
            trained.sample.answer
            if leak.kind == "answer"
            else _nearest_turn(share_together(question.question), trained.sample)[1]
        )
        leaked = _neighbour(trained, text, leak.overlap)
    return Item(
        question_id=question.id,
        leaf=question.leaf,
        question=question.question,
        kind=first[0].kind if first else "none",
        leak=leaked,
        by_words=_by_words(question, shortlist),
        by_meaning=_by_meaning(question, shortlist, embed) if embed else None,
    )


def _by_words(question: Question, shortlist: Sequence[Trained]) -> Neighbour | None:
    together = share_together(question.question)
    near = [(*_nearest_turn(together, each.sample), each) for each in shortlist]
    if not near:
        return None
    share, text, trained = max(near, key=lambda one: one[0])
    asked, there = read_words(question.question).phrase.split(), read_words(text).phrase.split()
    run = SequenceMatcher(None, there, asked, autojunk=False).find_longest_match().size
    return _neighbour(trained, text, share, run)


def _nearest_turn(together: Callable[[str], float], sample: Sample) -> tuple[float, str]:
    """The turn that has most of the question's words together, and their share."""
    shares = ((together(message.content), message.content) for message in sample.messages)
    return max(shares, key=lambda one: one[0])


def _by_meaning(question: Question, shortlist: Sequence[Trained], embed: Embed) -> Neighbour | None:
    texts = [(text, each) for each in shortlist for text in questions_in(each.sample)]
    if not texts:
        return None
    wanted = embed(question.question)
    near = [(sum(map(mul, wanted, embed(text))), text, each) for text, each in texts]
    cosine, text, trained = max(near, key=lambda one: one[0])
    return _neighbour(trained, text, cosine)


def _neighbour(trained: Trained, text: str, likeness: float, run: int = 0) -> Neighbour:
    sample = trained.sample
    return Neighbour(
        sample_id=sample.id,
        leaf=sample.source.leaf,
        origin=trained.origin,
        text=text[:_SHOWN_CHARACTERS],
        likeness=round(likeness, 3),
        run=run,
    )


class _Shortlists:
    """Of each question the samples that have most words in common with it and its answers, rare words counting more.

    The measure is that of a search engine: inverse document frequency over the questions, and the length of a sample
    counts against it. A sample that a question leaks into is on its list.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self._places = {question.id: place for place, question in enumerate(questions)}
        words = [_words_of(question) for question in questions]
        frequency = Counter(itertools.chain.from_iterable(words))
        self._index: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for place, some in enumerate(words):
            rarest = sorted(some, key=lambda word: (frequency[word], word))
            for word in [word for word in rarest if frequency[word] <= _CROWD] or rarest[:1]:
                self._index[word].append((place, math.log(1 + len(words) / frequency[word]) ** 2))
        self._lists: list[list[tuple[float, int, Trained]]] = [[] for _ in questions]
        self._least = [0.0] * len(questions)
        """The score that a sample has to pass; of equal ones the first stays."""
        self._order = itertools.count()

    def look_at(self, trained: Trained, leaked: Iterable[str]) -> None:
        """Put a sample on the lists that it belongs on."""
        there = set(itertools.chain.from_iterable(read_words(turn.content).telling for turn in trained.sample.messages))
        scores: defaultdict[int, float] = defaultdict(float)
        for word in there:
            for place, weight in self._index.get(word, ()):
                scores[place] += weight
        length = math.sqrt(max(1, len(there)))
        scores |= {self._places[question_id]: math.inf for question_id in leaked}
        for place, score in scores.items():
            if score / length > self._least[place]:
                self._put(place, score / length, trained)

    def best(self) -> Iterator[list[Trained]]:
        """The list of each question, the best first."""
        for some in self._lists:
            yield [trained for _, _, trained in sorted(some, key=lambda one: (-one[0], -one[1]))]

    def _put(self, place: int, score: float, trained: Trained) -> None:
        some = self._lists[place]
        put = heapq.heappush if len(some) < NEAREST else heapq.heapreplace
        put(some, (score, -next(self._order), _light(trained)))
        if len(some) == NEAREST:
            self._least[place] = some[0][0]


def _light(trained: Trained) -> Trained:
    """The sample without what it was made from: of ten thousand leaves' questions, 300,000 are on the lists."""
    return trained._replace(sample=trained.sample.model_copy(update={"source": _only_leaf(trained.sample.source.leaf)}))


@functools.lru_cache(maxsize=1_000)
def _only_leaf(leaf: str) -> Provenance:
    return Provenance(leaf=leaf, leaf_fingerprint="", commit="", recipe="", recipe_fingerprint="", teacher="")


def _words_of(question: Question) -> frozenset[str]:
    texts = (question.question, *question.answers)
    return frozenset(itertools.chain.from_iterable(read_words(text).telling for text in texts))
