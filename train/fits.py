"""Whether a phase will fit into main memory, said before the kernel would end it without a word."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ..core.config import Train
from ..core.errors import CheckFailed
from ..llm.precision import device
from .auto import Resolved
from .memory import PROCESS, Shape, Sharing, estimate, gigabytes, longest_batch
from .mix import Mix

_GROUPS = Path("/sys/fs/cgroup")


def check_memory(phase: Resolved, mix: Mix, shape: Shape, settings: Train) -> None:
    """Raise CheckFailed where the phase is foreseen not to fit into main memory, where the kernel would kill it.

    On a GPU nothing is foreseen: the rehearsal before the first step finds out.
    """
    free = free_memory()
    if device() != "cpu" or free is None:
        return
    if (need := _needed(phase, mix, shape, settings)) > free:
        what = f"training takes about {gigabytes(need)} of memory, and {gigabytes(free)} are free"
        fix = what_fits(phase, mix, shape, settings, free)
        raise CheckFailed(what, where=f"phase {phase.name!r}", fix=fix)


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
    for adapter in _lighter(phase, shape, settings):
        if need(1, adapter=adapter) <= free:
            return f"set its micro_batch_size to 1 and train with `adapter: {adapter}`"
    return "use a machine with more, or a smaller student"


def _lighter(phase: Resolved, shape: Shape, settings: Train) -> Iterator[str]:
    """Adapters with which the phase would take less, the lighter one last."""
    if phase.adapter == "none":
        yield "lora"
    refused = shape.adapted or settings.distributed != "none"
    if phase.adapter != "qlora" and not refused and find_spec("bitsandbytes"):
        yield "qlora"


def _needed(phase: Resolved, mix: Mix, shape: Shape, settings: Train) -> int:
    """Bytes that all processes of this machine will take beyond what this one has; on a GPU, that each will."""
    need = estimate(shape, phase, longest_batch(phase, mix, shape), Sharing.of(settings)).total
    if device() != "cpu":
        return need
    return need * settings.processes - (min(_resident(), PROCESS) if settings.processes == 1 else 0)


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
