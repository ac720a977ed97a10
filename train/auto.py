"""What the `auto` values of a phase become, and why, once its data and its model are known."""

# A frozen model's field may be narrower in a subclass, which pyright does not know.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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
    phase: Phase, lengths: Sequence[int], *, parameters: int, context: int, processes: int = 1
) -> tuple[Resolved, dict[str, str]]:
    """The phase with numbers, and for each that was `auto` what it became and why.

    `lengths` are the tokens of its samples, `parameters` the model's, `context` the most tokens that it holds; of so
    many `processes` each gets the same number of samples of a batch.
    """
    reasons: dict[str, str] = {}

    def chosen(name: str, value: float, why: str) -> float:
        if getattr(phase, name) is not None:
            return getattr(phase, name)
        reasons[name] = f"{value:.2g} ({why})" if isinstance(value, float) else f"{value:,} ({why})"
        return value

    longest = max(lengths, default=1)
    max_length = int(chosen("max_length", min(longest, context), _why_length(longest, context)))
    rate = chosen("learning_rate", _rate(phase, parameters), f"{phase.method} of {_size(parameters)} parameters")
    batch = int(chosen("batch_size", _batch(phase, len(lengths), processes), f"{len(lengths):,} samples"))
    at_once = phase.rollout.completions if phase.method in LEARNS_FROM_ANSWERS else 1
    micro = _micro_batch(batch, min(longest, max_length) * at_once)
    micro = int(chosen("micro_batch_size", micro, f"{_MICRO_BATCH_TOKENS:,} tokens at once"))
    if batch % micro:  # only where the plan gives one of them
        micro = math.gcd(batch, micro)
    values: Mapping[str, object] = {
        "learning_rate": rate,
        "batch_size": batch,
        "micro_batch_size": micro,
        "max_length": max_length,
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


def _micro_batch(batch: int, longest: int) -> int:
    """The largest divisor of the batch whose longest samples make at most `_MICRO_BATCH_TOKENS` tokens."""
    fitting = max(1, _MICRO_BATCH_TOKENS // max(1, longest))
    return max(size for size in range(1, min(batch, fitting) + 1) if batch % size == 0)


def _why_length(longest: int, context: int) -> str:
    return (
        "the longest sample" if longest <= context else f"all that the model holds; the longest sample has {longest:,}"
    )


def _size(parameters: int) -> str:
    return f"{parameters / 1e9:.1f} billion" if parameters >= 1e9 else f"{parameters / 1e6:.0f} million"
