"""What the data engine is given of a workspace, the student as it came and as the current release among it."""

from __future__ import annotations

import functools

from ..core.config import ModelServer
from ..core.progress import Progress
from ..core.workspace import Workspace
from ..eval.model_fingerprint import hashes_file, model_fingerprint
from ..llm.catalogue import catalogue
from ..llm.endpoint import identity
from ..llm.local_gateway import LocalModel
from ..llm.student import student_folder
from ..sdg.generate import Setup
from ..sdg.others import Students
from ..taxonomy.source import Source
from .basis import documents_cache
from .releases import Release, model_folder, system_prompt_of


def setup_of(workspace: Workspace, source: Source, parent: Release | None, progress: Progress) -> Setup:
    """For leaves of this source; `parent` is the release that training starts from."""
    return Setup(
        source=source,
        config=workspace.config,
        store=workspace.store,
        ledger=workspace.ledger,
        documents=documents_cache(workspace),
        students=students(workspace, parent, progress),
    )


def students(workspace: Workspace, parent: Release | None, progress: Progress) -> Students:
    """Both of them, under the names that stand for their weights. Nothing is fetched or read before it is asked for."""
    settings = workspace.config.student
    folder = functools.partial(student_folder, settings.model, progress)

    def base() -> LocalModel:
        if settings.model in catalogue():
            return LocalModel(identity(ModelServer(model=settings.model)), folder, settings.system_prompt)
        weights = model_fingerprint(folder(), hashes_file(workspace.state / "answers"))
        name = settings.model.rstrip("/").rsplit("/", 1)[-1]  # no path of this machine goes into a dataset
        return LocalModel(f"{name}@{weights[:8]}", folder, settings.system_prompt)

    def current() -> LocalModel:
        if parent is None:
            return base()
        asked_with = system_prompt_of(workspace, parent)
        name = f"release-{parent.number}@{parent.weights_sha256[:8]}"
        return LocalModel(name, functools.partial(model_folder, workspace, parent), asked_with)

    return Students(base, current)
