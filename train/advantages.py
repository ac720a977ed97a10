"""The arithmetic of proximal policy optimisation (Schulman et al., arXiv 1707.06347), on tensors of answers by tokens.

In each, `said` is true where an answer has a token: from its first to its end token.
"""

from __future__ import annotations

from typing import Any


def advantages(rewards: Any, values: Any, said: Any, gamma: float, lam: float) -> Any:
    """How much better than expected each token turned out (generalised advantage estimate, arXiv 1506.02438).

    `values` are what was expected before each token; after an answer's last token nothing is.
    """
    import torch

    found, values = torch.zeros_like(values), values * said
    later, following = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    for place in reversed(range(values.shape[1])):
        surprise = rewards[:, place] + gamma * following - values[:, place]
        later = (surprise + gamma * lam * later) * said[:, place]
        found[:, place], following = later, values[:, place]
    return found


def whitened(numbers: Any, counted: Any) -> Any:
    """The numbers shifted and scaled so that those which count have mean 0 and variance 1."""
    some = numbers[counted]
    return (numbers - some.mean()) / (some.std(correction=0) + 1e-8)


def policy_losses(log_probs: Any, before: Any, advantages: Any, clip: float) -> tuple[Any, Any]:
    """The clipped loss of each token, and whether it was clipped; `before`: log-probabilities when it was said."""
    import torch

    ratios = (log_probs - before).exp()
    plain, clipped = -advantages * ratios, -advantages * ratios.clamp(1 - clip, 1 + clip)
    return torch.maximum(plain, clipped), clipped > plain


def value_losses(values: Any, before: Any, returns: Any, clip: float) -> Any:
    """The squared error of each value, which gains nothing by moving further than `clip` from what it was."""
    import torch

    near = torch.clamp(values, before - clip, before + clip)
    return torch.maximum((values - returns) ** 2, (near - returns) ** 2) / 2
