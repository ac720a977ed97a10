"""What every leaf of a tree holds, in numbers, kept between runs: of ten thousand leaves only changed ones are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..core.errors import TilthError
from ..core.progress import Progress, SilentProgress
from ..core.records import Record
from .leaf import DocumentSpec, LeafKind, document_files, read_leaf
from .lint.cache import Facts, open_facts
from .schema import QNA_NAME
from .source import Source, as_listed

_MANY = 500
"""Fewer leaves are read in less than a second: nobody needs to be told."""


class LeafSummary(Record):
    """One leaf. Of one that cannot be read only `id` and `fault` say anything."""

    id: str
    kind: LeafKind | None = None
    fingerprint: str = ""
    seeds: int = 0
    """Seed examples."""
    held_out: int = 0
    """Held-out questions."""
    fault: str = ""
    """Why it cannot be read, in one line."""


def summaries(source: Source, ids: Sequence[str], cache: Path, progress: Progress) -> list[LeafSummary]:
    """The leaves `ids` of `source`, in their order. `cache` is a file; it may be deleted at any time."""
    blobs = source.blob_ids()
    with open_facts(cache) as facts:
        found = {leaf_id: _kept(facts, source, leaf_id, blobs) for leaf_id in ids}
        missing = [leaf_id for leaf_id, summary in found.items() if summary is None]
        if missing:
            shown = progress if len(missing) >= _MANY else SilentProgress()
            with shown.task("reading leaves", total=len(missing), unit="leaves") as task:
                for leaf_id in missing:
                    found[leaf_id] = _read(facts, source, leaf_id, blobs)
                    task.advance()
        return [summary for summary in found.values() if summary]


def _kept(facts: Facts, source: Source, leaf_id: str, blobs: Mapping[str, str]) -> LeafSummary | None:
    """What is known of a leaf whose `qna.yaml` and documents have not changed."""
    stored = facts.get(_key(leaf_id, blobs))
    if not stored:
        return None
    try:
        spec = DocumentSpec.model_validate(stored["documents"])
        same = stored["blobs"] == _document_blobs(source, leaf_id, spec, blobs)
        return LeafSummary.model_validate(stored["summary"]) if same else None
    except (ValidationError, KeyError, TypeError):
        return None


def _read(facts: Facts, source: Source, leaf_id: str, blobs: Mapping[str, str]) -> LeafSummary:
    try:
        leaf = read_leaf(source, leaf_id)
    except TilthError as error:
        return LeafSummary(id=leaf_id, fault=str(error))
    summary = LeafSummary(
        id=leaf_id,
        kind=leaf.kind,
        fingerprint=leaf.fingerprint,
        seeds=len(leaf.seed_examples),
        held_out=len(leaf.questions),
    )
    spec = leaf.documents or DocumentSpec()
    value: dict[str, Any] = {
        "documents": spec.model_dump(mode="json"),
        "blobs": _document_blobs(source, leaf_id, spec, blobs),
        "summary": summary.model_dump(mode="json"),
    }
    if as_listed(source, [f"{leaf_id}/{QNA_NAME}", *value["blobs"]]):
        facts.put(_key(leaf_id, blobs), value)
    return summary


def _key(leaf_id: str, blobs: Mapping[str, str]) -> str:
    return f"{blobs[f'{leaf_id}/{QNA_NAME}']} {leaf_id}"


def _document_blobs(source: Source, leaf_id: str, spec: DocumentSpec, blobs: Mapping[str, str]) -> dict[str, str]:
    """The leaf's own documents as they are now; those of another repository are fixed by their commit."""
    return {path: blobs[path] for path in document_files(source, leaf_id, spec)} if spec.files else {}
