"""A phase's model drawn back toward the model that it started from: the mean of their weights, tensor by tensor.

A little of the way costs little of what was learned and gives back much of what was lost, for the two lie in one basin.
Source: WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903; for what language models forget LM-Cocktail, Xiao et al. 2023,
arXiv 2311.13534.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.atomic import new_file
from ..core.errors import ModelError
from .load import weight_files
from .plan import Phase


def average(model: Path, parent: Path, share: float) -> None:
    """Replace the weights in the folder `model` by their mean with those in `parent`, which weigh `share`.

    Each file is replaced whole, and one tensor at a time is in memory. Raises ModelError where the parent does not have
    a tensor, or in another shape.
    """
    from safetensors import safe_open

    before = _Tensors(parent)
    for file in weight_files(model):
        with safe_open(str(file), framework="pt") as trained, new_file(file) as new:
            new.write(_head(file))
            for name in trained.offset_keys():
                new.write(_bytes(_mean(name, trained.get_tensor(name), before.get(name), share, model)))


def averaged_in_words(phase: Phase) -> str:
    """That what was measured at the ends of the epochs was not the mean."""
    what = f"the mean of what was trained and of its parent, which weighs {phase.average:.0%}"
    return f"phase {phase.name}: the model is {what}; the numbers of its epochs are of what was trained"


def _mean(name: str, trained: Any, before: Any, share: float, model: Path) -> Any:
    if before is None or before.shape != trained.shape:
        how = "is not" if before is None else "has another shape"
        what = f"{name} {how} in the model that the phase started from"
        raise ModelError(what, where=str(model), fix="leave `average` out of the phase")
    return trained.lerp(before.to(trained.dtype), share)


def _head(file: Path) -> bytes:
    """What a safetensors file begins with: its length, in eight bytes, and which tensor is where."""
    with file.open("rb") as opened:
        length = opened.read(8)
        return length + opened.read(int.from_bytes(length, "little"))


def _bytes(tensor: Any) -> bytes:
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


class _Tensors:
    """Those of a model's folder, read one by one, by the names that a causal model has for them.

    As a model came its files may name them without what comes before the first point, as GPT-2's do.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self._file_of: dict[str, Path] = {}
        for file in weight_files(folder):
            with safe_open(str(file), framework="pt") as opened:
                self._file_of |= dict.fromkeys(opened.keys(), file)

    def get(self, name: str) -> Any:
        """The tensor, or None."""
        from safetensors import safe_open

        there = name if name in self._file_of else name.partition(".")[2]
        if there not in self._file_of:
            return None
        with safe_open(str(self._file_of[there]), framework="pt") as opened:
            return opened.get_tensor(there)
