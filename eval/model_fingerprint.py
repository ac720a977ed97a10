"""What a model folder computes, as one hash: its weights, its tokenizer and its configuration, and nothing else in it.

Hashing gigabytes takes seconds, so each file's hash is remembered under its path, size and time of change.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.atomic import read_json, write_json
from ..core.errors import ModelError
from ..core.fingerprint import file_sha256, fingerprint

_BESIDE_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


def model_fingerprint(folder: Path, memory: Path) -> str:
    """The fingerprint of the model in `folder`; `memory` is the JSON file of hashes already taken.

    Raises ModelError when the folder holds no safetensors.
    """
    known: dict[str, Any] = read_json(memory) if memory.exists() else {}
    hashes: dict[str, str] = {}
    fresh = False
    for file in _files(folder):
        path, stat = str(file.resolve()), file.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        if known.get(path, {}).get("stamp") != stamp:
            known[path] = {"stamp": stamp, "sha256": file_sha256(file)}
            fresh = True
        hashes[file.name] = known[path]["sha256"]
    if fresh:
        write_json(memory, known)
    return fingerprint(hashes)


def _files(folder: Path) -> Iterator[Path]:
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError("no *.safetensors here", where=str(folder), fix="name the folder of a Hugging Face model")
    yield from weights
    yield from (folder / name for name in _BESIDE_WEIGHTS if (folder / name).is_file())
