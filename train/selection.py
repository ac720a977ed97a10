"""Which samples a phase holds back, and what its evaluations say: which epoch is best, and whether it over-fits.

Samples are held back from the whole run: what one phase measures by, no phase trains or replays. They are new ones
(replayed ones were trained before), of each leaf in proportion, and never the only sample of a fact, which nothing
else would teach.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Literal

from ..core.config import Config
from ..core.errors import CheckFailed, ConfigError
from ..core.records import Record
from .data import Item, Pool, in_leaves
from .distributed import for_phase
from .drawing import draw
from .plan import LEARNS_FROM_ANSWERS, LOSS_ON_ROWS, Phase, Plan
from .settings import Selection

LEAST = 64
"""Samples held back that `auto` chooses by. Epochs are compared on the same samples, so what counts is how much the
difference of their losses varies from sample to sample: an eighth of that is the standard error of the mean of 64. Of
a dozen, the lowest loss is mostly luck, and the phase would miss those samples more than it gains by the choice."""
_SHARE, _MOST, _MOST_SHARE = 0.05, 512, 0.5
_RISES = 2


class Evaluation(Record):
    """The model at the end of an epoch: a line of `evaluations.jsonl`."""

    epoch: int
    """From 1."""
    step: int
    training: Mapping[str, float] = {}
    """`loss` and, where the method has one, `accuracy` (the share of tokens or pairs that are right) on a fixed sample
    of what is trained, without dropout or noise; for methods that learn from answers of their own, the means of what
    the epoch's steps said."""
    validation: Mapping[str, float] = {}
    """The same on the samples held back; empty where none are."""
    held_out: int | None = None
    """Generated held-out questions answered rightly, where the phase selects by that."""
    more: Mapping[str, float] = {}
    """What else was measured."""
    seconds: float = 0.0


def new_items(phase: Phase, items: Sequence[Item], seed: int) -> list[Item]:
    """The new items that a phase is about, those held back among them."""
    found = [item for item in items if item.kind in phase.kinds and in_leaves(item, phase.leaves)]
    return draw(found, math.ceil(len(found) * phase.share), f"{seed}/{phase.name}/new") if phase.share < 1 else found


def trained_items(phase: Phase, pool: Pool, seed: int) -> list[Item]:
    """Those of them that it trains."""
    return [item for item in new_items(phase, pool.new, seed) if item.id not in pool.held]


def held_back(plan: Plan, items: Sequence[Item], seed: int) -> frozenset[str]:
    """Ids of the new items that no phase of the plan trains."""
    held: set[str] = set()
    for phase in plan.phases:
        own = new_items(phase, items, seed)
        missing = _wanted(phase, len(own)) - sum(item.id in held for item in own)
        spare = _beside_one_of_each_fact([item for item in own if item.id not in held], seed)
        if missing > 0 and not (_is_auto(phase) and len(spare) < missing):
            held |= {item.id for item in draw(spare, missing, f"{seed}/{phase.name}/validation")}
    return frozenset(held)


def check_askable(plan: Plan, *, there: bool, config: Config) -> None:
    """Raise ConfigError if a phase selects by held-out questions and nobody can be asked."""
    for phase in (phase for phase in plan.phases if phase.select.by == "held_out"):
        if there and for_phase(config, phase).train.alone:
            continue
        if there:
            what, fix = "which one process alone can do", "set train.processes: 1 and train.distributed: none"
        else:
            what, fix = "but there are no generated held-out questions", "let the recipe make tests"
        fix += "" if phase.method in LEARNS_FROM_ANSWERS else ", or `select: {by: validation_loss}`"
        raise ConfigError(f"it selects by held_out, {what}", where=f"phase {phase.name!r}", fix=fix)


def settled(phase: Phase, new: int, validation: int) -> tuple[Selection, str]:
    """The phase's selection without `auto`, where `validation` of its `new` samples are held back, and why.

    Raises CheckFailed when it would select by what it does not have.
    """
    if phase.select.by == "auto" and phase.method not in LOSS_ON_ROWS:
        last = phase.select.model_copy(update={"by": "last", "validation": 0.0})
        return last, f"last ({phase.method} has no loss on samples held back)"
    held = f"{validation:,} of {new:,} new samples held back"
    if phase.select.by == "validation_loss" and not validation:
        what = f"none of its {new:,} new samples can be held back to select by: each is the only one of its fact"
        fix = "let the recipe make more of each, or write `select: {by: last}`"
        raise CheckFailed(what, where=f"phase {phase.name!r}", fix=fix)
    by: Literal["auto", "last", "validation_loss", "held_out"] = phase.select.by
    if by == "auto":
        by = "validation_loss" if validation >= LEAST else "last"
        held += "" if validation >= LEAST else f", to choose takes {LEAST}"
    share = min(_MOST_SHARE, validation / new)  # what is rounded up, of few that fit, may be more than a plan may ask
    return phase.select.model_copy(update={"by": by, "validation": share}), f"{by} ({held})"


def kept(evaluations: Sequence[Evaluation], select: Selection) -> list[Evaluation]:
    """The epochs whose models are kept, the best first, of equals the earliest; none where the last one is taken."""
    if select.by == "last":
        return []
    return sorted(evaluations, key=lambda evaluation: _badness(evaluation, select))[: select.keep]


def best(evaluations: Sequence[Evaluation], select: Selection) -> Evaluation | None:
    """The first of them; None where the last one is taken, or none is over yet."""
    return next(iter(kept(evaluations, select)), None)


def ends_early(evaluations: Sequence[Evaluation], select: Selection) -> bool:
    """Whether the last `patience` epochs were no better than one before them."""
    found = best(evaluations, select)
    return bool(select.patience) and found is not None and evaluations[-1].epoch - found.epoch >= select.patience


def over_fitting_since(evaluations: Sequence[Evaluation]) -> int:
    """The epoch since which the loss on held-back samples rises while that on training samples falls, or 0.

    One epoch of it may be chance; two in a row, up to the last one, are said.
    """
    since = 0
    for before, after in itertools.pairwise(evaluations):
        apart = _rose(before.validation, after.validation) and _rose(after.training, before.training)
        since = (since or after.epoch) if apart else 0
    return since if since and evaluations[-1].epoch - since + 1 >= _RISES else 0


def in_words(evaluations: Sequence[Evaluation], phase: Phase) -> str:
    """The last evaluation in a line: `phase skills, epoch 3 of 10: …`."""
    last, since = evaluations[-1], over_fitting_since(evaluations)
    said = [_numbers(last.training, "training") if phase.method in LOSS_ON_ROWS else _on_own_answers(evaluations)]
    said += [_numbers(last.validation, "samples held back")] if last.validation else []
    said += [f"{last.held_out} held-out questions right"] if last.held_out is not None else []
    said += [f"moved {last.more['kl_new']:.3f} from the parent"] if "kl_new" in last.more else []
    said += [f"over-fitting since epoch {since}"] if since else []
    return f"phase {phase.name}, epoch {last.epoch} of {phase.epochs}: {'; '.join(said)}"


def chosen_in_words(evaluations: Sequence[Evaluation], phase: Phase) -> str:
    """Which epochs' models the phase leaves, where that is not just the last of its plan; else nothing."""
    left = kept(evaluations, phase.select)
    if not left or [each.epoch for each in left] == [phase.epochs]:
        return ""
    found, others = left[0], [f"model-epoch-{each.epoch}" for each in left[1:]]
    why = f"{found.held_out} held-out questions right" if found.held_out is not None else "its lowest validation loss"
    early = evaluations[-1].epoch < phase.epochs
    ended = f"; training ended after epoch {evaluations[-1].epoch}, none having been better since" if early else ""
    beside = f"; beside it {', '.join(others)}" if others else ""
    return f"phase {phase.name}: the model is that of epoch {found.epoch} of {phase.epochs} ({why}){beside}{ended}"


def _wanted(phase: Phase, samples: int) -> int:
    """How many of so many new samples a phase would hold back."""
    select = phase.select
    if phase.method not in LOSS_ON_ROWS:
        return 0
    if select.validation is not None:
        return math.ceil(samples * select.validation)
    share = min(round(samples * _SHARE), _MOST)
    if select.by == "validation_loss":  # asked for whatever there is: more of a small phase, a fifth, one at least
        return max(share, min(LEAST, samples // 5), 1)
    return share if select.by == "auto" and share >= LEAST else 0


def _is_auto(phase: Phase) -> bool:
    return phase.select.by == "auto" and phase.select.validation is None


def _beside_one_of_each_fact(items: Sequence[Item], seed: int) -> list[Item]:
    """All but one item of every fact; the fact that is none has one as well."""
    rng = random.Random(f"{seed}/validation")  # noqa: S311 (a reproducible choice, not a secret)
    ordered = sorted(items, key=lambda item: item.id)
    seen: set[tuple[str, str]] = set()
    spare: list[Item] = []
    for item in rng.sample(ordered, len(ordered)):
        fact = item.source.leaf, item.source.fact
        spare += [item] if fact in seen else []
        seen.add(fact)
    return spare


def _badness(evaluation: Evaluation, select: Selection) -> float:
    return -(evaluation.held_out or 0) if select.by == "held_out" else evaluation.validation["loss"]


def _rose(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    return "loss" in before and "loss" in after and after["loss"] > before["loss"]


def _numbers(measured: Mapping[str, float], where: str) -> str:
    right = f" ({measured['accuracy']:.0%} right)" if "accuracy" in measured else ""
    return f"loss {measured['loss']:.3f}{right} on {where}"


def _on_own_answers(evaluations: Sequence[Evaluation]) -> str:
    """What they earn is what tells whether it learns, and whether that rises; the loss of such a method need not fall.

    A teacher rewards nothing: there the loss is how far the model is from him.
    """
    first, last = evaluations[0].training, evaluations[-1].training
    loss = f"loss {last['loss']:.3f}"
    if "reward" not in last:
        return f"{loss} on its own answers"
    since = f" ({first['reward']:.3f} in epoch 1)" if len(evaluations) > 1 and "reward" in first else ""
    return f"reward {last['reward']:.3f} on its own answers{since}, {loss}"
