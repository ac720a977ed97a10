"""What is different between two states of a taxonomy, by fingerprint: reformatting a file changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import TilthError
from ..core.progress import Progress, SilentProgress, Task
from ..core.records import Record
from .attribution import ATTRIBUTION_NAME
from .candidates import differ, leaves_that_may_differ
from .leaf import Leaf, document_files, read_leaf
from .moves import edited_moves, moves
from .schema import QNA_NAME
from .source import CommitTree, Source
from .tree import leaf_ids

_WORTH_SHOWING = 500
"""Fewer leaves are read before anybody wonders."""


class Modified(Record):
    """A leaf that says something else than before."""

    leaf: str
    moved_from: str = ""
    """The leaf's old id, where it moved as well."""
    files: tuple[str, ...]
    """Which of its files differ, seen from its folder; with a leading `/`, from the repository's root."""


class Unreadable(Record):
    """A leaf of the head that cannot be used."""

    leaf: str
    reason: str
    """One line, with the place."""


class Changes(Record):
    """Leaf ids, sorted. Each leaf of the head is in exactly one of added, modified, moved, unreadable and unchanged."""

    added: tuple[str, ...] = ()
    modified: tuple[Modified, ...] = ()
    removed: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    """Old id, new id: the same fingerprint at another path."""
    attributed: tuple[str, ...] = ()
    """Those of moved (as new) and unchanged whose `attribution.txt` differs: there is nothing to learn anew."""
    unreadable: tuple[Unreadable, ...] = ()
    unchanged: tuple[str, ...] = ()
    """The same fingerprint at the same path; or the same fault in the same `qna.yaml`."""

    def __bool__(self) -> bool:
        return bool(self.added or self.modified or self.removed or self.moved or self.unreadable or self.attributed)


def changes(base: Source, head: Source, progress: Progress | None = None) -> Changes:
    """Compare `head` with `base`, an `EmptyTree` for all that there is.

    A leaf that cannot be read stops nothing: it is unreadable in the head, and in the base it is another leaf.
    """
    before, after = set(leaf_ids(base)), set(leaf_ids(head))
    suspects, gone, fresh = leaves_that_may_differ(base, head), before - after, after - before
    num_reads = len(gone) + len(fresh) + 2 * len(suspects)
    shown = progress if progress and num_reads >= _WORTH_SHOWING else SilentProgress()
    with shown.task("reading leaves", total=num_reads, unit="leaves") as task:
        old, new = _read(base, gone | suspects, task), _read(head, fresh | suspects, task)
    changed = {leaf for leaf in suspects if _changed(base, old[leaf], head, new[leaf])}
    unreadable = {leaf for leaf in fresh | changed if not new[leaf].leaf}
    moved = moves(_fingerprints(old, gone), _fingerprints(new, fresh))
    edited = edited_moves(_leaves(old, gone - set(moved.values())), _leaves(new, fresh - moved.keys()))
    modified = {leaf: leaf for leaf in changed - unreadable} | edited
    unchanged = (before & after) - changed
    return Changes(
        added=_sorted(fresh - unreadable - moved.keys() - edited.keys()),
        modified=tuple(_modified(base, old[was], head, new[leaf]) for leaf, was in sorted(modified.items())),
        removed=_sorted(gone - set(moved.values()) - set(edited.values())),
        moved=tuple(sorted((was, leaf) for leaf, was in moved.items())),
        unreadable=tuple(Unreadable(leaf=leaf, reason=new[leaf].fault) for leaf in sorted(unreadable)),
        unchanged=_sorted(unchanged),
        attributed=_attributed(base, head, {leaf: leaf for leaf in unchanged} | moved),
    )


def changed_leaves(root: Path, base: str, head: str = "HEAD") -> tuple[str, ...]:
    """The leaves of one commit that another does not have, or has otherwise; sorted. Raises TaxonomyError."""
    found = changes(CommitTree(root, base), CommitTree(root, head))
    return _sorted({*found.added, *(each.leaf for each in found.modified)})


class _Seen(NamedTuple):
    """A leaf as one of the two trees has it."""

    id: str
    leaf: Leaf | None
    fault: str
    """Why it cannot be read."""
    files: dict[str, str]
    """Name as in `Modified.files` -> path."""


def _read(source: Source, ids: Iterable[str], task: Task) -> dict[str, _Seen]:
    found: dict[str, _Seen] = {}
    for leaf_id in sorted(ids):
        try:
            leaf, fault = read_leaf(source, leaf_id), ""
        except TilthError as error:
            leaf, fault = None, str(error)
        found[leaf_id] = _Seen(leaf_id, leaf, fault, _files(source, leaf_id, leaf))
        task.advance()
    return found


def _files(source: Source, leaf_id: str, leaf: Leaf | None) -> dict[str, str]:
    documents = document_files(source, leaf_id, leaf.documents) if leaf and leaf.documents else []
    folder = f"{leaf_id}/"
    paths = [folder + QNA_NAME, folder + ATTRIBUTION_NAME, *documents]
    return {path.removeprefix(folder) if path.startswith(folder) else f"/{path}": path for path in paths}


def _changed(base: Source, old: _Seen, head: Source, new: _Seen) -> bool:
    if old.leaf and new.leaf:
        return old.leaf.fingerprint != new.leaf.fingerprint
    return old.fault != new.fault or differ(base, old.files[QNA_NAME], head, new.files[QNA_NAME])


def _leaves(seen: Mapping[str, _Seen], ids: Iterable[str]) -> dict[str, Leaf]:
    return {leaf_id: leaf for leaf_id in ids if (leaf := seen[leaf_id].leaf)}


def _fingerprints(seen: Mapping[str, _Seen], ids: Iterable[str]) -> dict[str, str]:
    return {leaf_id: leaf.fingerprint for leaf_id, leaf in _leaves(seen, ids).items()}


def _modified(base: Source, old: _Seen, head: Source, new: _Seen) -> Modified:
    """A `qna.yaml` that is only written otherwise is no file that differs."""
    names = old.files.keys() | new.files.keys()
    differing = {name for name in names if differ(base, old.files.get(name, ""), head, new.files.get(name, ""))}
    if old.leaf and new.leaf and _said(old.leaf) == _said(new.leaf):
        differing.discard(QNA_NAME)
    return Modified(leaf=new.id, moved_from="" if old.id == new.id else old.id, files=_sorted(differing))


def _said(leaf: Leaf) -> dict[str, Any]:
    """What the leaf's own file says: the fingerprint without the documents."""
    own = {"id", "title", "version", "fingerprint"}
    return leaf.model_dump(exclude={**dict.fromkeys(own, True), "questions": {"__all__": {"leaf"}}})


def _attributed(base: Source, head: Source, stays: Mapping[str, str]) -> tuple[str, ...]:
    """The leaves of `stays` (id -> id in the base) whose attribution is another."""
    pairs = ((leaf, f"{was}/{ATTRIBUTION_NAME}", f"{leaf}/{ATTRIBUTION_NAME}") for leaf, was in stays.items())
    return _sorted(leaf for leaf, before, after in pairs if differ(base, before, head, after))


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))
