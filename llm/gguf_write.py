"""A folder of safetensors as one GGUF file for llama.cpp and what is built on it: models of the Llama architecture.

Llama, Mistral and SmolLM2 are such. Each weight is read, converted and written before the next one: a model of any size
takes the memory of its largest weight.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ..core.errors import ModelError
from ..core.progress import Progress
from .gguf_vocabulary import CONVERTER, add_vocabulary
from .quiet import quiet_transformers
from .untrusted import open_config, open_tokenizer

NumberFormat = Literal["f32", "f16", "bf16", "q8_0"]
"""Of the weights in the file: 32, 16, 16 or 8.5 bits each; vectors stay in 32."""

_ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM")
_BLOCK = 32
"""q8_0 gives 32 neighbours of a row one scale; a weight whose rows do not divide so is written in f16."""


def write_gguf(folder: Path, path: Path, numbers: NumberFormat, *, name: str, progress: Progress) -> None:
    """Write the model in `folder` to `path`; `name` is what programs show of it.

    Raises ModelError for what cannot be said in a GGUF file so that llama.cpp computes the same.
    """
    if missing := next((package for package in ("gguf", "torch", "transformers") if find_spec(package) is None), ""):
        fix = "run `pip install 'tilth[train]'`"
        raise ModelError(f"writing a GGUF file needs the package {missing}", where=str(path), fix=fix)
    from gguf import GGUFWriter

    config, tokenizer, ends = _read(folder)
    _refuse(config, folder)
    weights = list(_weights(folder, config, numbers))
    writer = GGUFWriter(path, "llama")
    writer.add_name(name)
    _add_sizes(writer, config)
    _add_formats(writer, numbers)
    add_vocabulary(writer, tokenizer, folder, size=config.vocab_size, ends=ends)
    try:
        _write(writer, weights, _rope_factors(config), config, progress)
    except OSError as error:  # numpy says of a full disk how much was written, and nothing else
        raise OSError(error.errno or errno.ENOSPC, os.strerror(error.errno or errno.ENOSPC), str(path)) from error


@dataclass(frozen=True)
class _Weight:
    """A weight in a safetensors file, and what it becomes."""

    file: Path
    source: str
    name: str
    shape: tuple[int, ...]
    kind: Any
    """`gguf.GGMLQuantizationType`"""


def _read(folder: Path) -> tuple[Any, Any, list[int]]:
    """Configuration, tokenizer, and the tokens that end an answer."""
    from transformers import GenerationConfig

    if not (folder / "config.json").is_file():
        fix = "name the folder of a whole model; an adapter alone has to be merged into its model first"
        raise ModelError("there is no config.json", where=str(folder), fix=fix)
    try:
        with quiet_transformers():
            config, tokenizer = open_config(folder), open_tokenizer(folder)
            if (folder / "generation_config.json").is_file():
                ends: Any = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
            else:
                ends = config.eos_token_id
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        fix = "name a folder with a whole Hugging Face model"
        raise ModelError(f"the model cannot be loaded ({reason})", where=str(folder), fix=fix) from error
    return config, tokenizer, ends if isinstance(ends, list) else [ends] if ends is not None else []


def _refuse(config: Any, folder: Path) -> None:
    what = ""
    architecture = next(iter(config.architectures or ()), "unknown")
    if architecture not in _ARCHITECTURES:
        what = f"tilth writes GGUF of the Llama architecture only, and this is {architecture}"
    elif config.hidden_act != "silu":
        what = f"its activation is {config.hidden_act}, and llama.cpp's Llama has silu"
    elif _rope(config)["rope_type"] not in {"default", "linear", "llama3"}:
        what = f"its positions are scaled by {_rope(config)['rope_type']}, which tilth does not write"
    elif getattr(config, "quantization_config", None):
        what = "its weights are quantised"
    if what:
        raise ModelError(what, where=str(folder), fix=CONVERTER)


def _rope(config: Any) -> dict[str, Any]:
    return {"rope_type": "default", **config.rope_parameters}


def _head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _add_sizes(writer: Any, config: Any) -> None:
    # llama.cpp's Llama has no sliding window: within one, full attention is the same.
    window = getattr(config, "sliding_window", None) or config.max_position_embeddings
    writer.add_context_length(min(window, config.max_position_embeddings))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(_head_size(config))
    writer.add_value_length(_head_size(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(_head_size(config))
    rope = _rope(config)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def _add_formats(writer: Any, numbers: NumberFormat) -> None:
    import gguf

    named = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_file_type(gguf.LlamaFileType[named[numbers]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _weights(folder: Path, config: Any, numbers: NumberFormat) -> Iterator[_Weight]:
    """In the order of the files and of the names in them. Raises ModelError for one that the architecture has not."""
    from gguf import MODEL_ARCH, get_tensor_name_map
    from safetensors import safe_open

    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for source in sorted(opened.keys()):
                if config.tie_word_embeddings and source == "lm_head.weight":
                    continue
                name = names.get_name(source, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise ModelError(f"a Llama has no weight {source!r}", where=str(file), fix=CONVERTER)
                shape = tuple(opened.get_slice(source).get_shape())
                yield _Weight(file, source, name, shape, _kind(shape, numbers))


def _kind(shape: tuple[int, ...], numbers: NumberFormat) -> Any:
    from gguf import GGMLQuantizationType

    if len(shape) == 1:
        return GGMLQuantizationType.F32
    if numbers == "q8_0" and shape[-1] % _BLOCK:
        return GGMLQuantizationType.F16
    return GGMLQuantizationType[numbers.upper()]


def _write(writer: Any, weights: list[_Weight], factors: Any, config: Any, progress: Progress) -> None:
    import numpy
    from gguf import quant_shape_to_byte_shape
    from gguf.quants import quantize

    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    for weight in weights:
        shape = quant_shape_to_byte_shape(weight.shape, weight.kind)
        writer.add_tensor_info(weight.name, shape, numpy.dtype("uint8"), math.prod(shape), weight.kind)
    try:
        for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_ti_data_to_file):
            step()
        if factors is not None:
            writer.write_tensor_data(factors)
        with progress.task("writing the GGUF file", total=len(weights), unit="weights") as task:
            for weight in weights:
                writer.write_tensor_data(quantize(_values(weight, config), weight.kind))
                task.advance()
    finally:
        writer.close()


def _values(weight: _Weight, config: Any) -> Any:
    """A weight in float32, with the rows of queries and keys in llama.cpp's order."""
    from safetensors import safe_open

    with safe_open(weight.file, "pt") as opened:
        values = opened.get_tensor(weight.source).float().numpy()
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    layer = weight.source.split(".")[-2]
    return _interleaved(values, heads[layer]) if layer in heads else values


def _interleaved(values: Any, heads: int) -> Any:
    """Rows of a head in pairs (0, n/2), (1, n/2 + 1), …: llama.cpp rotates neighbours, transformers rotates halves."""
    rows = values.shape[0]
    return values.reshape(heads, 2, rows // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _rope_factors(config: Any) -> Any:
    """By how much each frequency is divided, as transformers computes it for Llama 3; None where nothing is."""
    if _rope(config)["rope_type"] != "llama3":
        return None
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    size = _head_size(config)
    import torch

    plain = 1.0 / _rope(config)["rope_theta"] ** (torch.arange(0, size, 2).float() / size)
    return (plain / scaled).numpy()
