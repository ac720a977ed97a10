"""The exact training data of each phase, new samples of its kinds and replayed ones, written before training starts.

`data.jsonl` holds the samples, `mix.json` says how many samples and tokens came from where, and what was dropped.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import model_validator

from ..core.atomic import write_json
from ..core.config import Config
from ..core.errors import CheckFailed, ConfigError, ModelError
from ..core.fingerprint import canonical_json, file_sha256, fingerprint
from ..core.jsonl import read_records, write_records
from ..core.records import Record
from .auto import Resolved, resolve
from .data import Item, Origin, Pool, TrainingItem, in_leaves, of_origin
from .distributed import for_phase
from .methods.distill import PARENT, taught_context, teacher_source
from .methods.pairs import ONE_PAIR
from .methods.prompts import with_room
from .methods.table import METHODS, Row
from .plan import LEARNS_FROM_ANSWERS, LOSS_ON_ROWS, Phase, Plan
from .profile import Lengths, check_lost, fitted, length_profile, longest_rows, shared_tokens, trained_places
from .replay import SILENT, Drawn, OwnWords, epochs_of, replayed
from .rewards import reward_sources
from .selection import held_back, new_items, settled, trained_items
from .tally import Replayed, Tally, epoch_tally, replayed_by_leaf, tallies_by_name, tally_of

DATA_NAME, VALIDATION_NAME, MIX_NAME = "data.jsonl", "validation.jsonl", "mix.json"


class Mix(Record):
    """What one phase trains on (`mix.json`)."""

    phase: str
    total: Tally
    an_epoch: Tally
    """Of it, what one epoch trains, on average: replayed samples take turns. All of it, where nothing else is said."""
    by_origin: Mapping[str, Tally]
    origins_an_epoch: Mapping[str, Tally] = {}
    """`an_epoch`, by origin."""
    by_kind: Mapping[str, Tally]
    by_leaf: Mapping[str, Tally]
    replayed: Mapping[str, Mapping[str, Replayed]] = {}
    """By origin, then by leaf, of all leaves that could have been."""
    too_long: Tally
    """Dropped: more tokens than the phase's `max_length`."""
    cut: Tally = Tally()
    """Cut at `max_length` as the plan says: how many samples, and the tokens that they lost."""
    lengths: Lengths = Lengths()
    longest: int
    """Tokens of the longest row that goes through the model: a sample, or for pretrain as many as fill one."""
    largest: Tally = Tally()
    """The micro-batch of the longest rows."""
    places: int = 0
    """In it: positions at which some row is trained."""
    shared: int = 0
    """Tokens that all rows begin with and none trains (`varlen`)."""
    steps: int
    """Optimizer steps over all epochs."""
    data_sha256: str
    tokens_sha256: str
    """Of all that the model is given: it changes with the tokenizer, the chat template and the system prompt."""
    validation: Tally = Tally()
    """Held back in `validation.jsonl`: measured, not trained."""
    validation_sha256: str = ""
    outside_sha256: str = ""
    """Of what rewards and teachers use beyond the plan and the data: functions, models of this machine, the judge."""

    @model_validator(mode="before")
    @classmethod
    def _whole_epochs(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {"an_epoch": values.get("total"), "origins_an_epoch": values.get("by_origin"), **values}


@dataclass(frozen=True)
class Ready:
    """A phase whose data is written: its settings with numbers, why they are what they are, and its mix."""

    phase: Resolved
    auto: Mapping[str, str]
    mix: Mix


class Skipped(Record):
    """A phase that has nothing to train, and why."""

    phase: str
    reason: str


def in_words(ready: Ready) -> str:
    """What a phase trains on and what becomes of the rest, in a line: `phase skills: 40 samples (8 replayed), …`."""
    phase, mix = ready.phase, ready.mix
    total, new, once = mix.total, mix.by_origin.get("new", Tally()), mix.an_epoch
    up_to = "up to " if phase.method in LEARNS_FROM_ANSWERS else ""
    said = [
        f"{total.samples:,} samples ({total.samples - new.samples:,} replayed"
        + (f", {once.samples - new.samples:,} an epoch), " if once.samples < total.samples else "), ")
        + f"{up_to}{once.tokens:,} tokens an epoch ({once.trained_tokens:,} trained), {mix.steps:,} steps"
    ]
    if ready.auto:
        values = (f"{name} {reason.partition(' (')[0]}" for name, reason in ready.auto.items())
        said.append(f"auto: {', '.join(values)}")
    for tally, what in (
        (mix.validation, "held back"),
        (mix.too_long, "too long, left out"),
        (mix.cut, "too long, cut"),
    ):
        said += [f"{tally.samples:,} {what}"] if tally.samples else []
    return f"phase {phase.name}: {'; '.join(said)}"


@dataclass(frozen=True)
class Student:
    """What of the model decides how its data is prepared."""

    tokenizer: Any
    parameters: int
    context: int
    """The most tokens that it holds."""


def make_mixes(
    plan: Plan,
    pool: Pool,
    student: Student,
    folders: Sequence[Path],
    config: Config,
    own: OwnWords = SILENT,
) -> list[Ready | Skipped]:
    """Write `data.jsonl` and `mix.json` of every phase into its folder; a phase without new samples is skipped.

    `own` is asked where phases replay what models say themselves.

    Raises CheckFailed when nothing can be trained at all or too much is too long, ModelError from the chat template.
    """
    pool = replace(pool, held=held_back(plan, pool.new, config.seed))
    selections = [
        select(plan, index, pool, config.seed, _counter(phase, student, config), own)
        for index, phase in enumerate(plan.phases)
    ]
    validations = [_validation(phase, pool, config.seed) for phase in plan.phases]
    outsides = [_outside_sha256(plan, index, student, config) for index in range(len(plan.phases))]
    chosen = map(_Chosen, selections, validations, outsides)
    left_out = _left_out(plan, selections, pool)
    if all(phase.name in left_out for phase in plan.phases if METHODS[phase.method].makes == "policy"):
        kinds = ", ".join(sorted(plan.kinds))
        narrow = any(phase.leaves != ("**",) for phase in plan.phases)
        fix = "generate samples first" + (", or mend the patterns in the plan's `leaves`" if narrow else "")
        there = [
            f"phase {phase.name!r}: {left_out[phase.name]}"
            for phase, each in zip(plan.phases, selections, strict=True)
            if each.new and phase.name in left_out
        ]
        what = "; ".join(there) or f"no new sample of any kind and leaf that the plan trains ({kinds})"
        raise CheckFailed(what, fix=fix)
    return [
        Skipped(phase=phase.name, reason=left_out[phase.name])
        if phase.name in left_out
        else _write_mix(phase, each, student, folder, config)
        for phase, each, folder in zip(plan.phases, chosen, folders, strict=True)
    ]


def _left_out(plan: Plan, selections: Sequence[Selected], pool: Pool) -> dict[str, str]:
    """Phase -> why it is skipped: it has nothing new to train, or nobody to learn from."""
    reasons: dict[str, str] = {}
    moved = False  # whether the model is another than that which the plan starts from
    for phase, selected in zip(plan.phases, selections, strict=True):
        missing = next((reward.model for reward in phase.rollout.rewards if reward.model in reasons), "")
        if not selected.new:
            reasons[phase.name] = _nothing_new(phase, pool)
        elif phase.method == "kto" and len(selected.items) == 1:
            reasons[phase.name] = ONE_PAIR
        elif missing:
            reasons[phase.name] = f"phase {missing!r}, whose reward model it asks, is left out"
        elif phase.distill and phase.distill.teacher == PARENT and not moved:
            reasons[phase.name] = "no phase before it trains: the parent would be its own teacher"
        else:
            moved = moved or METHODS[phase.method].makes == "policy"
    return reasons


def _nothing_new(phase: Phase, pool: Pool) -> str:
    """Why a phase has nothing new."""
    narrow, named = phase.leaves != ("**",), " or ".join(map(repr, phase.leaves))
    if narrow and not any(in_leaves(item, phase.leaves) for item in (*pool.new, *pool.earlier)):
        return f"no leaf that has samples matches {named}"
    where = f" in a leaf that matches {named}" if narrow else ""
    made = "; recipe `standard` makes some" if set(phase.kinds) <= {"document", "preference"} else ""
    return f"no new sample of kind {' or '.join(phase.kinds)}{where}{made}"


@dataclass(frozen=True)
class Selected:
    """What a phase is made of."""

    new: list[Item]
    replayed: list[Drawn]

    @property
    def items(self) -> list[TrainingItem]:
        """New ones, then replayed ones, with the reason why they are there."""
        old = [of_origin(item, drawn.source.origin) for drawn in self.replayed for item in drawn.items]
        return [of_origin(item, "new") for item in self.new] + old


def select(
    plan: Plan,
    index: int,
    pool: Pool,
    seed: int,
    tokens_of: Callable[[Item], int],
    own: OwnWords = SILENT,
) -> Selected:
    """The items of phase `index`: new ones of its kinds and leaves, and replayed ones beside them.

    Raises DataError from a general instruction set, ModelError from the model that answers.
    """
    new = trained_items(plan.phases[index], pool, seed)
    return Selected(new, replayed(plan, index, pool, new=len(new), seed=seed, own=own, tokens_of=tokens_of))


def read_rows(phase: Resolved, file: Path, tokenizer: Any, system_prompt: str) -> Sequence[Row]:
    """The phase's training data as tokens, from its `data.jsonl`, or what it measures by, from its `validation.jsonl`.

    Raises DataError.
    """
    items = list(read_records(file, METHODS[phase.method].record))
    rows = _rows(phase, tokenizer, items, system_prompt)
    return [row for row in fitted(rows, phase) if row]


def _counter(phase: Phase, student: Student, config: Config) -> Callable[[Item], int]:
    """The tokens that an item has in the phase."""

    def count(item: Item) -> int:
        [row] = _rows(phase, student.tokenizer, [item], config.student.system_prompt)
        return row.tokens

    return count


def _rows(phase: Phase, tokenizer: Any, items: Sequence[Any], system_prompt: str) -> Sequence[Row]:
    return with_room(METHODS[phase.method].rows(tokenizer, items, system_prompt), phase)


def outside_sources(plan: Plan, index: int, tokenizer: Any, config: Config) -> list[str]:
    """Hashes of what phase `index` learns from beyond the plan and the data: functions, models, the judge.

    Only a phase that distils needs the student's tokenizer.
    Raises ConfigError, ModelError where one of them cannot be used.
    """
    phase, earlier = plan.phases[index], plan.phases[:index]
    reward_phases = [each.name for each in earlier if each.method == "reward"]
    try:
        sources = reward_sources(phase.rollout.rewards, reward_phases, config)
        return sources + (teacher_source(phase.distill, tokenizer) if phase.distill else [])
    except (ConfigError, ModelError) as error:
        raise type(error)(error.what, where=f"phase {phase.name!r}: {error.where}", fix=error.fix) from error


def _outside_sha256(plan: Plan, index: int, student: Student, config: Config) -> str:
    sources = outside_sources(plan, index, student.tokenizer, config)
    return fingerprint(sources, length=64) if sources else ""


def _validation(phase: Phase, pool: Pool, seed: int) -> list[TrainingItem]:
    """The samples that a phase measures by: what is held back of those that it is about."""
    if phase.method not in LOSS_ON_ROWS or phase.select.validation == 0:
        return []
    return [of_origin(item, "new") for item in new_items(phase, pool.new, seed) if item.id in pool.held]


@dataclass(frozen=True)
class _Chosen:
    """What a phase is made of."""

    selected: Selected
    validation: Sequence[TrainingItem]
    outside_sha256: str


@dataclass(frozen=True)
class _Fitted:
    """What of a phase's items it trains, and as which rows."""

    phase: Resolved
    reasons: dict[str, str]
    whole: Sequence[Row]
    """Each item's row."""
    fitting: Sequence[Row | None]
    """The same as they fit; None: dropped."""
    kept: list[tuple[TrainingItem, Row]]
    packed: Sequence[Row]
    """As they go through the model."""


def _write_mix(phase: Phase, chosen: _Chosen, student: Student, folder: Path, config: Config) -> Ready:
    fit = _fit(phase, chosen.selected, student, config)
    write_records(folder / DATA_NAME, (item for item, _ in fit.kept))
    measured, held = _write_validation(chosen.validation, fit.phase, student, folder / VALIDATION_NAME, config)
    new = sum(item.origin == "new" for item, _ in fit.kept) + measured.samples
    select, why = settled(fit.phase, new, measured.samples)
    reasons = fit.reasons | ({"select": why} if phase.select.by == "auto" else {})
    mix = _described(fit, chosen, folder, measured, held)
    write_json(folder / MIX_NAME, mix.model_dump(mode="json"))
    return Ready(fit.phase.model_copy(update={"select": select}), reasons, mix)


def _fit(phase: Phase, selected: Selected, student: Student, config: Config) -> _Fitted:
    """Resolve the phase by its rows, and cut or drop those that it has no room for."""
    items = selected.items
    rows = _rows(phase, student.tokenizer, items, config.student.system_prompt)
    method, longest = METHODS[phase.method], max(row.length for row in rows)
    context = taught_context(phase.distill, student.tokenizer, student.context)
    packed = method.packed(rows, min(phase.max_length or longest, context))
    resolved, reasons = resolve(
        phase,
        len(packed) - sum(len(drawn.items) - drawn.an_epoch for drawn in selected.replayed),
        max(row.length for row in (*rows, *packed)),
        parameters=student.parameters,
        context=context,
        processes=for_phase(config, phase).train.total_processes,
    )
    fitting = fitted(rows, resolved)
    check_lost(rows, fitting, resolved, new=len(selected.new), context=context)
    kept = [(item, row) for item, row in zip(items, fitting, strict=True) if row]
    if phase.method == "kto" and len(kept) == 1:
        what = f"{ONE_PAIR}; the others have more than {resolved.max_length} tokens"
        fix = "have shorter pairs made" if resolved.max_length == context else "raise its max_length"
        raise CheckFailed(what, where=f"phase {phase.name!r}", fix=f"{fix}, or use `method: dpo`")
    kept = _with_turns(kept, selected.replayed, phase.epochs)
    packed = method.packed([row for _, row in kept], resolved.max_length)
    return _Fitted(resolved, dict(reasons), rows, fitting, kept, packed)


def _described(
    fit: _Fitted, chosen: _Chosen, folder: Path, measured: Tally, held: Sequence[tuple[Row, Row | None]]
) -> Mix:
    """All that is known of a phase's data once it is written; `held` are the rows that are held back."""
    phase, kept, packed = fit.phase, fit.kept, fit.packed
    an_epoch, largest = epoch_tally(kept, phase.epochs), longest_rows(packed, phase.micro_batch_size)
    whole_and_fitting = [*zip(fit.whole, fit.fitting, strict=True), *held]
    cut = [(whole, row) for whole, row in whole_and_fitting if row and row.length < whole.length]
    return Mix(
        phase=phase.name,
        total=tally_of([row for _, row in kept]),
        an_epoch=an_epoch,
        by_origin=tallies_by_name((item.origin, row) for item, row in kept),
        origins_an_epoch={
            origin: epoch_tally([each for each in kept if each[0].origin == origin], phase.epochs)
            for origin in sorted({item.origin for item, _ in kept})
        },
        by_kind=tallies_by_name((item.kind, row) for item, row in kept),
        by_leaf=tallies_by_name((item.source.leaf, row) for item, row in kept),
        replayed={drawn.source.origin: replayed_by_leaf(drawn, kept) for drawn in chosen.selected.replayed},
        too_long=tally_of([whole for whole, row in whole_and_fitting if not row]),
        cut=Tally(
            samples=len(cut),
            tokens=sum(whole.tokens - row.tokens for whole, row in cut),
            trained_tokens=sum(whole.trained - row.trained for whole, row in cut),
        ),
        lengths=length_profile([row.length for row in fit.whole]),
        longest=max(row.length for row in packed),
        largest=tally_of(largest),
        places=trained_places(largest),
        shared=shared_tokens(packed),
        steps=math.ceil((len(packed) - len(kept) + an_epoch.samples) / phase.batch_size) * phase.epochs,
        data_sha256=file_sha256(folder / DATA_NAME),
        tokens_sha256=_tokens_sha256([row for _, row in kept]),
        validation=measured,
        validation_sha256=file_sha256(folder / VALIDATION_NAME) if measured.samples else "",
        outside_sha256=chosen.outside_sha256,
    )


def _with_turns(
    kept: Sequence[tuple[TrainingItem, Row]], replayed: Sequence[Drawn], epochs: int
) -> list[tuple[TrainingItem, Row]]:
    """The items, each replayed one with the epochs that have it."""
    an_epoch: dict[Origin, int] = {drawn.source.origin: drawn.an_epoch for drawn in replayed}
    counts = Counter(item.origin for item, _ in kept)
    places: dict[Origin, Iterator[int]] = {origin: itertools.count() for origin in an_epoch}

    def turns(origin: Origin) -> tuple[int, ...]:
        return epochs_of(next(places[origin]), counts[origin], an_epoch[origin], epochs) if origin in places else ()

    return [(item.model_copy(update={"epochs": turns(item.origin)}), row) for item, row in kept]


def _write_validation(
    items: Sequence[TrainingItem], phase: Resolved, student: Student, file: Path, config: Config
) -> tuple[Tally, list[tuple[Row, Row | None]]]:
    """What is measured, and each row with what of it fits."""
    rows = METHODS[phase.method].rows(student.tokenizer, items, config.student.system_prompt)
    fitting = fitted(rows, phase)
    kept = [(item, row) for item, row in zip(items, fitting, strict=True) if row]
    file.unlink(missing_ok=True)
    if kept:
        write_records(file, (item for item, _ in kept))
    return tally_of([row for _, row in kept]), list(zip(rows, fitting, strict=True))


def _tokens_sha256(rows: Sequence[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical_json(row.ids()).encode())
    return digest.hexdigest()
