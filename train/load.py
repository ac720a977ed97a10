"""Loading what a phase trains, and the hash that says which weights it started from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError
from ..core.fingerprint import file_sha256, fingerprint
from ..llm.untrusted import open_config, open_weights
from .adapters import FOLDER, in_four_bits

if TYPE_CHECKING:
    from .plan import Phase


_MLP = {"mlp", "mlp_block", "block_sparse_moe", "feed_forward", "ffn", "shared_mlp", "fc1", "fc2"}
_ROUTERS = {"gate", "router", "shared_expert_gate"}
"""What says which experts of an MLP are asked. (A gated MLP's own is called `gate_proj`.)"""


def load_model(folder: Path, adapter: str = "none", dtype: Any = None) -> Any:
    """The model of a folder with float32 weights: AdamW's updates vanish in the rounding of bfloat16 ones.

    One that is only asked may have another `dtype`. Under a `qlora` adapter they are not trained, and are held in 4
    bits. Raises ModelError.
    """
    import torch
    from transformers import AutoModelForCausalLM

    given = {"quantization_config": in_four_bits()} if adapter == "qlora" else {}
    return open_weights(AutoModelForCausalLM, folder, dtype=dtype or torch.float32, **given)


def load_trained(folder: Path, phase: Phase) -> Any:
    """The model of a folder as a phase trains it: what stays as it is needs no gradient. Raises ModelError."""
    model = load_model(folder, phase.adapter)
    if phase.trainable == "mlp":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(is_in_mlp(name))
    return model


def is_in_mlp(name: str) -> bool:
    """Whether a tensor is one of a layer's MLP, by the names that transformers' models give it, or their files.

    Of a mixture of experts, these, and not the router.
    """
    parts = name.split(".")
    return not _MLP.isdisjoint(parts) and _ROUTERS.isdisjoint(parts)


def adapted_matrices(model: Any) -> str | list[str]:
    """What of a model gets an adapter, as peft is told: all matrices of its layers.

    Of a mixture of experts, those outside the MLPs: its experts are one tensor of three dimensions, which peft would
    adapt too, but without dropout only, and so that `merge` could not add the adapter to the weights.
    """
    if not any(tensor.ndim == 3 and "experts" in name.split(".") for name, tensor in model.named_parameters()):
        return "all-linear"
    from torch import nn

    within = (name.split(".") for name, module in model.named_modules() if isinstance(module, nn.Linear))
    layers = (parts for parts in within if any(part.isdecimal() for part in parts))
    return [".".join(parts) for parts in layers if (_MLP | _ROUTERS).isdisjoint(parts)]


def without_attention_dropout(model: Any) -> Any:
    """The model, whose attention drops nothing out while it trains.

    Layers of many kinds read the share from a number of their own, which the library's `disable_dropout`, made for
    modules, does not see. The configuration, which is saved, stays.
    """
    for module in model.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    return model


def read_class(folder: Path) -> tuple[Any, Any]:
    """The class of the causal model in a folder, and its configuration. Raises ModelError where there is none."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    fix = "name a folder with a causal language model that transformers knows"
    config = open_config(folder, fix=fix)
    try:
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], config
    except KeyError as error:
        raise ModelError(f"the model cannot be loaded ({error})", where=str(folder), fix=fix) from error


def read_number(config: Any, name: str, folder: Path) -> int:
    """What the configuration of the model in a folder says of its text, by transformers' name. Raises ModelError."""
    number = getattr(config.get_text_config(), name, None)
    if not isinstance(number, int):
        raise ModelError(f"its configuration has no number {name!r}", where=str(folder), fix="train another model")
    return number


def padding_id(tokenizer: Any) -> int:
    """The token that fills up short rows: the tokenizer's own, or its end of text where it has none."""
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def count_parameters(folder: Path) -> int:
    """All parameters of the model in a folder. Raises ModelError."""
    return sum(tensor_sizes(folder).values())


def tensor_sizes(folder: Path) -> dict[str, int]:
    """The parameters of each tensor of a model folder, from the heads of its files. Raises ModelError."""
    from safetensors import safe_open

    sizes: dict[str, int] = {}
    for file in weight_files(folder):
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a dict)
                sizes[name] = math.prod(tensors.get_slice(name).get_shape())
    return sizes


def weights_sha256(model: Path, sha256_of: Callable[[Path], str] = file_sha256) -> str:
    """One hash for all safetensors files of a model folder, a kept adapter's too. Raises ModelError without any."""
    files = [*weight_files(model), *sorted(model.glob(f"{FOLDER}/*.safetensors"))]
    return fingerprint([[file.name, sha256_of(file)] for file in files], length=64)


def _of_model(model: Path, files: list[Path]) -> list[Path]:
    """Of several files those that transformers would read. Raises ModelError for a broken index."""
    if (whole := model / "model.safetensors") in files:
        return [whole]
    index = model / "model.safetensors.index.json"
    if not index.is_file():
        return files
    try:
        named = {*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError("the index of the weights is broken", where=str(index), fix="get the model anew") from error
    missing = named - {file.name for file in files}
    if missing:
        raise ModelError(f"{min(map(str, missing))} is missing", where=str(index), fix="get the model anew")
    return [file for file in files if file.name in named]


def weight_files(model: Path) -> list[Path]:
    """The safetensors files that a model folder's weights are read from. Raises ModelError without any.

    Those of its index, where it has one: beside them some models have the same weights under other names.
    """
    files = sorted(model.glob("*.safetensors"))
    if len(files) > 1:
        files = _of_model(model, files)
    if not files:
        raise ModelError("there are no safetensors weights", where=str(model), fix="name a folder that has them")
    return files
