"""Which machine a benchmark ran on, without saying whose it is."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

TELLING_FLAGS = {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "neon", "sve"}
"""Of the CPU's flags, those that change how fast numbers are crunched."""


def describe() -> dict[str, object]:
    """CPU, cores, memory in GiB, operating system and Python; no host name."""
    cpu = _first_values("/proc/cpuinfo")
    memory_kib = int(_first_values("/proc/meminfo").get("MemTotal", "0 kB").split()[0])
    return {
        "cpu": cpu.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / 2**20, 1),
        "flags": sorted(TELLING_FLAGS & set(cpu.get("flags", "").split())),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def commit() -> str:
    """The commit of tilth that is measured, with `+` where files differ from it."""
    described = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    ran = subprocess.run(described, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def _first_values(path: str) -> dict[str, str]:
    """The first value of each `name: value` line of one of the kernel's tables; nothing where there is none."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    values: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines):
        values.setdefault(name.strip(), value.strip())
    return values
