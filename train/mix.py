"""The exact training data of each phase, new samples of its kinds and replayed ones, written before training starts.

`data.jsonl` holds the samples, `mix.json` says how many samples and tokens came from where, and what was dropped.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..core.atomic import write_json
from ..core.config import Config
from ..core.errors import CheckFailed
from ..core.fingerprint import canonical_json, file_sha256
from ..core.jsonl import read_records, write_records
from ..core.records import Record, Sample
from .masking import Tokens, tokenize
from .plan import Phase, Plan
from .replay import draw, replay_count

DATA_NAME, MIX_NAME = "data.jsonl", "mix.json"

MAX_LOST_SHARE = 0.005
"""If over-long samples hold more of the trained tokens than this, the phase refuses (DESIGN, section 7)."""

Origin = Literal["new", "earlier_phase", "earlier_cycle"]


class TrainingSample(Sample):
    """A sample of one phase, and why it is there."""

    origin: Origin


class Tally(Record):
    """How much: samples, their tokens, and those of the tokens that are trained."""

    samples: int = 0
    tokens: int = 0
    trained_tokens: int = 0


class Mix(Record):
    """What one phase trains on (`mix.json`)."""

    phase: str
    total: Tally
    by_origin: Mapping[str, Tally]
    by_kind: Mapping[str, Tally]
    by_leaf: Mapping[str, Tally]
    too_long: Tally
    """Dropped: more tokens than the phase's `max_length`, or than the model can hold."""
    longest: int
    """Tokens of the longest sample that was kept."""
    steps: int
    """Optimizer steps over all epochs."""
    data_sha256: str
    tokens_sha256: str
    """Of all token ids and labels: it changes with the tokenizer, the chat template and the system prompt."""


class Skipped(Record):
    """A phase that has nothing to train, and why."""

    phase: str
    reason: str


@dataclass(frozen=True)
class Samples:
    """What a run has to train on: the samples of this cycle, and those of earlier ones that it may replay."""

    new: list[Sample]
    earlier: list[Sample]

    @classmethod
    def read(cls, new: Sequence[Path], earlier: Sequence[Path]) -> Samples:
        """From samples.jsonl files; no sample twice, and none in both. Raises DataError."""
        fresh = _read_unique(new)
        older = _read_unique(earlier)
        return cls(list(fresh.values()), [sample for id_, sample in older.items() if id_ not in fresh])


def make_mixes(
    plan: Plan, samples: Samples, tokenizer: Any, folders: Sequence[Path], config: Config
) -> list[Mix | Skipped]:
    """Write `data.jsonl` and `mix.json` of every phase into its folder; a phase without new samples is skipped.

    Raises CheckFailed when nothing can be trained at all or too much is too long, ModelError from the chat template.
    """
    selections = [select(plan, index, samples, config.seed) for index in range(len(plan.phases))]
    if not any(selections):
        kinds = ", ".join(sorted(plan.kinds))
        raise CheckFailed(f"no new sample of any kind that the plan trains ({kinds})", fix="generate samples first")
    return [
        _write_mix(phase, selected, tokenizer, folder, config) if selected else _skipped(phase)
        for phase, selected, folder in zip(plan.phases, selections, folders, strict=True)
    ]


def select(plan: Plan, index: int, samples: Samples, seed: int) -> list[TrainingSample]:
    """The samples of phase `index`: new ones of its kinds, then replayed ones; empty when none is new."""
    phase, shares = plan.phases[index], plan.phases[index].replay
    new = [sample for sample in samples.new if sample.kind in phase.kinds]
    trained_before = {kind for earlier in plan.phases[:index] for kind in earlier.kinds} - set(phase.kinds)
    sources: list[tuple[Origin, list[Sample], float]] = [
        ("earlier_phase", [s for s in samples.new if s.kind in trained_before], shares.earlier_phases),
        ("earlier_cycle", [s for s in samples.earlier if s.kind in plan.kinds], shares.earlier_cycles),
    ]
    selected = [_with_origin(sample, "new") for sample in new]
    for origin, pool, share in sources:
        count = replay_count(len(new), share, shares.earlier_phases + shares.earlier_cycles)
        replayed = draw(pool, count, f"{seed}/{phase.name}/{origin}")
        selected += [_with_origin(sample, origin) for sample in replayed]
    return selected


def read_rows(folder: Path, tokenizer: Any, system_prompt: str) -> list[Tokens]:
    """The phase's training data as tokens, from its `data.jsonl`. Raises DataError."""
    return tokenize(tokenizer, list(read_records(folder / DATA_NAME, TrainingSample)), system_prompt)


def _write_mix(phase: Phase, selected: list[TrainingSample], tokenizer: Any, folder: Path, config: Config) -> Mix:
    tokens = tokenize(tokenizer, selected, config.student.system_prompt)
    limit = min(phase.max_length, tokenizer.model_max_length)
    kept = [(sample, item) for sample, item in zip(selected, tokens, strict=True) if len(item.input_ids) <= limit]
    too_long = [item for item in tokens if len(item.input_ids) > limit]
    _check_lost(phase, tokens, too_long, limit)
    write_records(folder / DATA_NAME, (sample for sample, _ in kept))
    mix = Mix(
        phase=phase.name,
        total=_tally([item for _, item in kept]),
        by_origin=_tallies((sample.origin, item) for sample, item in kept),
        by_kind=_tallies((sample.kind, item) for sample, item in kept),
        by_leaf=_tallies((sample.source.leaf, item) for sample, item in kept),
        too_long=_tally(too_long),
        longest=max(len(item.input_ids) for _, item in kept),
        steps=math.ceil(len(kept) / phase.batch_size) * phase.epochs,
        data_sha256=file_sha256(folder / DATA_NAME),
        tokens_sha256=_tokens_sha256([item for _, item in kept]),
    )
    write_json(folder / MIX_NAME, mix.model_dump(mode="json"))
    return mix


def _check_lost(phase: Phase, tokens: list[Tokens], too_long: list[Tokens], limit: int) -> None:
    trained, lost = sum(item.trained for item in tokens), sum(item.trained for item in too_long)
    where = f"phase {phase.name!r}"
    if not trained:
        raise CheckFailed("it would train on no token", where=where, fix="look at its samples with `tilth samples`")
    if lost > MAX_LOST_SHARE * trained:
        longest = max(len(item.input_ids) for item in too_long)
        raise CheckFailed(
            f"{len(too_long)} of {len(tokens)} samples have more than {limit} tokens (the longest {longest}), and "
            f"{lost / trained:.2%} of the trained tokens would be lost with them ({MAX_LOST_SHARE:.1%} may be)",
            where=where,
            fix="raise its max_length or make the samples shorter"
            if limit == phase.max_length
            else "that is all the model holds: make the samples shorter",
        )


def _skipped(phase: Phase) -> Skipped:
    return Skipped(phase=phase.name, reason=f"no new sample of kind {' or '.join(phase.kinds)}")


def _with_origin(sample: Sample, origin: Origin) -> TrainingSample:
    return TrainingSample.model_construct(**dict(sample), origin=origin)


def _read_unique(files: Sequence[Path]) -> dict[str, Sample]:
    samples: dict[str, Sample] = {}
    for file in files:
        for sample in read_records(file, Sample):
            samples.setdefault(sample.id, sample)
    return samples


def _tally(tokens: Sequence[Tokens]) -> Tally:
    return Tally(
        samples=len(tokens),
        tokens=sum(len(item.input_ids) for item in tokens),
        trained_tokens=sum(item.trained for item in tokens),
    )


def _tallies(pairs: Iterable[tuple[str, Tokens]]) -> dict[str, Tally]:
    groups: defaultdict[str, list[Tokens]] = defaultdict(list)
    for name, item in pairs:
        groups[name].append(item)
    return {name: _tally(groups[name]) for name in sorted(groups)}


def _tokens_sha256(tokens: Sequence[Tokens]) -> str:
    digest = hashlib.sha256()
    for item in tokens:
        digest.update(canonical_json([item.input_ids, item.labels]).encode())
    return digest.hexdigest()
