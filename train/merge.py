"""The weights that a model would have with its adapter merged, while it goes on to be trained with it."""

from __future__ import annotations

from typing import Any

_KEPT = ".modules_to_save.default."
"""What an adapter trains as a whole, such as the head of a reward model, stands beside the original."""


def merged_weights(model: Any, whole: dict[str, Any] | None = None) -> dict[str, Any]:
    """The state of the model under a peft LoRA adapter, by its own names; only the changed weights are new tensors.

    What peft's `merge_and_unload` computes, to the bit; that changes the model, and taking the adapter out again
    leaves rounding behind. `whole` are the weights of a model that holds those beneath the adapter in 4 bits only.
    """
    import torch

    weights = {
        name.replace(".base_layer.", ".").replace(_KEPT, "."): tensor
        for name, tensor in model.state_dict().items()
        if ".lora_" not in name and ".original_module." not in name
    }
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            with torch.no_grad():
                base = whole[f"{name}.weight"] if whole else module.base_layer.weight
                merged = base + module.get_delta_weight("default").to(base)
            # A GPU that trains need not have room for a second model; one that is shared out is fetched by its owner.
            weights[f"{name}.weight"] = merged if hasattr(merged, "full_tensor") else merged.cpu()
    return {name: weights.get(name, tensor) for name, tensor in whole.items()} if whole else weights
