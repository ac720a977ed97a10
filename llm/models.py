"""What a model is to whoever uses one: a folder that is loaded here, a GGUF file that llama.cpp serves, or a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..core.config import ModelServer


@dataclass(frozen=True)
class Folder:
    """A Hugging Face folder with safetensors. `name` is how people call it."""

    name: str
    path: Path
    system_prompt: str = ""
    """Put before every conversation that has none of its own, as in training and evaluation."""


@dataclass(frozen=True)
class Gguf:
    """A GGUF file."""

    name: str
    path: Path
    system_prompt: str = ""


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible server of the user's."""

    name: str
    server: ModelServer
    """With its `base_url`."""


Model = Folder | Gguf | Endpoint
