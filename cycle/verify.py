"""Whether releases are still what was written: every hash that their records hold, computed again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from ..core.errors import DataError, ModelError
from ..core.fingerprint import file_sha256
from ..core.progress import Progress
from ..core.records import Record
from ..core.workspace import Workspace, numbered
from ..sdg.store import PREFERENCES, SAMPLES
from ..train.load import weights_sha256
from .cards import MODEL_CARD
from .past import replay_buffer
from .releases import PRUNED, RELEASE, Release, find_release, is_as_written, is_pruned, read_release, release_folder

_Sha256Of = Callable[[Path], str]
"""Of a file; empty where there is none."""

_MODEL_FIX = "restore it from an export, or roll back to another release"
_RECORD_FIX = "restore it: what it tells of scores and lineage cannot be relied on"
_EXTRA_FIX = "remove it: it is no part of the release"
_REST_FIX = "`tilth releases prune --yes` deletes what a stopped one left"
_SAMPLES_FIX = (
    "it holds samples of {leaf}: restore it, or remove its folder and have `tilth generate` make new ones from the "
    "ledger; the release works without"
)
_BUFFER_FIX = "restore it: the next cycle draws by it what is replayed"


class Fault(Record):
    """One thing that is not as it was written."""

    where: str
    """Under the workspace's root."""
    what: str
    fix: str


class Verified(Record):
    """A release and what is wrong with it."""

    release: int
    pruned: bool
    files: int
    """How many were compared: its own, those of its samples, its replay buffer."""
    listed: bool
    """Whether its record has the hash of each file; older ones have that of the weights alone."""
    faults: tuple[Fault, ...]


def verify(workspace: Workspace, numbers: Sequence[int], progress: Progress) -> list[Verified]:
    """Check releases of those numbers, or all. Nothing is written. Raises TilthError for one that there is not."""
    for number in numbers:
        if not release_folder(workspace, number).is_dir():
            find_release(workspace, number)  # says which there are
    with progress.task("verify", total=None, unit="bytes") as task:

        @functools.cache  # releases share most of their samples
        def sha256_of(path: Path) -> str:
            if not path.is_file():
                return ""
            sha256 = file_sha256(path)
            task.advance(path.stat().st_size)
            return sha256

        return [_verify(workspace, number, sha256_of) for number in numbers or _all(workspace)]


def check_model(workspace: Workspace, release: Release) -> None:
    """Raise DataError where a release has not the model that was written: nothing may start from it or be compared."""
    folder = release_folder(workspace, release.number)
    part = Path(MODEL_CARD).parent
    model = {
        name: sha256 for name, sha256 in release.files.items() if part in Path(name).parents and name != MODEL_CARD
    }
    for name, sha256 in model.items():
        if not (folder / name).is_file() or file_sha256(folder / name) != sha256:
            raise DataError("not the file that was written", where=str(folder / name), fix=_MODEL_FIX)
    for fault in () if model else _weights(workspace, release, file_sha256):
        raise DataError(fault.what, where=str(workspace.root / fault.where), fix=fault.fix)


def _all(workspace: Workspace) -> list[int]:
    """By their folders: the record of one may be what is gone."""
    return numbered(workspace.releases)


def _verify(workspace: Workspace, number: int, sha256_of: _Sha256Of) -> Verified:
    folder, gone = release_folder(workspace, number), is_pruned(workspace, number)
    try:
        release = read_release(folder)
    except DataError as error:
        fault = Fault(where=_shown(Path(error.where), workspace), what=error.what, fix=error.fix)
        return Verified(release=number, pruned=gone, files=0, listed=False, faults=(fault,))
    expected = _expected(workspace, release, pruned=gone)
    faults = [
        Fault(where=_shown(path, workspace), what="changed" if found else "missing", fix=fix)
        for path, (sha256, fix) in expected.items()
        if (found := sha256_of(path)) != sha256
    ]
    if not is_as_written(folder):
        faults.append(Fault(where=_shown(folder / RELEASE, workspace), what="changed", fix=_RECORD_FIX))
    faults += _extra(workspace, release, expected.keys())
    whole = all(sha256_of(path) == sha256 for path, (sha256, _) in expected.items() if folder in path.parents)
    if whole and not gone:
        faults += _weights(workspace, release, sha256_of)
    listed = bool(release.files)
    return Verified(release=number, pruned=gone, files=len(expected), listed=listed, faults=tuple(faults))


def _expected(workspace: Workspace, release: Release, *, pruned: bool) -> dict[Path, tuple[str, str]]:
    """Each file that has to be there, with its SHA-256 and what to do where it is another."""
    folder = release_folder(workspace, release.number)
    expected = {folder / name: (sha256, _MODEL_FIX) for name, sha256 in release.files.items()}
    if pruned:
        card = folder / MODEL_CARD
        expected = {path: known for path, known in expected.items() if path == card or card.parent not in path.parents}
    for dataset in release.datasets:
        entry, fix = workspace.store / dataset.entry, _SAMPLES_FIX.format(leaf=dataset.leaf)
        expected[entry / SAMPLES] = dataset.sha256, fix
        if dataset.preferences_sha256:
            expected[entry / PREFERENCES] = dataset.preferences_sha256, fix
    if release.replay_sha256:
        expected[replay_buffer(workspace, release.number)] = release.replay_sha256, _BUFFER_FIX
    return expected


def _extra(workspace: Workspace, release: Release, expected: Collection[Path]) -> Iterator[Fault]:
    """Files beside those that the release is made of; nobody knows them of one whose record lists no files."""
    folder = release_folder(workspace, release.number)
    own = {folder / RELEASE, folder / PRUNED, *expected}
    for path in sorted(folder.rglob("*")) if release.files else ():
        if path.is_file() and path not in own:
            left = path.relative_to(folder).as_posix() in release.files
            what, fix = ("not deleted yet", _REST_FIX) if left else ("extra", _EXTRA_FIX)
            yield Fault(where=_shown(path, workspace), what=what, fix=fix)


def _weights(workspace: Workspace, release: Release, sha256_of: _Sha256Of) -> Iterator[Fault]:
    """The hash of all weights in one: all that older records have of the model."""
    model = (release_folder(workspace, release.number) / MODEL_CARD).parent
    try:
        same = weights_sha256(model, sha256_of) == release.weights_sha256
    except ModelError as error:
        yield Fault(where=_shown(model, workspace), what=error.what, fix=_MODEL_FIX)
        return
    if not same:
        yield Fault(where=_shown(model, workspace), what="its weights are not those of the record", fix=_MODEL_FIX)


def _shown(path: Path, workspace: Workspace) -> str:
    return path.relative_to(workspace.root).as_posix() if path.is_relative_to(workspace.root) else str(path)
