"""What a cycle's training is told of the cycles before it: the replay buffer of the release that it starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..core.errors import DataError
from ..core.fingerprint import file_sha256
from ..core.held_out import leak_finder
from ..core.records import Sample
from ..core.workspace import Workspace
from ..train.replay_buffer import BUFFER_NAME, Past, read_entries
from .journal import TRAIN, cycle_folder
from .open_cycle import OpenCycle
from .releases import Release


def replay_buffer(workspace: Workspace, release: int) -> Path:
    """Where the buffer of a release stands; it is written before the release is and never changed."""
    return workspace.replay / f"{release:04}.jsonl"


def read_past(workspace: Workspace, start: Release | None, number: int) -> Past:
    """What cycle `number` starts with. Raises DataError."""
    if start is None:
        return Past({}, number)
    return Past(read_entries(_whole_buffer(workspace, start)), number, start.cycle)


def _whole_buffer(workspace: Workspace, release: Release) -> Path:
    """The buffer of a release, or where it is cut or lost the same in its cycle's folder. Raises DataError."""
    path = replay_buffer(workspace, release.number)
    copy = cycle_folder(workspace, release.cycle) / TRAIN / BUFFER_NAME
    there = [file for file in (path, copy) if file.is_file()]
    whole = next((file for file in there if file_sha256(file) == release.replay_sha256), None)
    if release.replay_sha256 and whole is None:
        fix = "restore it, or roll back to another release: by it is drawn what is replayed"
        raise DataError("not the replay buffer that was written", where=str(path), fix=fix)
    return whole or path


def past_of(cycle: OpenCycle) -> Past:
    """The same for an open cycle. No answer that a model gave itself is trained that has a held-out question in it."""
    leaks_in = leak_finder([*cycle.questions, *cycle.general, *cycle.choosing])
    known = read_past(cycle.workspace, cycle.basis.start, cycle.inputs.number)

    def may_train(sample: Sample) -> bool:
        return not leaks_in(sample)

    return replace(known, may_train=may_train)
