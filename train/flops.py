"""How much of the device's arithmetic training makes use of: model FLOPs utilisation.

Counted is what a step needs and nothing else: no padding, no recomputed activations, attention to earlier tokens only,
the output head only where a token is trained. The peak is what the device does in a matrix product, not what its data
sheet says. Source of the measure: Chowdhery et al., PaLM, arXiv 2204.02311, appendix B.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any

from ..llm.precision import compute_dtype, device

_SIDE = {"cpu": 1024, "cuda": 8192}
_SIDE_FROM_MEMORY = {"cpu": 4096, "cuda": 8192}
"""Of a matrix that no cache holds."""
_TRIES = 5


@dataclass(frozen=True)
class Shape:
    """What of a model decides how much a step computes: parameters in matrices, and the width of its attention."""

    body: int
    """Of all layers."""
    head: int
    """Of the output head."""
    attention: int
    """The width of all heads of all layers."""
    trained_body: int
    """Of the layers' parameters those that are trained themselves, not by an adapter beside them."""
    trained_head: int
    """Of the output head."""


def shape(model: Any, *, whole: bool) -> Shape:
    """The shape of a language model with dense layers. To be asked before its weights are shared out."""
    import torch

    head, config = model.get_output_embeddings(), model.config
    beside = {id(head), *(id(module) for module in model.modules() if isinstance(module, torch.nn.Embedding))}
    inside = [module for module in model.modules() if hasattr(module, "weight") and id(module) not in beside]
    heads = getattr(config, "num_attention_heads", 0)  # there are none in a model without attention
    width = getattr(config, "head_dim", None) or config.hidden_size // max(1, heads)
    return Shape(
        body=sum(map(_parameters, inside)),
        head=0 if head is None else head.weight.numel(),
        attention=config.num_hidden_layers * heads * width,
        trained_body=sum(_parameters(module) for module in inside if whole and _is_trained(module)),
        trained_head=head.weight.numel() if whole and head is not None and _is_trained(head) else 0,
    )


def step_flops(shape: Shape, *, tokens: int, trained: int, squares: int) -> int:
    """Operations of one forward and backward pass over rows with so many tokens, `trained` of them with a loss.

    `squares` are the rows' lengths squared, added up. A product of a matrix takes two operations for each of its
    parameters and tokens; backward as much for the input and, where the matrix is trained, for itself. Attention has
    two products forward and four backward, over half of the square.
    """
    attention = forward_flops(shape, tokens=0, trained=0, squares=squares)
    matrices = forward_flops(shape, tokens=tokens, trained=trained, squares=0)
    return 2 * (matrices + shape.trained_body * tokens + shape.trained_head * trained) + 3 * attention


def forward_flops(shape: Shape, *, tokens: int, trained: int, squares: int) -> int:
    """Those of the forward pass, where `trained` tokens go through the output head."""
    return 2 * (shape.body * tokens + shape.head * trained + shape.attention * squares)


@functools.cache
def peak_flops() -> float:
    """Operations per second of this device in a large product of matrices, in the format that training computes in."""
    import torch

    side, place = _SIDE[device()], device()
    numbers = torch.Generator(place).manual_seed(0)  # not all ones: a GPU is faster where no bit changes
    matrix = torch.randn(side, side, generator=numbers, device=place).to(compute_dtype())
    return 2 * side**3 / min(_seconds(matrix, matrix) for _ in range(_TRIES))


@functools.cache
def thin_flops(rows: int) -> float:
    """The same where few rows go through a matrix at a time, as when answers are written token by token.

    For each product the matrix is read from memory, which may take longer than to compute it.
    """
    import torch

    side = _SIDE_FROM_MEMORY[device()]
    rows = min(rows, side)
    matrix = torch.randn(side, side, device=device()).to(compute_dtype())
    return 2 * rows * side**2 / min(_seconds(matrix[:rows], matrix) for _ in range(_TRIES))


def _is_trained(module: Any) -> bool:
    return module.weight is not None and module.weight.requires_grad


def _parameters(module: Any) -> int:
    """Of the matrix that a module multiplies with: in 4 bits two of them are one number."""
    import torch

    if isinstance(module, torch.nn.Linear):
        return module.in_features * module.out_features
    return module.weight.numel() if module.weight is not None and module.weight.dim() == 2 else 0


def _seconds(left: Any, right: Any) -> float:
    import torch

    started = time.perf_counter()
    _ = left @ right
    if device() == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
