"""Fingerprints: content hashes that name things. Equal content has an equal fingerprint on every machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 1 << 20


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: one text for equal values.

    Raises TypeError or ValueError for what JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any, *, length: int = 16) -> str:
    """The first `length` hex digits of the SHA-256 of a JSON-able value (16: 2**32 items before a likely clash)."""
    return text_sha256(canonical_json(value))[:length]


def text_sha256(text: str) -> str:
    """The whole SHA-256 of a text in UTF-8, in hex."""
    return bytes_sha256(text.encode())


def bytes_sha256(data: bytes) -> str:
    """The whole SHA-256 of some bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """The whole SHA-256 of a file, in hex, read block by block."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
