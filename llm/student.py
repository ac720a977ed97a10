"""The student as a Hugging Face folder: config, tokenizer with its chat template, float32 safetensors."""

from __future__ import annotations

import contextlib
import io
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..core import atomic
from ..core.errors import DataError, ModelError, nearest
from ..core.progress import Progress
from ..core.workspace import model_cache
from .catalogue import CatalogueModel, catalogue, fetch, locked
from .hub import download_student
from .quiet import quiet_transformers
from .untrusted import NO_CODE

_MANIFEST = "manifest.json"


def student_folder(model: str, progress: Progress) -> Path:
    """The folder of a student: a catalogue name (fetched, and unpacked once into the cache), a folder, or a hub name.

    Raises ModelError.
    """
    if model in catalogue():
        return _unpacked(catalogue()[model], progress)
    folder = with_home(model)
    if (folder / "config.json").is_file():
        return folder.resolve()
    if folder.is_dir():
        raise ModelError("the folder has no config.json", where=model, fix="give the folder of a Hugging Face model")
    if model.startswith(("/", ".", "~")) or model.count("/") != 1:
        fix = f"give a folder, a name of the hub (owner/name), or of the catalogue: {nearest(model, catalogue())}"
        raise ModelError(f"there is no model {model!r}", where="student.model", fix=fix)
    return download_student(model)


def with_home(path: str) -> Path:
    """The path with `~` and `~user` put in. Where there is no such user it stays (`Path.expanduser` raises)."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def _unpacked(model: CatalogueModel, progress: Progress) -> Path:
    folder = model_cache() / model.name
    if _is_unpacked(folder, model):
        return folder
    gguf = fetch(model.name, progress)
    try:
        with locked(folder, progress):
            if not _is_unpacked(folder, model):
                progress.say(f"unpacking {model.name} to float32 (once)")
                with atomic.new_folder(folder) as new:
                    _unpack(gguf, new)
                    atomic.write_json(new / _MANIFEST, {"source": model.file, "source_sha256": model.sha256})
    except OSError as error:
        fix = "free some space, or set TILTH_CACHE to a folder with more"
        raise ModelError(f"cannot unpack it ({error.strerror or error})", where=str(folder), fix=fix) from error
    return folder


def _is_unpacked(folder: Path, model: CatalogueModel) -> bool:
    try:
        return atomic.read_json(folder / _MANIFEST)["source_sha256"] == model.sha256
    except DataError:
        return False


def _unpack(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF file. float32 holds every value of every GGUF type exactly; training needs float32 anyway."""
    for package in ("torch", "transformers", "gguf"):
        if find_spec(package) is None:
            raise ModelError(f"unpacking a student needs the package {package}", fix="run `pip install 'tilth[train]'`")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # The bar of the unpacking itself knows no switch; what goes wrong comes as an exception.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            **NO_CODE,
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, **NO_CODE)
        if tokenizer.pad_token in (None, tokenizer.eos_token):
            # A pad that is the end-of-turn too gets masked along with it, and the model never learns to stop.
            tokenizer.pad_token = tokenizer.unk_token
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
