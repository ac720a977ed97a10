"""The Hugging Face hub, through its own package: files of the catalogue, students that the user names, datasets.

That package retries an unreachable hub for 23 seconds (measured); so every use asks first, once, within `_REACH_S`.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.config import Section
from ..core.errors import ModelError, TilthError
from ..core.progress import Task
from .quiet import quiet_hub

_REACH_S = 2.5
_STUDENT_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt"]
"""Weights as safetensors only, and no code."""
_NOT_OF_STUDENTS = ["consolidated*"]
"""The same weights once more, under other names (Mistral)."""
_TOKEN_ENV = "HF_TOKEN"  # noqa: S105  a name
_INSTALL = "run `pip install huggingface_hub`"
_NETWORK = "check the network, then run the same command again"


class HubSource(Section):
    """One file of a repository of the hub."""

    hub: str
    file: str

    @property
    def name(self) -> str:
        """How messages call it."""
        return "the Hugging Face hub"

    def fetch(self, partial: Path, total_bytes: int, task: Task) -> None:
        """Put the file at `partial`; a download that was cut short goes on. Raises ModelError, OSError."""
        try:
            import huggingface_hub as hub
        except ImportError as error:
            what = "the package huggingface_hub is not installed"
            raise ModelError(what, where=self.hub, fix=_INSTALL) from error
        with quiet_hub():
            url = hub.hf_hub_url(self.hub, self.file)
            found = _within_reach(lambda: hub.get_hf_file_metadata(url, timeout=_REACH_S).size, self.hub)
            if found != total_bytes:
                what = f"{self.file} has {found} bytes there, not {total_bytes}"
                raise ModelError(what, where=self.hub, fix="use a newer tilth, which may know that file")
            folder = partial.with_suffix(".hub")
            bar: Any = _bar_class(task)
            try:
                path = hub.hf_hub_download(self.hub, self.file, local_dir=folder, tqdm_class=bar)
            except Exception as error:
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    raise
                what = f"the hub was lost while fetching ({_line(error)})"
                raise ModelError(what, where=self.hub, fix=_NETWORK) from error
        Path(path).replace(partial)
        shutil.rmtree(folder)


def download_student(repository: str) -> Path:
    """The folder of a model of the hub, from the hub's own cache when it cannot be reached. Raises ModelError."""
    try:
        import huggingface_hub as hub
    except ImportError as error:
        what = "the package huggingface_hub is not installed"
        raise ModelError(what, where=repository, fix=_INSTALL) from error
    with quiet_hub():
        try:
            _within_reach(lambda: hub.HfApi().model_info(repository, timeout=_REACH_S), repository)
            offline = False
        except _Unreachable:
            offline = True
        try:
            folder = hub.snapshot_download(
                repository,
                allow_patterns=_STUDENT_FILES,
                ignore_patterns=_NOT_OF_STUDENTS,
                local_files_only=offline,
            )
        except (OSError, hub.errors.HFValidationError) as error:
            fix = "check the network, or give the path of a model's folder"
            raise ModelError(f"cannot fetch this model ({_line(error)})", where=repository, fix=fix) from error
    return Path(folder)


def hub_token() -> str:
    """The token for writing, from the environment only. Raises TilthError when it is not set."""
    if token := os.environ.get(_TOKEN_ENV):
        return token
    fix = "make a token with write access in the hub's settings, and set it"
    raise TilthError(f"the environment variable {_TOKEN_ENV!r} with the hub's token is not set", fix=fix)


def upload_dataset(repository: str, folder: Path, token: str) -> str:
    """Put the files of a folder into a dataset of the hub in one commit, and return its address.

    It is made if it is not there, and then private. Raises ModelError when the hub cannot be reached or refuses.
    """
    try:
        import huggingface_hub as hub
    except ImportError as error:
        what = "the package huggingface_hub is not installed"
        raise ModelError(what, where=repository, fix=_INSTALL) from error
    with quiet_hub():
        client = hub.HfApi(token=token)
        _within_reach(client.whoami, repository)
        try:
            place = client.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
            client.upload_folder(
                repo_id=place.repo_id, folder_path=folder, repo_type="dataset", commit_message="tilth export-data"
            )
        except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
            fix = "check the name and what the token may do, then run the same command again"
            raise ModelError(f"cannot upload ({_line(error)})", where=repository, fix=fix) from error
    return str(place)


class _Unreachable(ModelError):
    """The hub does not answer."""


def _within_reach(ask: Callable[[], Any], where: str) -> Any:
    """What the hub answers to one small question. In a thread: a name server that hangs knows no time-out."""
    answers: list[Any] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as error:  # noqa: BLE001  whatever went wrong, the hub did not answer; told below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_REACH_S + 0.3)
    if answers:
        return answers[0]
    status = getattr(getattr(errors[0], "response", None), "status_code", None) if errors else None
    if status is not None:
        fix = f"check the name, and {_TOKEN_ENV} if it is private"
        raise ModelError(f"the Hugging Face hub refuses it (HTTP {status})", where=where, fix=fix)
    reason = _line(errors[0]) if errors else f"no answer within {_REACH_S} s"
    raise _Unreachable(f"the Hugging Face hub cannot be reached ({reason})", where=where, fix=_NETWORK)


def _bar_class(task: Task) -> type[Any]:
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        """Reports to our task and shows nothing itself."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"disable": True})
            task.advance(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            task.advance(n or 0)

    return Bar


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
