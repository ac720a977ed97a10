"""What is wrong around a leaf's `qna.yaml`: its documents, its attribution, its folders, and files that are no leaf.

All of it is looked up at each run; only what follows from one file's bytes alone is kept in `facts`, by its blob id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...core.config import Config
from ...core.errors import TaxonomyError
from ..attribution import ATTRIBUTION_NAME, AttributionFault, allowed, attribution_faults
from ..globs import matching
from ..leaf import content_problem, entry_problem, from_root, unread_problem
from ..schema import QNA_NAME, SECTIONS
from ..source import Source, as_listed
from .cache import Facts
from .finding import Fault, Finding
from .report import Report

_FOLDER = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_FOLDER_OF_LEAF_NAME = re.compile(rf"(/{re.escape(QNA_NAME)})/")
_CODES = {"document_missing": "E122", "document_escape": "E123", "document_format": "E124"}
_ATTRIBUTION_CODES = {"encoding": "E132", "blank": "E132", "no_licence": "W211", "licence": "W210"}

_COMMIT = re.compile(r"[0-9a-f]{7,40}")
"""What can be fetched: a hash of SHA-1, as all public servers have them, maybe abbreviated."""


@dataclass(frozen=True)
class Surroundings:
    """The files around the leaves, looked up once."""

    source: Source
    blob_ids: Mapping[str, str]
    """Of its files, if anything is to be kept."""
    config: Config
    facts: Facts
    mirrors: Path | None
    """Where other repositories are mirrored, if anywhere."""

    @cached_property
    def files(self) -> Sequence[str]:
        """The paths of the source, sorted."""
        return self.source.files()

    @cached_property
    def _there(self) -> set[str]:
        return set(self.files)

    def findings(self, leaf_id: str, report: Report) -> Iterator[Finding]:
        """The faults of one leaf's documents and attribution."""
        path = f"{leaf_id}/{QNA_NAME}"
        yield from (fault.at(path) for fault in self._documents(leaf_id, report))
        if report.origin:
            yield from (fault.at(path) for fault in self._origin(report))
        if self.config.lint.attribution:
            yield from self._attribution(leaf_id, report)

    def _documents(self, leaf_id: str, report: Report) -> Iterator[Fault]:
        for entry in report.files:
            paths = matching(from_root(leaf_id, entry.text), self.files)
            found = entry_problem(leaf_id, entry.text, paths)
            for path in () if found else paths:
                found = found or self._document(path)
            if found is not None:
                yield Fault(_CODES[found[0]], entry.line, entry.column, found[1])

    def _document(self, path: str) -> tuple[str, str] | None:
        """The kind of what is wrong in a document and its message, or None."""
        try:
            return self._fact("document", path, lambda data: content_problem(path, data))
        except TaxonomyError as error:
            return unread_problem(path, error)

    def _origin(self, report: Report) -> Iterator[Fault]:
        """What is wrong with documents of another repository, as far as can be told without asking it."""
        repo, commit = report.origin
        if not _COMMIT.fullmatch(commit.text):
            what = f"{commit.text!r} is no commit; write the commit's hash, for branches and tags move"
            yield Fault("E125", commit.line, commit.column, what)
            return
        from ..address import allowed_address

        try:
            allowed_address(repo.text, self.config.documents, where="")
        except TaxonomyError as error:
            yield Fault("E125", repo.line, repo.column, str(error))
            return
        for pattern in report.patterns if self.mirrors else ():
            if self._matches(repo.text, commit.text, pattern.text) is False:
                what = f"no file matches {pattern.text!r} in {repo.text} at {commit.text[:12]}; mend document.patterns"
                yield Fault("E122", pattern.line, pattern.column, what)

    def _matches(self, repo: str, commit: str, pattern: str) -> bool | None:
        """Whether a pattern matches a file of another repository; None: it is not on this machine."""
        key = f"pattern:{json.dumps([repo, commit, pattern])}"
        if (kept := self.facts.get(key)) is not None:
            return kept
        from ..mirror import mirrored_commit

        if self.mirrors is None or (tree := mirrored_commit(repo, commit, self.mirrors)) is None:
            return None
        found = bool(matching(pattern, tree.files()))
        self.facts.put(key, found)
        return found

    def _attribution(self, leaf_id: str, report: Report) -> Iterator[Finding]:
        path = f"{leaf_id}/{ATTRIBUTION_NAME}"
        if path not in self._there:
            if report.version > 1:
                lines = "`Title of work: …`, `License of the work: …` and `Creator names: …`"
                what = f"there is no {ATTRIBUTION_NAME} beside this file; make one with the lines {lines}"
                yield Fault("E131", 1, 1, what).at(f"{leaf_id}/{QNA_NAME}")
            return
        try:
            facts: list[Any] = self._fact("attribution", path, lambda data: list(attribution_faults(data)))
        except TaxonomyError as error:
            facts = [AttributionFault("encoding", 1, 1, error.what + (f"; {error.fix}" if error.fix else ""))]
        for fault in (AttributionFault(*fact) for fact in facts):
            if fault.kind != "licence" or not allowed(fault.licence, self.config.lint.licenses):
                yield Fault(_ATTRIBUTION_CODES[fault.kind], fault.line, fault.column, fault.message).at(path)

    def _fact(self, kind: str, path: str, find: Callable[[bytes], Any]) -> Any:
        """What `find` says of a file's bytes, from an earlier run where one said it. Raises TaxonomyError."""
        blob_id = self.blob_ids.get(path)
        key = f"{kind}:{path}:{blob_id}"
        if blob_id and (kept := self.facts.get(key)) is not None:
            return kept[0]
        found = find(self.source.read(path))
        if blob_id and as_listed(self.source, [path]):
            self.facts.put(key, [found])
        return found


def odd_folders(ids: Iterable[str]) -> Iterator[Finding]:
    """Folders with odd names, each told once, at the first leaf below it."""
    told: set[str] = set()
    for leaf_id in ids:
        folders = leaf_id.split("/")
        for depth, name in enumerate(folders[1:], start=2):
            folder = "/".join(folders[:depth])
            if folder not in told and not _FOLDER.fullmatch(name):
                told.add(folder)
                snake = "_".join(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))
                what = f"the folder name {name!r} has more than lower case letters, digits and _"
                fix = f"rename it to {snake!r}" if snake else "rename it"
                yield Fault("W208", 1, 1, f"{what}; {fix}").at(f"{leaf_id}/{QNA_NAME}")


def misplaced(files: Sequence[str], ids: Iterable[str]) -> Iterator[Finding]:
    """Files that look like a leaf and are not read as one."""
    read = {f"{leaf_id}/{QNA_NAME}" for leaf_id in ids}
    for path in files:
        name = path.rsplit("/", 1)[-1].lower()
        if name in {"qna.yaml", "qna.yml"} and path not in read:
            folders = f"{', '.join(SECTIONS[:2])} or {SECTIONS[2]}"
            what = f"this is not read as a leaf; name it {QNA_NAME}, in a folder below {folders}"
            yield Fault("W204", 1, 1, what).at(path)


def no_plain_files(files: Sequence[str], others: Mapping[str, str]) -> Iterator[Finding]:
    """What bears the name of a leaf's file, or of the folder of all, and is something else; `others`: path -> what."""
    folders = {path[: match.end(1)]: "folder" for path in files if (match := _FOLDER_OF_LEAF_NAME.search(path))}
    for path, kind in (folders | dict(others)).items():
        if path in SECTIONS or (path.endswith(f"/{QNA_NAME}") and path.split("/", 1)[0] in SECTIONS):
            itself = "folder" if path in SECTIONS else "file"
            what = f"this is a {kind}, which is never followed or opened; put the {itself} itself here"
            yield Fault("E113", 1, 1, what).at(path)
