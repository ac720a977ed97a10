"""Noise on the embeddings, in training only, so that a small model learns less of a sample by heart.

Uniform within alpha / sqrt(length * width), by the length of each token's own row (NEFTune, arXiv 2310.05914,
algorithm 1). The library's goes by the width of the batch, which is another thing where rows are joined (`varlen`).
What several rows share has one noise, by the longest of them.
"""

from __future__ import annotations

from typing import Any

from .varlen import row_lengths, shared_in


class Noise:
    """Of one model: it notes where the rows of a batch begin when the model is given it."""

    def __init__(self, alpha: float) -> None:
        self._alpha, self._batch = alpha, dict[str, Any]()

    def add_to(self, model: Any) -> None:
        """From now on, whenever the model is called while it is trained."""
        model.register_forward_pre_hook(self._note, with_kwargs=True)
        model.get_input_embeddings().register_forward_hook(self._noisy)

    def _note(self, _model: Any, _args: Any, given: dict[str, Any]) -> None:
        self._batch = given if "cu_seq_lens_q" in given else {}

    def _noisy(self, module: Any, _args: Any, embedded: Any) -> Any:
        import torch

        if not module.training:
            return embedded
        length, width = embedded.shape[1:]
        if self._batch:
            lengths = row_lengths(self._batch)
            lengths = [max(lengths), *lengths] if shared_in(self._batch) else lengths
            of_tokens = torch.tensor(lengths).repeat_interleave(self._batch["cu_seq_lens_q"].diff().cpu())
        else:
            of_tokens = torch.full((length,), length)
        most = self._alpha / (of_tokens * width).float().sqrt().to(embedded.device)
        return embedded + torch.empty_like(embedded).uniform_(-1, 1) * most[:, None]
