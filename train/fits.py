"""Whether a phase will fit into main memory, or a GPU's, said before it trains.

What does not fit into main memory the kernel would end without a word. On a GPU the longest micro-batch is rehearsed
(`rehearsal.py`), but for answers that are yet to be given and models that DeepSpeed takes over: those are foreseen.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ..core.config import Train
from ..core.environment import for_children
from ..core.errors import CheckFailed
from ..llm.precision import device
from .auto import Resolved
from .memory import PROCESS, Memory, Shape, Sharing, estimate, gigabytes, longest_batch
from .mix import Mix
from .plan import LOSS_ON_ROWS, Phase

_GROUPS = Path("/sys/fs/cgroup")
_FREE_ON_GPUS = "import torch; print(min(torch.cuda.mem_get_info(gpu)[0] for gpu in range({count})))"


def check_memory(phase: Resolved, mix: Mix, shape: Shape, settings: Train) -> None:
    """Raise CheckFailed where the phase is foreseen not to fit.

    That is into main memory, where the kernel would kill it: all of it on a CPU, what is offloaded from a GPU. Into a
    GPU's only where the rehearsal before the first step does not find out.
    """
    if device() == "cpu":
        _check(phase, mix, shape, settings, "memory", free_memory())
        return
    if not is_rehearsed(phase, settings):
        _check(phase, mix, shape, settings, "each GPU's memory", free_on_gpus(settings.processes))
    if settings.offload:
        need = _estimate(phase, mix, shape, settings).host * settings.processes
        free = free_memory()
        if free is not None and need > free:
            what = f"what is offloaded takes about {gigabytes(need)} of main memory, and {gigabytes(free)} are free"
            raise CheckFailed(what, where=f"phase {phase.name!r}", fix="set `train.offload: false`, or use more GPUs")


def is_rehearsed(phase: Phase, settings: Train) -> bool:
    """Whether the longest micro-batch can go through the model before the first step.

    Answers that are yet to be given cannot, nor does a model that DeepSpeed has taken over, which counts the passes.
    """
    return phase.method in LOSS_ON_ROWS and not settings.distributed.startswith("zero")


def _check(phase: Resolved, mix: Mix, shape: Shape, settings: Train, what: str, free: int | None) -> None:
    if free is not None and (need := _needed(phase, mix, shape, settings)) > free:
        what = f"training takes about {gigabytes(need)} of {what}, and {gigabytes(free)} are free"
        fix = what_fits(phase, mix, shape, settings, free)
        raise CheckFailed(what, where=f"phase {phase.name!r}", fix=fix)


def free_on_gpus(count: int) -> int | None:
    """The least that one of this machine's first GPUs has free, in bytes; None: unknown.

    Another process asks, for who asks a GPU holds some hundreds of megabytes of it from then on.
    """
    command = [sys.executable, "-P", "-c", _FREE_ON_GPUS.format(count=count)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=for_children())
    return int(ran.stdout) if ran.stdout.strip().isdecimal() else None


def free_memory() -> int | None:
    """Bytes of main memory that this process may still take: the machine's, and its control groups'; None: unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min([free, *_free_in_groups()])


def what_fits(phase: Resolved, mix: Mix, shape: Shape, settings: Train, free: int) -> str:
    """The least that would have to change for a phase to fit into so many bytes, in words."""

    def need(size: int, **other: str | int) -> int:
        return _needed(phase.model_copy(update={"micro_batch_size": size, **other}), mix, shape, settings)

    for size in range(phase.micro_batch_size - 1, 0, -1):
        if phase.batch_size // settings.total_processes % size == 0 and need(size) <= free:
            return f"set its micro_batch_size to {size}, which takes about {gigabytes(need(size))}"
    longest = min(mix.longest, phase.max_length)
    for length in range(longest - longest % 64, longest // 2, -64):
        if need(1, max_length=length) <= free:
            return f"set its micro_batch_size to 1 and its max_length to {length}"
    for name, value in _lighter(phase, shape, settings):
        if need(1, **{"trainable": "all", name: value}) <= free:
            instead = f" instead of `trainable: {phase.trainable}`" if phase.trainable != "all" else ""
            return f"set its micro_batch_size to 1 and train with `{name}: {value}`{instead}"
    return "use a machine with more, or a smaller student"


def _lighter(phase: Resolved, shape: Shape, settings: Train) -> Iterator[tuple[str, str]]:
    """Settings with which the phase would take less, the lightest one last."""
    if phase.adapter == "none" and phase.trainable == "all" and phase.method != "reward" and shape.mlp:
        yield "trainable", "mlp"
    if phase.adapter == "none":
        yield "adapter", "lora"
    refused = shape.adapted or settings.distributed != "none"
    if phase.adapter != "qlora" and not refused and find_spec("bitsandbytes"):
        yield "adapter", "qlora"


def _needed(phase: Resolved, mix: Mix, shape: Shape, settings: Train) -> int:
    """Bytes that all processes of this machine will take beyond what this one has; on a GPU, that each will."""
    need = _estimate(phase, mix, shape, settings).total
    if device() != "cpu":
        return need
    return need * settings.processes - (min(_resident(), PROCESS) if settings.processes == 1 else 0)


def _estimate(phase: Resolved, mix: Mix, shape: Shape, settings: Train) -> Memory:
    return estimate(shape, phase, longest_batch(phase, mix, shape), Sharing.of(settings))


def _free_in_groups() -> Iterator[int]:
    """What the limits of this process's control groups (version 2) leave; their page cache counts as free."""
    own = _GROUPS / _own_group()
    for folder in (own, *own.parents):
        if not folder.is_relative_to(_GROUPS):
            return
        limit, used = _lines(folder / "memory.max"), _lines(folder / "memory.current")
        if limit and used and limit[0] != "max":
            stat = dict(line.split() for line in _lines(folder / "memory.stat"))
            yield int(limit[0]) - int(used[0]) + int(stat.get("inactive_file", 0))


def _own_group() -> str:
    lines = _lines(Path("/proc/self/cgroup"))
    return next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def _resident() -> int:
    """Bytes of main memory that this process has now."""
    return next((int(line.split()[1]) * 1024 for line in _lines(Path("/proc/self/status")) if line[:6] == "VmRSS:"), 0)
