"""What may be deleted to free disk: old releases' models, what refused and abandoned cycles trained, old training data.

That data is a choice of what the store has, and nothing reads it once its cycle is finished. Records, reports, cards,
samples and replay buffers stay, so that lineage and scores of a pruned release can still be told. A release is marked
as pruned before the first of its files goes, and a cycle's folders are renamed before they are deleted: a prune that is
killed leaves nothing that could be taken for a model, and the next one deletes the rest. It works on a full disk:
cycles go first, which takes no room, and a release's mark is an empty file.
"""

from __future__ import annotations

import filecmp
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..core.atomic import fsync
from ..core.errors import TilthError
from ..core.progress import Progress
from ..core.workspace import Workspace
from ..train.memory import gigabytes
from ..train.mix import DATA_NAME, VALIDATION_NAME
from ..train.replay_buffer import BUFFER_NAME
from . import journal
from .cards import MODEL_CARD
from .journal import TRAIN, cycle_folder
from .past import replay_buffer
from .releases import PRUNED, current_release, is_pruned, pinned, release_folder, release_numbers

_ASIDE = ".pruned-"


@dataclass(frozen=True)
class Prunable:
    """Files and folders that nothing needs any more."""

    name: str
    """Such as `model of release 1`."""
    paths: tuple[Path, ...]
    release: int = 0
    """Whose model it is; 0: a cycle's."""


def prunable(workspace: Workspace, keep: int | None) -> list[Prunable]:
    """What `prune` would delete with the newest `keep` releases kept (None: all are): of cycles, then of releases.

    Never the model of the current release, of a pinned one, or of one from which a cycle started that may yet become
    a release; nor anything of such a cycle. Raises TilthError.
    """
    if keep is not None and keep < 1:
        raise TilthError(f"{keep} releases cannot be kept", fix="keep 1 or more")
    return [*_cycles(workspace), *_releases(workspace, keep)]


def prune(workspace: Workspace, found: Iterable[Prunable]) -> None:
    """Delete what `prunable` found. Only for who has held the workspace's lock since then. Raises OSError."""
    for each in found:
        if each.release and not is_pruned(workspace, each.release):
            folder = release_folder(workspace, each.release)
            (folder / PRUNED).touch(exist_ok=False)
            fsync(folder)
        for path in each.paths:
            _delete(path)


def prune_older(workspace: Workspace, keep: int, progress: Progress) -> None:
    """Find it, delete it and say what went. Only for who holds the workspace's lock. Raises as `prunable`, `prune`."""
    found = prunable(workspace, keep)
    freed = gigabytes(freed_bytes(found))
    prune(workspace, found)
    if found:
        progress.say(f"pruned by `releases.keep: {keep}`: {', '.join(each.name for each in found)}; freed {freed}")


def freed_bytes(found: Iterable[Prunable]) -> int:
    """What deleting all of it frees: of a file with several names nothing, unless all of them are among it."""
    names = Counter[tuple[int, int]]()
    freed = 0
    for file in (file for each in found for path in each.paths for file in _files(path)):
        status = file.lstat()
        names[status.st_dev, status.st_ino] += 1
        if names[status.st_dev, status.st_ino] == status.st_nlink:
            freed += status.st_size
    return freed


def _releases(workspace: Workspace, keep: int | None) -> Iterator[Prunable]:
    known, needed = release_numbers(workspace), _needed(workspace)
    old = set(known[:-keep]) - needed if keep else set[int]()
    for number in known:
        gone = is_pruned(workspace, number)
        paths = _model_files(workspace, number) if gone or number in old else ()
        if paths:
            rest = "rest of the " if gone else ""
            yield Prunable(f"{rest}model of release {number}", paths, number)


def _needed(workspace: Workspace) -> set[int]:
    """The releases that may not be pruned, however old they are."""
    current = current_release(workspace)
    starts = {journal.find_cycle(workspace, number).parent for number in _unsettled(workspace)}
    return starts | pinned(workspace) | ({current.number} if current else set())


def _model_files(workspace: Workspace, number: int) -> tuple[Path, ...]:
    """All that stands in a release's model's folder but the card."""
    card = release_folder(workspace, number) / MODEL_CARD
    return tuple(sorted(path for path in card.parent.glob("*") if path != card))


def _cycles(workspace: Workspace) -> Iterator[Prunable]:
    numbers = journal.cycle_numbers(workspace)
    for number in sorted({*numbers[:-1]} - {*_unsettled(workspace)}):
        end, found = journal.done(workspace, number), sorted((cycle_folder(workspace, number) / TRAIN).glob("*/*"))
        paths = tuple(path for path in found if path.is_dir() and _is_trained(path.name))
        if paths and not (end and end.release):
            yield Prunable(f"models of cycle {number} ({end.outcome if end else 'abandoned'})", paths)
        data = tuple(path for path in found if path.name in {DATA_NAME, VALIDATION_NAME})
        data += _copies(workspace, number, end.release) if end and end.release else ()
        if end and data:
            yield Prunable(f"training data of cycle {number}", data)


def _copies(workspace: Workspace, cycle: int, release: int) -> tuple[Path, ...]:
    """The cycle's replay buffer, where it is the same as its release's; the current release keeps both."""
    copy, current = cycle_folder(workspace, cycle) / TRAIN / BUFFER_NAME, current_release(workspace)
    if not copy.is_file() or (current and current.number == release):
        return ()
    kept = replay_buffer(workspace, release)
    return (copy,) if kept.is_file() and filecmp.cmp(kept, copy, shallow=False) else ()


def _is_trained(name: str) -> bool:
    """Whether a folder of a phase's holds models or checkpoints, or what a killed prune left of them."""
    return name.startswith(("model", "checkpoints", _ASIDE))


def _unsettled(workspace: Workspace) -> list[int]:
    """The cycles that may yet become a release: the newest, and those that passed since the current one was made."""
    current = current_release(workspace)
    found: list[int] = []
    for place, number in enumerate(reversed(journal.cycle_numbers(workspace))):
        end = journal.done(workspace, number)
        passed = end and end.outcome == "judged" and not (current and number < current.cycle)
        if passed or (place == 0 and not (end and end.release)):
            found.append(number)
    return found


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        aside = path if path.name.startswith(_ASIDE) else path.with_name(_ASIDE + path.name)
        path.rename(aside)
        shutil.rmtree(aside)
    else:
        path.unlink()


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or all that are in the folder."""
    found = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return (file for file in found if file.is_symlink() or not file.is_dir())
