"""What a plan would do, before anything runs: its phases with numbers, what they train on, what they take."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.config import Config
from ..core.errors import CheckFailed, ConfigError
from ..core.records import Kind, Record
from ..llm.precision import compute_dtype, device
from ..llm.quiet import quiet_transformers
from .auto import Resolved
from .data import TrainingInputs
from .disk import disk_of
from .distributed import for_phase
from .duration import seconds_of
from .fits import free_memory
from .load import weights_sha256
from .memory import Memory, Shape, Sharing, estimate, longest_batch, read_shape
from .mix import Mix, Ready, Skipped
from .phase import Models, PhaseJob
from .plan import MethodName, Phase, Plan
from .reuse import why_they_run
from .run import check_plan, check_room, phase_folders, prepare
from .selection import check_askable


class PhaseOutlook(Record):
    """One phase; where it would be skipped only the reason is there."""

    phase: str
    method: MethodName
    kinds: tuple[Kind, ...]
    skipped: str = ""
    because: str = ""
    """Why it runs; empty where its result is there already."""
    settings: Resolved | None = None
    auto: Mapping[str, str] = {}
    """What each `auto` of the plan becomes, and each number of it that is lowered, and why."""
    mix: Mix | None = None
    memory: Memory | None = None
    disk_bytes: int = 0
    """At most, while it trains."""
    seconds: float = 0.0
    """A guess by this device's speed now; where it learns from answers, if all are as long as they may be."""


class Outlook(Record):
    """A whole plan on this machine."""

    phases: tuple[PhaseOutlook, ...]
    parameters: int
    device: str
    dtype: str
    processes: int
    free_memory_bytes: int | None
    """Of main memory; None: nobody knows."""
    refused: str = ""
    """Why it would not begin, where disk, memory or held-out questions to select by are missing."""


def explain_plan(plan: Plan, inputs: TrainingInputs, *, out: Path, config: Config, askable: bool) -> Outlook:
    """What `run_plan` would do with the same inputs; nothing is written, no model is run.

    In place of answers that the student has yet to give itself stand those of the samples. `askable`: whether there are
    held-out questions for phases that select by them.

    Raises what `run_plan` raises before it trains, but for what it has no room for: CheckFailed, ModelError, DataError.
    """
    check_plan(plan, config)
    with quiet_transformers(), tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / phase.name for phase in plan.phases]
        _, _, mixes = prepare(plan, inputs, folders, out, config)
        shape = read_shape(inputs.student)
    places = zip(mixes, phase_folders(plan, out), strict=True)
    ready = [(mix, place) for mix, place in places if isinstance(mix, Ready)]
    because = why_they_run(
        [PhaseJob(mix, place, config.seed) for mix, place in ready],
        Models(inputs.student, weights_sha256(inputs.student)),
    )
    refused = ""
    try:
        check_askable(plan, there=askable, config=config)
        first = len(ready) - len(because)
        check_room(ready[first:], _after(ready[:first], shape), config)
    except (CheckFailed, ConfigError) as error:
        refused = str(error)
    outlooks: list[PhaseOutlook] = []
    for phase, mix in zip(plan.phases, mixes, strict=True):
        told = _outlook(phase, mix, shape, config)
        outlooks.append(told.model_copy(update={"because": because.get(phase.name, "")}))
        shape = shape.after(phase) if isinstance(mix, Ready) else shape
    return Outlook(
        phases=tuple(outlooks),
        parameters=shape.parameters,
        device=device(),
        dtype=str(compute_dtype()).removeprefix("torch."),
        processes=config.train.total_processes,
        free_memory_bytes=free_memory(),
        refused=refused,
    )


def _after(done: Sequence[tuple[Ready, Path]], shape: Shape) -> Shape:
    for ready, _ in done:
        shape = shape.after(ready.phase)
    return shape


def _outlook(phase: Phase, mix: Ready | Skipped, shape: Shape, config: Config) -> PhaseOutlook:
    told = PhaseOutlook(phase=phase.name, method=phase.method, kinds=phase.kinds)
    if isinstance(mix, Skipped):
        return told.model_copy(update={"skipped": mix.reason})
    settings, sharing = mix.phase, Sharing.of(for_phase(config, phase).train)
    found = {
        "settings": settings,
        "auto": mix.auto,
        "mix": mix.mix,
        "memory": estimate(shape, settings, longest_batch(settings, mix.mix, shape), sharing),
        "disk_bytes": disk_of(
            settings,
            shape,
            keep_checkpoints=config.train.keep_checkpoints,
            distributed=config.train.distributed,
        ).most,
        "seconds": seconds_of(settings, mix.mix, shape, sharing),
    }
    return told.model_copy(update=found)
