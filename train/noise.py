"""Noise on the embeddings, in training only, so that a small model learns less of a sample by heart.

Uniform within alpha / sqrt(length * width), by the length of each token's own row (NEFTune, arXiv 2310.05914,
algorithm 1). The library's goes by the width of the batch, which is another thing where rows are joined (`varlen`).
"""

from __future__ import annotations

from typing import Any


class Noise:
    """Of one model: it notes where the rows of a batch begin when the model is given it."""

    def __init__(self, alpha: float) -> None:
        self._alpha, self._starts = alpha, None

    def add_to(self, model: Any) -> None:
        """From now on, whenever the model is called while it is trained."""
        model.register_forward_pre_hook(self._note, with_kwargs=True)
        model.get_input_embeddings().register_forward_hook(self._noisy)

    def _note(self, _model: Any, _args: Any, given: dict[str, Any]) -> None:
        self._starts = given.get("cu_seq_lens_q")

    def _noisy(self, module: Any, _args: Any, embedded: Any) -> Any:
        import torch

        if not module.training:
            return embedded
        length, width = embedded.shape[1:]
        lengths = torch.full((length,), length) if self._starts is None else self._starts.diff()
        most = self._alpha / (lengths * width).float().sqrt().to(embedded.device)
        if self._starts is not None:
            most = most.repeat_interleave(lengths.to(embedded.device))
        return embedded + torch.empty_like(embedded).uniform_(-1, 1) * most[:, None]
