"""Which device and which number format the student computes in."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.atomic import read_json, write_json
from ..core.errors import DataError
from ..core.fingerprint import fingerprint
from ..core.workspace import model_cache

if TYPE_CHECKING:
    import torch


def device() -> str:
    """`cuda` where there is one, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def compute_dtype() -> torch.dtype:
    """bfloat16 where the device has instructions for it (CUDA, AVX512-BF16, AMX), else float32.

    For forward passes and autocast only: trained weights stay float32, for AdamW's updates vanish in bfloat16.
    """
    import torch

    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has = torch.cpu.get_capabilities()
    return torch.bfloat16 if has.get("avx512_bf16") or has.get("amx_bf16") else torch.float32


def computed_in() -> dict[str, str]:
    """Both by name. In others the same model may say something else.

    torch is asked once: importing it takes seconds, and whoever finds all answers kept needs nothing else of it.
    """
    kept, machine = model_cache().parent / "computed_in.json", _machine()
    with contextlib.suppress(DataError, OSError, KeyError):
        if (said := read_json(kept))["machine"] == machine:
            return {"device": said["device"], "dtype": said["dtype"]}
    found = {"device": device(), "dtype": str(compute_dtype()).removeprefix("torch.")}
    with contextlib.suppress(OSError):  # it is asked again where nothing can be kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, {"machine": machine, **found})
    return found


def _machine() -> str:
    """A hash of what torch's answers hang on: itself, the CPU's instructions, the GPUs that it may see."""
    try:
        torch_version = version("torch")
    except PackageNotFoundError:
        torch_version = ""
    devices = sorted(str(path) for pattern in ("nvidia*", "dxg") for path in Path("/dev").glob(pattern))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return fingerprint([torch_version, platform.machine(), _first_flags(), devices, visible])


def _first_flags() -> str:
    """Of the first CPU, as the kernel tells them; empty where it does not."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return ""
