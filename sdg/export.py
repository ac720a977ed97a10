"""The samples of the store as a dataset for others: one folder with the data, its provenance, a card and the hashes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from .. import __version__
from ..core.atomic import new_folder, read_json, write_json, write_text
from ..core.errors import CheckFailed, DataError, TilthError
from ..core.fingerprint import file_sha256
from ..core.held_out import find_leaks
from ..core.records import Question, Record, Sample
from ..llm.ledger import Ledger
from ..llm.ledger_file import write_ledger_file
from ..taxonomy.attribution import ATTRIBUTION_NAME, read_works
from ..taxonomy.repository import git_output
from ..taxonomy.source import CommitTree
from .card import Facts, Part, card
from .formats import FORMATS, PROVENANCE, Exported, Format, provenance_row
from .generate import Planned
from .rebuild import basis_of
from .store import Entry, open_entry, read_manifest, read_preferences, read_samples, read_tests
from .tables import Put, jsonl_table, parquet_table

EXPORT, CARD, LEDGER = "export.json", "README.md", "ledger.jsonl.gz"


class Export(Record):
    """What an export holds (`export.json`, written last)."""

    format: str
    commit: str
    tilth: str
    samples: int
    samples_by_kind: Mapping[str, int]
    samples_by_leaf: Mapping[str, int]
    copies: int
    """Samples left out because another leaf has the same."""
    sha256: Mapping[str, str]
    """Of every other file."""


@dataclass(frozen=True)
class Selection:
    """What is to be exported, of the taxonomy at a commit."""

    root: Path
    """Of its repository."""
    source: CommitTree
    planned: Sequence[Planned]
    """All its leaves: none of their held-out questions may be in the export."""
    leaf: str = ""
    """Only leaves whose path contains this."""
    kind: str = ""
    """Only samples of this kind; empty: all that the format takes."""

    @property
    def chosen(self) -> list[Planned]:
        """The leaves that are wanted and that the store has."""
        return [each for each in self.planned if each.complete and self.leaf in each.leaf.id]


def export_data(selection: Selection, name: str, target: Path, *, ledger: Path | None = None) -> Export:
    """Write the samples in the format `name` to the folder `target`, whole or not at all; an older export is replaced.

    With `ledger` the answers that the samples rest on are in it. Equal stores give equal bytes. Raises CheckFailed when
    a held-out question stands in a sample, TilthError when there is nothing to export or `target` is something else,
    DataError.
    """
    target = target.resolve()
    _refuse_kind(selection.kind, FORMATS[name])
    _refuse_other(target)
    with new_folder(target) as folder:
        written, names = _write_data(selection, FORMATS[name], folder)
        if not written.ids:
            what = (
                "pairs" if FORMATS[name].pairs else f"samples of the kind {selection.kind!r}" if selection.kind else ""
            )
            raise TilthError(f"there are no {what or 'samples'} to export", fix="`tilth samples` shows what there is")
        if ledger:
            _write_ledger(selection, ledger, folder / LEDGER)
        write_text(folder / CARD, card(_facts(selection, name, written, names, LEDGER if ledger else "")))
        export = _export(selection, name, written, folder)
        write_json(folder / EXPORT, export.model_dump(mode="json"))
    return export


def _refuse_kind(kind: str, format_: Format) -> None:
    """Raise TilthError for a kind that the format never has."""
    if kind == "test":
        what = "held-out questions are for no training, and are not exported"
        raise TilthError(what, where="--kind", fix="leave --kind out")
    if kind and (kind == "preference") != format_.pairs:
        fix = "use --format preference" if kind == "preference" else "leave --kind out"
        raise TilthError(f"the format has no samples of the kind {kind!r}", where="--kind", fix=fix)


def _refuse_other(target: Path) -> None:
    """Raise TilthError when something else than an export, or more than one, is at `target`."""
    fix = "name a new folder, or move it away"
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        export = Export.model_validate(read_json(target / EXPORT))
    except (DataError, ValidationError, OSError) as error:
        what = "there is something here already that is no export"
        raise TilthError(what, where=str(target), fix=fix) from error
    for path in sorted(target.iterdir()):
        if path.name not in {EXPORT, *export.sha256}:
            what = f"{path.name!r} is beside an export here, and would be lost"
            raise TilthError(what, where=str(target), fix=fix)


@dataclass
class _Written:
    """What is in the data."""

    by_kind: Counter[str] = field(default_factory=Counter[str])
    by_leaf: Counter[str] = field(default_factory=Counter[str])
    by_author: Counter[str] = field(default_factory=Counter[str])
    ids: set[str] = field(default_factory=set[str])
    copies: int = 0

    def takes(self, sample: Exported, leaf: str) -> bool:
        """Count a sample of a leaf; whether it is to be written."""
        if sample.id in self.ids:
            self.copies += 1
            return False
        self.ids.add(sample.id)
        self.by_kind[sample.kind] += 1
        self.by_leaf[leaf] += 1
        self.by_author[sample.source.teacher] += 1
        return True


def _write_data(selection: Selection, format_: Format, folder: Path) -> tuple[_Written, tuple[str, str]]:
    """Write the data and its provenance; returns what is in it, and the names of both files."""
    written, suffix = _Written(), "parquet" if format_.parquet else "jsonl"
    names = f"train.{suffix}", f"provenance.{suffix}"
    with _tables(folder, names, format_) as (put, put_provenance):

        def pass_on() -> Iterator[Sample]:
            for leaf, sample in _samples(selection, pairs=format_.pairs):
                if written.takes(sample, leaf):
                    put(format_.row(sample, leaf))
                    put_provenance(provenance_row(sample))
                    yield _conversation(sample)

        # In one pass, for a large store is read for long. Where a leak is found the whole folder goes.
        likeness = next((each.recipe.likeness for each in selection.planned), None)
        leaks = find_leaks(_held_out(selection), pass_on(), likeness)
    if leaks:
        what = f"held-out questions stand in {len({leak.sample_id for leak in leaks}):,} samples"
        fix = f"see sample {leaks[0].sample_id} and question {leaks[0].question_id}, and reword or remove one of them"
        raise CheckFailed(what, fix=fix)
    return written, names


@contextlib.contextmanager
def _tables(folder: Path, names: tuple[str, str], format_: Format) -> Generator[tuple[Put, Put]]:
    with contextlib.ExitStack() as stack:
        data, provenance = (
            stack.enter_context(
                parquet_table(folder / name, columns) if format_.parquet else jsonl_table(folder / name)
            )
            for name, columns in zip(names, (format_.columns, PROVENANCE), strict=True)
        )
        yield data, provenance


def _samples(selection: Selection, *, pairs: bool) -> Iterator[tuple[str, Exported]]:
    """What is to be written, with its leaf, leaf by leaf; a store need not fit the memory."""
    for entry in _entries(selection.chosen):
        for sample in read_preferences(entry) if pairs else read_samples(entry):
            if selection.kind in {"", sample.kind}:
                yield entry.leaf, sample


def _conversation(sample: Exported) -> Sample:
    """All that is said in it."""
    if isinstance(sample, Sample):
        return sample
    said = (*sample.prompt, *sample.chosen, *sample.rejected)
    return Sample(id=sample.id, kind=sample.kind, messages=said, source=sample.source)


def _held_out(selection: Selection) -> list[Question]:
    """What no sample may hold: the questions of all leaves, those that people wrote and those of the store."""
    written = [question for each in selection.planned for question in each.leaf.questions]
    made = [test for entry in _entries(selection.planned) for test in read_tests(entry)]
    return written + made


def _entries(planned: Sequence[Planned]) -> list[Entry]:
    return [open_entry(each.folder, each.leaf.id, reused=True) for each in planned if each.complete]


def _write_ledger(selection: Selection, ledger_path: Path, path: Path) -> None:
    with Ledger(ledger_path, reading=True) as ledger:
        basis = basis_of(_entries(selection.chosen), ledger)
        write_ledger_file(path, ledger, basis.keys, [origin.model_dump(mode="json") for origin in basis.origins])


def _facts(selection: Selection, name: str, written: _Written, names: tuple[str, str], ledger: str) -> Facts:
    files = frozenset(selection.source.files())
    chosen = [planned for planned in selection.chosen if written.by_leaf[planned.leaf.id]]
    parts = [_part(selection.source, files, planned, written) for planned in chosen]
    used = {part.manifest.commit for part in parts}
    history = git_output(selection.root, "rev-list", "--topo-order", "--reverse", selection.source.commit)
    return Facts(
        format=name,
        leaf=selection.leaf,
        kind=selection.kind,
        columns=FORMATS[name].columns,
        files=names,
        commit=selection.source.commit,
        commits=[commit for commit in history.decode().split() if commit in used],
        parts=parts,
        samples_by_kind=written.by_kind,
        by_author=written.by_author,
        copies=written.copies,
        ledger=ledger,
    )


def _part(source: CommitTree, files: Set[str], planned: Planned, written: _Written) -> Part:
    path = f"{planned.leaf.id}/{ATTRIBUTION_NAME}"
    works = read_works(source.read(path)) if path in files else []
    return Part(planned, read_manifest(planned.folder), works, written.by_leaf[planned.leaf.id])


def _export(selection: Selection, name: str, written: _Written, folder: Path) -> Export:
    return Export(
        format=name,
        commit=selection.source.commit,
        tilth=__version__,
        samples=len(written.ids),
        samples_by_kind=written.by_kind,
        samples_by_leaf=written.by_leaf,
        copies=written.copies,
        sha256={path.name: file_sha256(path) for path in sorted(folder.iterdir())},
    )
