"""What a model folder computes, as one hash: its weights, its tokenizer and its configuration, and nothing else in it.

Hashing gigabytes takes seconds, so each file's hash is remembered under its path, size and time of change.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from ..core.atomic import write_json
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
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
)


def model_fingerprint(folder: Path, memory: Path) -> str:
    """The fingerprint of the model in `folder`; `memory` is the JSON file of hashes already taken.

    Raises ModelError when the folder holds no safetensors.
    """
    hashes = FileHashes(memory)
    found = fingerprint({file.name: hashes.of(file) for file in _files(folder)})
    hashes.keep()
    return found


def hashes_file(answers: Path) -> Path:
    """Where a folder of answers remembers them."""
    return answers / "files.json"


class _Hash(BaseModel):
    stamp: tuple[int, int]
    """The file's size in bytes, and the time of its last change in nanoseconds."""
    sha256: str


_MEMORY = TypeAdapter(dict[str, _Hash])


class FileHashes:
    """SHA-256 of files, by heart where a file's size and time of change are those of before.

    A memory that cannot be read is begun anew: all that it saves is seconds.
    """

    def __init__(self, memory: Path) -> None:
        self._memory, self._fresh = memory, False
        self._known = _remembered(memory)

    def of(self, file: Path) -> str:
        """A file's. Raises OSError."""
        path, stat = str(file.resolve()), file.stat()
        stamp = (stat.st_size, stat.st_mtime_ns)
        known = self._known.get(path)
        if known is None or known.stamp != stamp:
            known = self._known[path] = _Hash(stamp=stamp, sha256=file_sha256(file))
            self._fresh = True
        return known.sha256

    def keep(self) -> None:
        """Remember what was taken."""
        if self._fresh:
            write_json(self._memory, _MEMORY.dump_python(self._known, mode="json"))


def _remembered(memory: Path) -> dict[str, _Hash]:
    try:
        return _MEMORY.validate_json(memory.read_bytes())
    except (OSError, ValidationError):
        return {}


def _files(folder: Path) -> Iterator[Path]:
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError("no *.safetensors here", where=str(folder), fix="name the folder of a Hugging Face model")
    yield from weights
    yield from (folder / name for name in _BESIDE_WEIGHTS if (folder / name).is_file())
