"""The environment of child processes: a key stays in the process that sends it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable

_keys = {
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
}
"""The variables that hold our keys: the hub's, those of `train.report_to` (our own process reports), and those that a
configuration or an option names."""


def withhold(names: Iterable[str]) -> None:
    """From now on no child process gets these variables."""
    _keys.update(name for name in names if name)


def for_children() -> dict[str, str]:
    """Our environment without the keys: what every child process is started with."""
    return {name: value for name, value in os.environ.items() if name not in _keys}


def emptied() -> dict[str, str]:
    """The keys' variables, empty: for whoever can only be told what to put over our environment."""
    return dict.fromkeys(_keys & os.environ.keys(), "")


@contextlib.contextmanager
def keys_away() -> Generator[None]:
    """Inside the block our own environment has no keys: for a library that gives all of it to what it starts."""
    away = {name: os.environ.pop(name) for name in _keys & os.environ.keys()}
    try:
        yield
    finally:
        os.environ.update(away)
