"""The same bits again on a GPU: all that PyTorch documents for it, in one place. A CPU needs none of it.

Some kernels of CUDA add up in whatever order their threads come. A phase therefore trains under PyTorch's deterministic
algorithms (https://docs.pytorch.org/docs/stable/notes/randomness.html): what has a kernel with a fixed order takes it,
the backward passes of attention among them (scaled-dot-product and variable-length attention read the flag, and cuDNN's
is not chosen), and what has none raises RuntimeError rather than differ.

This was not run on a GPU: tests say that the settings are made, not that the bits agree. The order in which NCCL adds
up over several GPUs, and the kernels of bitsandbytes (`qlora`), are not under these settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, MutableMapping
from typing import Any


def prepare(environment: MutableMapping[str, str], device: str) -> None:
    """Set in the environment of a process what must stand there before its first product on `device`.

    cuBLAS gives the same results again only with workspaces of a fixed size: here 8 of 4 MiB, unless something is set
    (https://docs.nvidia.com/cuda/cublas/#results-reproducibility).
    """
    if device == "cuda":
        environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextlib.contextmanager
def deterministic(device: str) -> Generator[None]:
    """Inside the block what is computed on `device` is computed alike every time; outside it is as it was before."""
    if device != "cuda":
        yield
        return
    import torch

    cudnn: Any = torch.backends.cudnn
    fills: Any = torch.utils.deterministic

    def settle(mode: int | str, chosen: bool, tried: bool, filled: bool) -> None:
        torch.set_deterministic_debug_mode(mode)
        cudnn.deterministic, cudnn.benchmark, fills.fill_uninitialized_memory = chosen, tried, filled

    mode = torch.get_deterministic_debug_mode()
    before = mode, cudnn.deterministic, cudnn.benchmark, fills.fill_uninitialized_memory
    # "warn" would leave attention's backward passes as they are. To fill memory that is not yet written takes time.
    settle("error", True, False, False)
    try:
        yield
    finally:
        settle(*before)


def sums(numbers: Any) -> Any:
    """Of each row of a tensor of shares, up to every place: `cumsum`, whose order is not fixed for floats on CUDA."""
    return in_whole_numbers(numbers) if numbers.is_cuda else numbers.cumsum(-1)


def in_whole_numbers(shares: Any) -> Any:
    """The same in float64, added up as multiples of 2 ** -40: whole numbers come to the same in any order."""
    return (shares.double() * 2**40).long().cumsum(-1).double() / 2**40
