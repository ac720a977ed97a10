"""Replay: which older samples a phase sees again, so that the student does not forget.

A share s of a phase's samples is replayed: beside n new samples and shares s1, s2 stand n * s1 / (1 - s1 - s2) and
n * s2 / (1 - s1 - s2) older ones, or as many as there are. Those are the samples of one epoch; the next epoch has the
next ones of the order in which they are drawn, and the first again when all had their turn, for what holds a fact is
that all its forms are seen, not one of them often (docs/log.md). A source that has too few is not made up for: what one
source gives does not hang on what the others have, so its part of the whole is then above its share, and that of all
replay together below theirs. `at_most` bounds them all together, each source in proportion to its share; where that is
all that is said, earlier phases and earlier cycles have half of it each, or one all of it where the other has nothing.
What is drawn follows from the samples, the buffer, the cycle before and the seed alone.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ..core.config import Config
from ..core.progress import Progress, SilentProgress
from ..core.records import Sample
from .data import Item, Origin, Pool, TrainingInputs
from .drawing import ordered
from .general import general_prompts, may_be_right, read_general
from .plan import LOSS_ON_ROWS, TRAINS_ON, Phase, Plan
from .selection import trained_items
from .self_generated import (
    GENERAL_ANSWERS_NAME,
    GENERAL_TOKENS,
    OWN_NAME,
    OWN_TOKENS,
    AnswerOwn,
    OwnAnswers,
    as_they_are,
)
from .settings import Replay


@dataclass(frozen=True)
class OwnWords:
    """What models say themselves, where a phase replays that; unless told otherwise no model is run."""

    student: AnswerOwn = as_they_are
    """The model that training starts from."""
    base: AnswerOwn = as_they_are
    """The one that no cycle has trained yet."""


SILENT = OwnWords()


def own_words(
    inputs: TrainingInputs, tokenizer: Any, config: Config, out: Path, progress: Progress | None = None
) -> OwnWords:
    """Those of a run's two models; its files are in `out`.

    Without `progress` no model is run, and what it has not said yet is not known.
    """
    ask = partial(
        OwnAnswers,
        tokenizer=tokenizer,
        system_prompt=config.student.system_prompt,
        may_train=inputs.past.may_train,
        progress=progress or SilentProgress(),
        asks=progress is not None,
    )
    model, file = inputs.base or (inputs.student, out / GENERAL_ANSWERS_NAME)
    return OwnWords(
        student=ask(model=inputs.student, file=out / OWN_NAME, most_tokens=OWN_TOKENS),
        base=ask(model=model, file=file, most_tokens=GENERAL_TOKENS),
    )


@dataclass(frozen=True)
class Source:
    """Where replayed samples come from."""

    origin: Origin
    share: float
    items: Sequence[Item]
    weights: Mapping[str, float]
    """Of each leaf: the sum over its items."""


@dataclass(frozen=True)
class Drawn:
    """What a phase replays of one source."""

    source: Source
    items: list[Item]
    """In the order in which they are drawn."""
    an_epoch: int
    """How many of them an epoch has."""


def epochs_of(place: int, count: int, an_epoch: int, epochs: int) -> tuple[int, ...]:
    """The epochs, from 1, that replay the item at `place` of `count` drawn ones; none said where it is in all of them.

    The epochs take `an_epoch` items each, one epoch after the other and from the first item again after the last.
    """
    if count <= an_epoch:
        return ()
    return tuple(epoch + 1 for epoch in range(epochs) if (place - epoch * an_epoch) % count < an_epoch)


def replayed(  # noqa: PLR0913 (what decides it)
    plan: Plan,
    index: int,
    pool: Pool,
    *,
    new: int,
    seed: int,
    own: OwnWords,
    tokens_of: Callable[[Item], int],
) -> list[Drawn]:
    """What phase `index` replays beside `new` new samples, source by source. Raises DataError, ModelError."""
    phase, replay = plan.phases[index], plan.phases[index].replay
    sources, draws = _sources(plan, index, pool, seed), list[_Draw]()
    for source, (count, tokens) in zip(sources, _amounts(replay, sources, new), strict=True):
        taken = {item.id for draw in draws for item in draw.once}
        free = [item for item in source.items if item.id not in taken]
        drawn_by = f"{seed}/{pool.past.after}/{phase.name}/{source.origin}"
        order = ordered(free, drawn_by, lambda item: pool.past.weight(item, replay.weight))
        per_leaf = None if source.origin == "general" else replay.per_leaf
        draws.append(_Draw(source, order, count, tokens, per_leaf, tokens_of))
    return [_turns(draw, draws, phase, own) for draw in draws]


@dataclass(frozen=True)
class _Draw:
    """How a source is drawn from."""

    source: Source
    order: Sequence[Item]
    count: int
    """Of an epoch."""
    tokens: int | None
    per_leaf: int | None
    tokens_of: Callable[[Item], int]

    @cached_property
    def once(self) -> list[Item]:
        """What one epoch sees."""
        return self.first(1)

    def first(self, epochs: int, without: Container[str] = ()) -> list[Item]:
        """What so many epochs see."""
        order = [item for item in self.order if item.id not in without]
        return _first(order, self.count * epochs, self.per_leaf, self.tokens, self.tokens_of)


def _turns(draw: _Draw, draws: Sequence[_Draw], phase: Phase, own: OwnWords) -> Drawn:
    """What all epochs see of a source, without what others have in the first."""
    if draw.tokens is not None or not _takes_turns(phase, draw.source):
        items = draw.once
        answered = _answered(items, draw.source, phase.replay, own)
        if draw.tokens is not None:  # the answers are longer or shorter than was thought
            answered = _first(answered, len(answered), draw.per_leaf, draw.tokens, draw.tokens_of)
        return Drawn(draw.source, answered, len(answered))
    others = {item.id for other in draws if other is not draw for item in other.once}
    items = draw.first(phase.epochs, others)
    answered = _answered(items, draw.source, phase.replay, own)
    return Drawn(draw.source, answered, min(draw.count, len(answered)))


def _takes_turns(phase: Phase, source: Source) -> bool:
    """Whether each epoch replays other samples: where rows are trained one by one.

    Not of what the student is to answer anew in every cycle; the base model answers general prompts once.
    """
    return phase.method in LOSS_ON_ROWS - {"pretrain"} and source.origin != "self_generated"


def replay_count(new: int, share: float, all_shares: float) -> int:
    """How many samples of one source are replayed beside `new` new ones; `all_shares` is the sum over the sources."""
    return round(new * share / (1 - all_shares))


def _sources(plan: Plan, index: int, pool: Pool, seed: int) -> list[Source]:
    """Those that the phase replays from, and what they have that its method can use.

    Where it has a budget and no shares, both of its own samples, with equal ones.
    """
    phase, shares = plan.phases[index], plan.phases[index].replay
    usable = TRAINS_ON[phase.method]
    before = [item for item in _trained_before(plan, index, pool, seed) if item.kind in usable]
    kinds = plan.kinds & usable
    older = [item for item in pool.earlier if item.kind in kinds]
    asked: list[Item] = [item for item in older if isinstance(item, Sample) and item.kind != "document"]
    found: list[tuple[Origin, float, list[Item]]] = [
        ("earlier_phase", shares.earlier_phases, before),
        ("earlier_cycle", shares.earlier_cycles, older),
        ("general", shares.general, [*_general(shares)]),
        ("self_generated", shares.self_generated, asked),
    ]
    if shares.at_most and not shares.shares:
        found = [(origin, 1.0, items) for origin, _, items in found[:2] if items]
    return [Source(origin, share, items, _weights(items, pool, shares)) for origin, share, items in found if share]


def _general(replay: Replay) -> list[Sample]:
    """Conversations of the user's file, or prompts that the base model answers."""
    if not replay.general:
        return []
    return read_general(Path(replay.general_file)) if replay.general_file else [*general_prompts()]


def _answered(items: list[Item], source: Source, replay: Replay, own: OwnWords) -> list[Item]:
    """The items, those of a source that has prompts only with a model's answers."""
    if source.origin == "self_generated":
        return list[Item](own.student([item for item in items if isinstance(item, Sample)]))
    if source.origin == "general" and not replay.general_file:
        answered = own.base([item for item in items if isinstance(item, Sample)])
        return [item for item in answered if may_be_right(item)]
    return items


def _trained_before(plan: Plan, index: int, pool: Pool, seed: int) -> list[Item]:
    """What is new in the phases before it, those of reward models left out, and not in this one."""
    before = [phase for phase in plan.phases[:index] if phase.method != "reward"]
    items = {item.id: item for phase in before for item in trained_items(phase, pool, seed)}
    own = {item.id for item in trained_items(plan.phases[index], pool, seed)}
    return [item for id_, item in items.items() if id_ not in own]


def _weights(items: Sequence[Item], pool: Pool, replay: Replay) -> dict[str, float]:
    weights: defaultdict[str, float] = defaultdict(float)
    for item in items:
        weights[item.source.leaf] += pool.past.weight(item, replay.weight)
    return weights


def _amounts(replay: Replay, sources: Sequence[Source], new: int) -> list[tuple[int, int | None]]:
    """Of each source, how many samples, and how many tokens at most."""
    counts = [
        replay_count(new, source.share, replay.shares) if replay.shares else len(source.items) for source in sources
    ]
    if not replay.at_most:
        return [(count, None) for count in counts]
    number, unit = replay.at_most.split()
    parts = _parts(int(number), [source.share for source in sources])
    if unit == "tokens":
        return list(zip(counts, parts, strict=True))
    return [(min(count, part), None) for count, part in zip(counts, parts, strict=True)]


def _parts(number: int, shares: Sequence[float]) -> list[int]:
    """A number in parts in proportion to the shares, which add up to it."""
    ends = [round(number * end / sum(shares)) for end in itertools.accumulate(shares)]
    return [end - start for start, end in itertools.pairwise([0, *ends])]


def _first(
    order: Sequence[Item],
    count: int,
    per_leaf: int | None,
    tokens: int | None,
    tokens_of: Callable[[Item], int],
) -> list[Item]:
    """The first items of an order, within all three bounds: one that does not fit any more is passed over."""
    taken, of_leaf = list[Item](), Counter[str]()
    for item in order:
        if len(taken) == count or tokens == 0:
            break
        if of_leaf[item.source.leaf] == per_leaf:
            continue
        if tokens is not None:
            if (size := tokens_of(item)) > tokens:
                continue
            tokens -= size
        of_leaf[item.source.leaf] += 1
        taken.append(item)
    return taken
