"""Which files of a model folder its weights are read from, and which of them are MLPs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file
from tilth.core.errors import ModelError
from tilth.train.load import is_in_mlp, tensor_sizes, weight_files


def write(folder: Path, *names: str) -> None:
    import numpy as np

    for name in names:
        save_file({f"{name}.weight": np.zeros((2, 3), dtype="f4")}, folder / name)


def test_the_same_weights_under_other_names_are_not_counted(tmp_path: Path) -> None:
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    write(tmp_path, "consolidated.safetensors", *parts)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"{part}.weight": part for part in parts}}))
    assert [file.name for file in weight_files(tmp_path)] == parts
    assert sum(tensor_sizes(tmp_path).values()) == 12
    (tmp_path / parts[0]).unlink()
    with pytest.raises(ModelError, match=r"model-00001-of-00002.safetensors is missing; get the model anew"):
        weight_files(tmp_path)
    for broken in ("{", "[]", '{"weight_map": []}', "{}"):
        index.write_text(broken)
        with pytest.raises(ModelError, match="the index of the weights is broken"):
            weight_files(tmp_path)
    write(tmp_path, "model.safetensors")
    assert [file.name for file in weight_files(tmp_path)] == ["model.safetensors"]


def test_without_an_index_all_files_are_the_weights(tmp_path: Path) -> None:
    write(tmp_path, "b.safetensors", "a.safetensors")
    assert [file.name for file in weight_files(tmp_path)] == ["a.safetensors", "b.safetensors"]
    with pytest.raises(ModelError, match="there are no safetensors weights"):
        weight_files(tmp_path / "none")


SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}


@pytest.mark.parametrize(
    ("family", "own"),
    [
        ("Llama", {}),
        ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
        ("GPT2", {"n_embd": 32, "n_layer": 1, "n_head": 2}),
        ("Mixtral", {"num_key_value_heads": 2}),
        ("Qwen2Moe", {"num_key_value_heads": 2, "num_experts": 2, "moe_intermediate_size": 24}),
        ("GraniteMoe", {"num_key_value_heads": 2, "num_local_experts": 2}),
        ("GptOss", {"num_key_value_heads": 2, "num_local_experts": 2, "layer_types": ["full_attention"]}),
        ("RecurrentGemma", {"block_types": ["recurrent"]}),
    ],
)
def test_mlps_are_found_and_routers_of_experts_are_not(family: str, own: dict[str, Any]) -> None:
    import torch
    import transformers

    with torch.device("meta"):
        config = getattr(transformers, f"{family}Config")(**SMALL | own)
        model = getattr(transformers, f"{family}{'LMHeadModel' if family == 'GPT2' else 'ForCausalLM'}")(config)
    found = {name for name, _ in model.named_parameters() if is_in_mlp(name)}
    assert found
    for name in found:
        assert not any(part in name for part in ("attn", "norm", "embed", "router", "mlp.gate.", "expert_gate")), name
    rest = {name for name, tensor in model.named_parameters() if name not in found and tensor.ndim > 1}
    others = ("attn", "embed", "lm_head", "wte", "wpe", "router", "gate.weight", "temporal_block")
    assert [name for name in rest if not any(part in name for part in others)] == []
