"""Which device and which number format the student computes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    """Both by name. In others the same model may say something else."""
    return {"device": device(), "dtype": str(compute_dtype()).removeprefix("torch.")}
