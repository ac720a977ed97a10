"""What the `auto` values of a phase become, and why, once its data and its model are known.

A value that the plan gives is lowered where the model or the processes leave no choice, and that is told too.
"""

# A frozen model's field may be narrower in a subclass, which pyright does not know.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

import math

from ..core.errors import CheckFailed
from .plan import LEARNS_FROM_ANSWERS, MethodName, Phase
from .settings import Above0, Positive

_RATE_AT_7B: dict[MethodName, float] = {
    "pretrain": 1e-5,
    "sft": 2e-5,
    "dpo": 5e-7,
    "kto": 5e-7,
    "reward": 1e-5,
    "grpo": 1e-6,
    "rloo": 1e-6,
    "distill": 1e-5,
    "ppo": 1e-6,
}
"""Full fine-tuning of 7 billion parameters: LAB's 2e-5 (arXiv 2403.01081), Tulu 3's 5e-7 for pairs (2411.15124), TRL's
1e-6 for rollouts. Smaller models take more, with the root of their size: 1.4e-4 at 135 million."""

_LORA_FACTOR = 10
"""LoRA against full fine-tuning, whatever the rank ("LoRA Without Regret", Thinking Machines 2025)."""

_STEPS_PER_EPOCH = 40
_SMALLEST_BATCH, _LARGEST_BATCH, _LARGEST_LORA_BATCH = 8, 4096, 128
"""Large batches at small rates win in full fine-tuning (arXiv 2412.13337); LoRA loses by them (2405.09673)."""

_MICRO_BATCH_TOKENS = 8192


class Resolved(Phase):
    """A phase whose values are numbers all."""

    learning_rate: Above0 = 1.0
    batch_size: Positive = 1
    micro_batch_size: Positive = 1
    max_length: Positive = 1


def resolve(
    phase: Phase, rows: int, longest: int, *, parameters: int, context: int, processes: int = 1
) -> tuple[Resolved, dict[str, str]]:
    """The phase with numbers, and for each that the plan does not say so what it became and why.

    So many `rows` go through the model, and the longest sample or row has `longest` tokens. `parameters` are the
    model's, `context` is the most tokens that it holds; each of the `processes` has as many samples of a batch: raises
    CheckFailed where they cannot be dealt out.
    """
    max_length = min(phase.max_length or longest, context)
    batch = phase.batch_size or _batch(phase, rows, processes)
    if batch % processes:
        what = f"its batch_size {batch:,} cannot be dealt out to {processes} processes"
        raise CheckFailed(what, where=f"phase {phase.name!r}", fix=f"make it a multiple of {processes}")
    share = batch // processes
    at_once = phase.rollout.completions if phase.method in LEARNS_FROM_ANSWERS else 1
    fitting = _MICRO_BATCH_TOKENS // (min(longest, max_length) * at_once)
    values: dict[str, int | float] = {
        "max_length": max_length,
        "learning_rate": phase.learning_rate or _rate(phase, parameters),
        "batch_size": batch,
        "micro_batch_size": _largest_divisor(share, phase.micro_batch_size or max(1, fitting)),
    }
    whys = {
        "max_length": _why_length(max_length, longest, phase.holds),
        "learning_rate": f"{phase.method} of {_size(parameters)} parameters",
        "batch_size": f"{rows:,} samples",
        "micro_batch_size": f"at most {_MICRO_BATCH_TOKENS:,} tokens at once"
        if phase.micro_batch_size is None
        else f"each process has {share:,} samples of a batch",
    }
    reasons = {
        name: f"{_told(value, getattr(phase, name))} ({whys[name]})"
        for name, value in values.items()
        if value != getattr(phase, name)
    }
    return Resolved.model_validate(phase.model_dump() | values), reasons


def _rate(phase: Phase, parameters: int) -> float:
    rate = _RATE_AT_7B[phase.method] * math.sqrt(7e9 / max(parameters, 1_000_000))
    rate *= 1 if phase.adapter == "none" else _LORA_FACTOR
    return float(f"{rate:.1e}")


def _batch(phase: Phase, samples: int, processes: int) -> int:
    """The power of two that makes about forty steps an epoch, or a little more where that cannot be shared."""
    most = _LARGEST_BATCH if phase.adapter == "none" else _LARGEST_LORA_BATCH
    wanted = max(1, samples / _STEPS_PER_EPOCH)
    batch = min(max(2 ** round(math.log2(wanted)), _SMALLEST_BATCH), most)
    unit = math.lcm(phase.micro_batch_size or 1, processes)
    return math.ceil(batch / unit) * unit


def _largest_divisor(number: int, most: int) -> int:
    return next(size for size in range(min(number, most), 0, -1) if number % size == 0)


def _why_length(length: int, longest: int, most: str) -> str:
    return "the longest sample" if length == longest else f"{most}; the longest sample has {longest:,}"


def _told(value: float, given: float | None) -> str:
    told = f"{value:.2g}" if isinstance(value, float) else f"{value:,}"
    return told if given is None else f"{told} instead of {given:,}"


def _size(parameters: int) -> str:
    return f"{parameters / 1e9:.1f} billion" if parameters >= 1e9 else f"{parameters / 1e6:.0f} million"
