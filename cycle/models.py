"""What the argument MODEL of a command names: `base`, a release, the teacher, a folder, a GGUF file or an endpoint.

And what such models are asked with.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from ..core.config import Config, ModelServer
from ..core.errors import ModelError, closest
from ..core.progress import Progress
from ..core.workspace import Workspace
from ..eval.answering import Answering
from ..llm import catalogue
from ..llm.endpoint import gguf_file
from ..llm.models import Endpoint, Folder, Gguf, Model
from ..llm.student import student_folder, with_home
from .releases import current_release, find_release, model_folder, releases, system_prompt_of

FORMS = (
    "base, teacher, a release's number, a folder of safetensors, OWNER/NAME on the Hugging Face hub, a .gguf file, or "
    "http://HOST:PORT/v1#MODEL"
)
"""What may be written, for help and errors."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def find_model(workspace: Workspace, name: str, progress: Progress) -> Model:
    """The model of that name; an embedded one is fetched first. Raises TilthError, in one line, where there is none."""
    system_prompt = workspace.config.student.system_prompt
    if name == "base":
        return Folder(name, student_folder(workspace.config.student.model, progress), system_prompt)
    if name == "teacher":
        return _teacher(workspace.config.teacher, progress)
    if name.isdecimal() and len(name) < 10:
        release = find_release(workspace, int(name))
        return Folder(release.name, model_folder(workspace, release), system_prompt_of(workspace, release))
    if "://" in name:
        return _endpoint(workspace.config, name)
    if found := _at_path(with_home(name), name, system_prompt) if name else None:
        return found
    if name in catalogue.catalogue() or _is_hub_name(name):
        return Folder(name, student_folder(name, progress), system_prompt)
    raise _unknown(workspace, name)


def answering(workspace: Workspace, progress: Progress) -> Answering:
    """What models of a workspace are asked with: its settings, and what it knows of their answers."""
    return Answering(workspace.config, workspace.state / "answers", workspace.ledger, progress)


def default_model(workspace: Workspace) -> str:
    """The name of the model that is meant where none is named: the current release, else `base`."""
    release = current_release(workspace)
    return str(release.number) if release else "base"


def _teacher(server: ModelServer, progress: Progress) -> Model:
    if server.base_url:
        return Endpoint("teacher", server)
    return Gguf("teacher", gguf_file(server.model, progress))


def _endpoint(config: Config, name: str) -> Endpoint:
    """`URL#MODEL`; with the key, the limits and the prices of the teacher or the judge where it is their URL."""
    url, _, model = name.partition("#")
    try:
        parts = urlsplit(url)
        right = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.username
        _ = parts.port  # raises for one that is none
    except ValueError:
        right = False
    if not right or not model:
        what = "this is no endpoint" if not right else "the endpoint's model is missing"
        raise ModelError(what, where=repr(name), fix="write it like http://127.0.0.1:8000/v1#MODEL")
    servers = [server for server in (config.teacher, config.judge) if server]
    known = (server for server in servers if _plain(url) in map(_plain, server.base_url))
    settings = next(known, ModelServer())
    return Endpoint(name, settings.model_copy(update={"model": model, "base_url": (url,)}))


def _plain(url: str) -> tuple[str, str, str]:
    """The address however it is spelled."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower(), parts.path.rstrip("/")


def _at_path(path: Path, name: str, system_prompt: str) -> Model | None:
    if path.is_dir():
        return Folder(name, _with_safetensors(path.resolve()), system_prompt)
    if path.suffix.lower() == ".gguf" or path.is_file():
        return Gguf(name, _whole_gguf(path.resolve()), system_prompt)
    return None


def _with_safetensors(folder: Path) -> Path:
    if not any(folder.glob("*.safetensors")):
        if any(file for pattern in _PICKLES for file in folder.glob(pattern)):
            fix = "convert them to safetensors: pickled weights can run code, and are never loaded"
            raise ModelError("the weights here are pickled", where=str(folder), fix=fix)
        fix = "name the folder of a Hugging Face model"
        raise ModelError("no *.safetensors here", where=str(folder), fix=fix)
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        what = "this is an adapter without its model" if adapter else "the folder has no config.json"
        fix = "merge it into its model first" if adapter else "name the folder of a Hugging Face model"
        raise ModelError(what, where=str(folder), fix=fix)
    return folder


def _whole_gguf(path: Path) -> Path:
    if not path.is_file():
        raise ModelError("there is no such file", where=str(path), fix="name a .gguf file that is there")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            fix = "name a .gguf file, or the folder of a model's safetensors"
            raise ModelError("this is no GGUF file", where=str(path), fix=fix)
    return path


def _is_hub_name(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith(("/", ".", "~")) and not name.endswith("/")


def _unknown(workspace: Workspace, name: str) -> ModelError:
    close = closest(name, ["base", "teacher", *(str(release.number) for release in releases(workspace))])
    hint = f"did you mean {close!r}? Else " if close else ""
    return ModelError(f"there is no model {name!r}", fix=f"{hint}write {FORMS}")
