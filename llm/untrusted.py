"""How model folders are opened, whoever made them: by transformers' own code, weights from safetensors, no network.

What a folder can do wrong beside that ends here too, in one line: a configuration that names code of somebody else,
or that would fill the memory with layers which its files do not hold.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from ..core.errors import ModelError

NO_CODE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
"""Said each time: left out, transformers asks at the terminal whether to run what a folder brings along."""

TEMPLATE_FAULTS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""What a chat template can make of its sandbox, beside jinja's own errors."""

_WHOLE = "name a folder with a whole Hugging Face model"


def open_config(folder: Path, *, fix: str = _WHOLE) -> Any:
    """The configuration of a model folder. Raises ModelError."""
    from transformers import AutoConfig

    with _told(folder, fix=fix):
        return AutoConfig.from_pretrained(str(folder), **NO_CODE)


def open_tokenizer(folder: Path, **given: Any) -> Any:
    """The tokenizer of a model folder. Raises ModelError."""
    from transformers import AutoTokenizer

    with _told(folder):
        return AutoTokenizer.from_pretrained(str(folder), **NO_CODE, **given)


def open_weights(kind: Any, folder: Path, *, fix: str = _WHOLE, **given: Any) -> Any:
    """The model of a folder; `kind` is one of transformers' auto classes. Raises ModelError."""
    with _told(folder, fix=fix):
        return kind.from_pretrained(str(folder), use_safetensors=True, **NO_CODE, **given)


@contextlib.contextmanager
def _told(folder: Path, fix: str = _WHOLE) -> Generator[None]:
    """Look at the configuration before the libraries do, and turn whatever they raise into a ModelError."""
    if problem := _problem(folder):
        raise ModelError(f"the model cannot be loaded ({problem})", where=str(folder), fix=fix)
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):  # no matter of the folder
        raise
    except Exception as error:
        if "DefaultCPUAllocator" in str(error):  # how torch says that main memory is full
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the model cannot be loaded ({reason})", where=str(folder), fix=fix) from error


def _problem(folder: Path) -> str:
    """What is wrong with `config.json` before anybody builds a model from it; empty: nothing that is known here."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        return ""  # the libraries say what is missing
    except (OSError, ValueError, RecursionError) as error:
        return f"config.json: {error}"
    if not isinstance(config, dict):
        return "config.json holds no keys and values"
    for key, value in _settings(config):
        if "implementation" in key and isinstance(value, str) and "/" in value:  # fetched from the hub, and run
            return f"config.json wants somebody else's code {value!r}: {key}"
        if key.endswith(("layers", "n_layer")) and isinstance(value, int) and value > _num_tensors(folder):
            return f"config.json says {key} = {value:,}, more than the files have tensors"
    return ""


def _settings(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its key; one inside such a setting has the setting's."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _settings(inner, key if "implementation" in key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _settings(inner, key)
    else:
        yield key, value


def _num_tensors(folder: Path) -> float:
    """How many tensors its files hold; no limit where there are none: a tokenizer alone, a broken file."""
    from safetensors import SafetensorError, safe_open

    found = 0
    try:
        for file in folder.glob("*.safetensors"):
            with safe_open(str(file), framework="np") as tensors:
                found += len(tensors.keys())
    except (OSError, SafetensorError):
        return float("inf")
    return found or float("inf")
