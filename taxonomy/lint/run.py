"""Linting: the reports on all files, from the cache or made here or by workers, then what shows only between files."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from ...core.config import Config
from ...core.errors import TaxonomyError
from ...core.fingerprint import fingerprint
from ..schema import QNA_NAME
from ..source import Source, TooLarge, as_listed
from ..tree import leaf_ids, leaf_ids_under
from .cache import Facts, open_facts
from .finding import Fault, Finding
from .near_copies import Copy, near_copies
from .report import Report, report, report_from_json
from .surroundings import Surroundings, misplaced, no_plain_files, odd_folders

_WORTH_A_WORKER = 500
"""Files that one worker should have to read at least: fewer are read before it has started."""
_BATCH = 100
_LOOK_FOR_PARENT_S = 0.5
_LARGE_BYTES = 1 << 20
"""Larger files are judged as they are read, so that never two of them are held at once."""


def lint(
    source: Source,
    paths: Sequence[str] = (),
    config: Config | None = None,
    *,
    cache_file: Path | None = None,
    mirrors: Path | None = None,
    workers: int | None = None,
) -> list[Finding]:
    """The findings by place, in all leaves and misplaced files, or in those that `paths` from the root name.

    `cache_file` keeps what was found out between runs. `mirrors` is where other repositories are on this machine, if
    they are; none is asked. `workers` is how many processes read files (None: as many as are worth it).

    Raises TaxonomyError for a path that names none of them, never for what is in one.
    """
    strays = [*misplaced(source.files(), leaf_ids(source)), *no_plain_files(source.files(), source.others())]
    wanted = leaf_ids_under(source, paths, strays=[stray.path for stray in strays]) if paths else leaf_ids(source)
    blob_ids = source.blob_ids() if cache_file else {}
    with _no_collection(), open_facts(cache_file) as facts:
        reports = _reports(source, wanted, blob_ids, facts, workers)
        around = Surroundings(source, blob_ids, config or Config(), facts, mirrors)
        findings = [fault.at(f"{leaf_id}/{QNA_NAME}") for leaf_id, found in reports.items() for fault in found.faults]
        for leaf_id, found in reports.items():
            findings += around.findings(leaf_id, found)
        findings += odd_folders(wanted)
        # Those of all are worth keeping.
        findings += _near_copies(source, reports, blob_ids, Facts({}) if paths else facts)
        named = set(paths) or {"."}
        findings += [stray for stray in strays if _is_below(stray.path, named)]
        if not paths:
            facts.forget_others()
    return sorted(findings, key=lambda finding: (finding.path, finding.line, finding.column, finding.code))


@contextlib.contextmanager
def _no_collection() -> Generator[None]:
    """Let Python not look for cycles: linting leaves none behind, and looking takes some percent of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _is_below(path: str, folders: Set[str]) -> bool:
    parts = path.split("/")
    return "." in folders or any("/".join(parts[:depth]) in folders for depth in range(1, len(parts) + 1))


def _reports(
    source: Source, ids: Sequence[str], blob_ids: Mapping[str, str], facts: Facts, workers: int | None
) -> dict[str, Report]:
    """Leaf id -> the report on its `qna.yaml`."""
    reports: dict[str, Report] = {}
    unread: list[_File] = []
    for leaf_id in ids:
        path = f"{leaf_id}/{QNA_NAME}"
        blob_id = blob_ids.get(path)
        key = f"qna:{_section(leaf_id)}:{blob_id}" if blob_id else ""
        if key and (kept := facts.get(key)) is not None:
            reports[leaf_id] = report_from_json(kept)
            continue
        try:
            data = source.read(path)
            file = _File(leaf_id, key if as_listed(source, [path]) else "", data)
        except TaxonomyError as error:
            code, fix = ("E114", f"; {error.fix}") if isinstance(error, TooLarge) else ("E112", "")
            reports[leaf_id] = Report([Fault(code, 1, 1, error.what + fix)])
            continue
        if len(file.data) > _LARGE_BYTES:
            reports[leaf_id] = _report(file)
        else:
            unread.append(file)
    for file, made in zip(unread, _made(unread, workers), strict=True):
        reports[file.leaf_id] = made
        if file.key:
            facts.put(file.key, made.to_json())
    return {leaf_id: reports[leaf_id] for leaf_id in ids}


class _File(NamedTuple):
    leaf_id: str
    key: str
    data: bytes


def _section(leaf_id: str) -> str:
    return leaf_id.split("/", 1)[0]


def _report(file: _File) -> Report:
    return report(file.data, _section(file.leaf_id))


def _made(files: Sequence[_File], workers: int | None) -> Iterator[Report]:
    """The report on each file, in their order."""
    if workers is None:
        workers = min(len(os.sched_getaffinity(0)), len(files) // _WORTH_A_WORKER)
    if workers < 2:
        yield from map(_report, files)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Forked, not spawned: linting is one thread, and the workers have everything imported at once.
    with ProcessPoolExecutor(workers, get_context("fork"), _begin_worker, (os.getpid(),)) as pool:
        yield from pool.map(_report, files, chunksize=_BATCH)


def _begin_worker(parent: int) -> None:
    """Leave signals to the parent, and end with it: one that is killed cannot tell its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_FOR_PARENT_S)
    os._exit(1)


def _near_copies(
    source: Source, reports: Mapping[str, Report], blob_ids: Mapping[str, str], facts: Facts
) -> list[Finding]:
    """The near copies among the passages of the leaves; kept as long as no leaf changes."""
    state = fingerprint([[leaf_id, blob_ids.get(f"{leaf_id}/{QNA_NAME}", "")] for leaf_id in reports])
    if blob_ids and (kept := facts.get("near")) and kept[0] == state:
        return [Fault(*fault).at(path) for path, fault in kept[1]]
    passages = ((f"{leaf_id}/{QNA_NAME}", passage) for leaf_id, found in reports.items() for passage in found.passages)
    found = list(_told(near_copies(passages)))
    if as_listed(source, (f"{leaf_id}/{QNA_NAME}" for leaf_id in reports)):
        facts.put("near", [state, found])
    return [fault.at(path) for path, fault in found]


def _told(copies: Iterable[Copy]) -> Iterator[tuple[str, Fault]]:
    """A fault for each copy in its own file, and one for all that a file has in common with another."""
    pairs: dict[tuple[str, str], list[Copy]] = {}
    for copy in copies:
        pairs.setdefault((copy.path, copy.first_path), []).append(copy)
    for (path, first_path), shared in pairs.items():
        for copy in shared if path == first_path else shared[:1]:
            where = f"line {copy.first.line}" if path == first_path else f"{first_path}:{copy.first.line}"
            more = f", and so are {len(shared) - 1} more with others there" if path != first_path and shared[1:] else ""
            what = f"this is nearly the same as {where}{more}; change or remove one of the two"
            yield path, Fault("W209", copy.passage.line, copy.passage.column, what)
