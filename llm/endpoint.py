"""Where a chat model can be asked: the user's own server, or one that tilth starts for a model of the catalogue."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..core.config import ModelServer
from ..core.environment import withhold
from ..core.errors import ModelError
from ..core.fingerprint import file_sha256
from ..core.progress import Progress
from . import catalogue, gguf_server

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_SHORTEST_KEY = 12
_MOST_SLOTS = 4
"""Of the local server: each takes memory (80 MB for the embedded teacher) and reads the prompts' fixed parts anew. Two
cores write 32 tokens/s with 4 slots as with 8 (docs/log.md)."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server that is up as far as we know."""

    base_url: str
    model: str
    api_key: str = field(repr=False)
    """Empty where none is needed."""
    concurrency: int
    timeout_s: float
    context_tokens: int = 0
    """What a prompt and its answer may take; 0: not known."""
    ended: Callable[[], str] = field(default=lambda: "", repr=False)
    """Why the server that we started is gone; empty while it runs, and for a server of the user's."""

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        return urlsplit(self.base_url).hostname in _LOOPBACK

    def without_key(self, text: str) -> str:
        """What the server says, less the key: some repeat it. A word that only stands in for one stays."""
        if len(self.api_key) >= _SHORTEST_KEY:
            for written in (self.api_key, json.dumps(self.api_key)[1:-1], self.api_key.replace("/", r"\/")):
                text = text.replace(written, "***")
        return text


def identity(server: ModelServer) -> str:
    """What names the model in ledger keys and store folders.

    A catalogue name or a GGUF file's with 8 digits of its hash, or the name that the endpoint knows it by. Raises
    ModelError for a name that is not in the catalogue.
    """
    if server.base_url:
        return server.model
    if server.model.endswith(".gguf"):
        stat = _gguf(server.model).stat()
        return f"{Path(server.model).stem}@{_hash(server.model, stat.st_size, stat.st_mtime_ns)[:8]}"
    return f"{server.model}@{catalogue.find(server.model).sha256[:8]}"


def at_once(server: ModelServer) -> int:
    """How many requests all its endpoints together work on at most."""
    return server.concurrency * len(server.base_url) if server.base_url else min(server.concurrency, _MOST_SLOTS)


@contextlib.contextmanager
def open_endpoints(server: ModelServer, progress: Progress) -> Generator[list[Endpoint]]:
    """The endpoints of `server`. Without a `base_url` the model is fetched and served until the block ends.

    Raises ModelError when it cannot be fetched or served, or its key is not set.
    """
    if server.base_url:
        yield [_remote(server, url) for url in server.base_url]
        return
    path = gguf_file(server.model, progress)
    slots = at_once(server)
    with gguf_server.serve(path, slots=slots, progress=progress) as local:
        yield [
            Endpoint(
                base_url=local.base_url,
                model=server.model,
                api_key=local.token,
                concurrency=slots,
                timeout_s=server.timeout_s,
                context_tokens=gguf_server.CONTEXT_TOKENS,
                ended=local.ended,
            )
        ]


def gguf_file(model: str, progress: Progress) -> Path:
    """The file of a model that tilth serves itself, by its path or its catalogue name (fetched). Raises ModelError."""
    return _gguf(model) if model.endswith(".gguf") else catalogue.fetch(model, progress)


def _gguf(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise ModelError("there is no such file", where=name, fix="name a GGUF file that is there")
    return path


@functools.lru_cache
def _hash(path: str, _size: int, _mtime_ns: int) -> str:
    """A gigabyte takes a second."""
    return file_sha256(Path(path))


def _remote(server: ModelServer, url: str) -> Endpoint:
    withhold([server.api_key_env])  # a recipe may name another than the configuration
    key = os.environ.get(server.api_key_env, "").strip()
    if not (key.isascii() and key.isprintable()):
        what = f"the environment variable {server.api_key_env!r} holds no key: it has signs that no header may have"
        raise ModelError(what, where=url, fix="set it anew")
    endpoint = Endpoint(url, server.model, key, server.concurrency, server.timeout_s)
    if not key and not endpoint.is_loopback:
        what = f"the environment variable {server.api_key_env!r} with the endpoint's key is not set"
        raise ModelError(what, where=url, fix="set it (to any text if the endpoint asks for none)")
    return endpoint
