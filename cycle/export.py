"""A release as others take it: its folder as it is, one for the Hugging Face hub, a GGUF file, or one for Ollama.

Whatever the form, `release.json` goes along: what the release was made from, and how it scored.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

from ..core.atomic import new_folder
from ..core.errors import TilthError
from ..core.progress import Progress
from ..core.workspace import Workspace
from ..llm.gguf_write import NumberFormat, write_gguf
from .cards import told
from .modelfile import modelfile
from .releases import RELEASE, Release, find_release, model_folder, system_prompt_of, write_record
from .verify import check_model

Format = Literal["safetensors", "hub", "gguf", "ollama"]

_CARD = "README.md"


def export_release(
    workspace: Workspace,
    number: int,
    target: Path,
    progress: Progress,
    *,
    form: Format = "safetensors",
    numbers: NumberFormat = "f16",
) -> str:
    """Write a release to the new folder `target`, and return what one has to know about it; mostly nothing.

    `numbers` counts for GGUF only. Raises TilthError.
    """
    release = find_release(workspace, number)
    given = release.model_copy(update={"student": told(release.student), "plan": told(release.plan)})
    model, file = model_folder(workspace, release), f"release-{number}-{numbers}.gguf"
    _refuse_present(target)
    check_model(workspace, release)
    with new_folder(target) as new:
        _refuse_present(target)  # whoever exported to it first
        remark = ""
        if form in {"safetensors", "hub"}:
            _copy(model, new, target)
        else:
            write_gguf(model, new / file, numbers, name=release.name, progress=progress)
        if form == "ollama":
            text, remark = modelfile(model, file, system_prompt_of(workspace, release))
            (new / "Modelfile").write_text(text, encoding="utf-8")
        if form == "hub" and not (new / _CARD).exists():
            (new / _CARD).write_text(_least_card(given), encoding="utf-8")
        write_record(given, new)
    return remark


def _refuse_present(target: Path) -> None:
    if target.exists():
        raise TilthError("there is something here already", where=str(target), fix="name a folder that does not exist")


def _copy(model: Path, new: Path, target: Path) -> None:
    """The files alone: those of a release are read-only."""
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        copied = new / path.relative_to(model)
        copied.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, copied)
        except OSError as error:  # names the file that is read, though it is the other place that is full
            raise OSError(error.errno, error.strerror, str(target)) from error


def _least_card(release: Release) -> str:
    """What the hub asks for at least: releases of older versions came without a card."""
    head = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["tilth"]}
    lines = [f"{key}: {json.dumps(value)}" for key, value in head.items()]
    said = f"Grown from `{release.student}` by tilth {release.tilth}; `{RELEASE}` tells its data, plan and scores."
    return "\n".join(["---", *lines, "---", "", f"# {release.name.capitalize()}", "", said, ""])
