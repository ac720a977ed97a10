"""Adapters between phases, and models whose weights are held in 4 bits while an adapter is trained on them.

A phase with `lora: {merge: false}` leaves its adapter in `adapter/` of its model, which has it merged all the same: any
program can use the model, any phase can start from it. The next LoRA phase of the same shape goes on with the adapter
instead of a new one, on the weights without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ..llm.untrusted import open_weights
from .merge import merged_weights
from .plan import Phase

FOLDER = "adapter"
_WEIGHTS = "adapter_model.safetensors"


def in_four_bits() -> Any:
    """How a QLoRA phase holds the weights that it does not train (Dettmers et al., QLoRA, arXiv 2305.14314)."""
    from transformers import BitsAndBytesConfig

    from ..llm.precision import compute_dtype

    kind: Any = BitsAndBytesConfig
    return kind(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype(),
    )


def check_four_bits() -> None:
    """Try weights in 4 bits once, forward and back. Raises ModelError where this machine cannot hold them."""
    import torch

    from ..llm.precision import compute_dtype, device

    try:
        from bitsandbytes.nn.modules import Linear4bit

        layer = Linear4bit(64, 64, bias=False, compute_dtype=compute_dtype(), quant_type="nf4").to(device())
        keep_unpacked(layer)
        layer(torch.ones(1, 64, device=device(), requires_grad=True)).sum().backward()
    except Exception as error:
        why = str(error).partition("\n")[0][:200]
        what = f"bitsandbytes cannot hold weights in 4 bits on this machine ({type(error).__name__}: {why})"
        fix = "set `adapter: lora`, or install the bitsandbytes that is made for this machine"
        raise ModelError(what, fix=fix) from error


def check_reference(phase: Phase, parent: Path) -> None:
    """Raise ModelError where a phase is held to its parent (`rollout.beta`) and goes on with the parent's adapter.

    TRL measures from the weights under an adapter, which are not the parent then.
    """
    goes_on = phase.adapter != "none" and (parent / FOLDER).is_dir()
    if goes_on and phase.method in {"grpo", "rloo"} and phase.rollout.beta:
        what = "rollout.beta holds it to its parent, whose adapter it would go on with"
        fix = "write `lora: {merge: true}` in the phase that left it, or `beta: 0`"
        raise ModelError(what, where=f"phase {phase.name!r}", fix=fix)


def is_in_four_bits(model: Any) -> bool:
    """Whether a model was loaded so."""
    return getattr(model, "is_loaded_in_4bit", False)  # transformers sets it on such models only


def keep_unpacked(model: Any) -> None:
    """Keep bitsandbytes from packing a model's 4-bit weights in another form when they are first evaluated on a CPU.

    Training would meet them in that form, which it cannot use.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def train_in_float32(model: Any) -> None:
    """Undo the library's rounding of a new adapter on 4-bit weights to bfloat16, in which AdamW's updates vanish."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def adapter_weights(model: Any) -> dict[str, Any]:
    """What of a peft model is trained."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_adapter(model: Any, weights: Mapping[str, Any], folder: Path) -> None:
    """Write the adapter of a peft model, without the card that the library adds."""
    model.save_pretrained(folder, state_dict=weights)
    (folder / "README.md").unlink(missing_ok=True)


def go_on_with_adapter(model: Any, folder: Path) -> bool:
    """Make the adapter in `folder`, if one of the same shape is there, that of the peft model; else return False.

    It is taken out of the weights that it was merged into, but for rounding, which is the same every time.
    """
    import torch
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    if not (folder / _WEIGHTS).is_file() or is_in_four_bits(model):
        return False
    kept: Mapping[str, Any] = load_file(folder / _WEIGHTS)
    own: Mapping[str, Any] = get_peft_model_state_dict(model)
    if _shapes(kept) != _shapes(own) or _alpha(folder) != model.peft_config["default"].lora_alpha:
        return False
    set_peft_model_state_dict(model, dict(kept))
    for module in model.modules():
        if hasattr(module, "get_delta_weight"):
            with torch.no_grad():
                module.base_layer.weight -= module.get_delta_weight("default")
    return True


def save_whole(model: Any, config: Any, folder: Path) -> None:
    """Merge the adapter of a model in 4 bits into the weights that those were made from, and write that model."""
    import torch

    del config.quantization_config
    whole = open_weights(type(model), Path(model.name_or_path), config=config, dtype=torch.float32)
    weights = merged_weights(model, whole.state_dict())
    whole.save_pretrained(folder, state_dict=weights)


def _alpha(folder: Path) -> float:
    from peft import LoraConfig

    config: Any = LoraConfig.from_pretrained(str(folder))
    return config.lora_alpha


def _shapes(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}
