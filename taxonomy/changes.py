"""What is different between two states of a taxonomy, by fingerprint: reformatting a file changes nothing."""

from __future__ import annotations

from collections import defaultdict

from ..core.errors import TilthError
from ..core.fingerprint import bytes_sha256
from ..core.records import Record
from .leaf import read_leaf
from .schema import QNA_NAME
from .source import Source
from .tree import leaf_ids


class Changes(Record):
    """Leaf ids, sorted. Every leaf of the head is in exactly one of added, modified, moved (as new) and unchanged."""

    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    """Old id, new id: the same fingerprint at another path."""
    unchanged: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.modified or self.removed or self.moved)


def changes(base: Source | None, head: Source) -> Changes:
    """Compare `head` with `base` (None: with nothing, so all is added).

    Raises TaxonomyError when a leaf of the head is wrong. One that was wrong in the base counts as modified.
    """
    before = {} if base is None else {leaf_id: _fingerprint_or_bytes(base, leaf_id) for leaf_id in leaf_ids(base)}
    after = {leaf_id: read_leaf(head, leaf_id).fingerprint for leaf_id in leaf_ids(head)}
    gone: dict[str, list[str]] = defaultdict(list)
    for leaf_id in sorted(before.keys() - after.keys(), reverse=True):
        gone[before[leaf_id]].append(leaf_id)
    moved = {
        leaf_id: gone[after[leaf_id]].pop() for leaf_id in sorted(after.keys() - before.keys()) if gone[after[leaf_id]]
    }
    kept = sorted(after.keys() & before.keys())
    return Changes(
        added=tuple(sorted(after.keys() - before.keys() - moved.keys())),
        modified=tuple(leaf_id for leaf_id in kept if before[leaf_id] != after[leaf_id]),
        removed=tuple(sorted(before.keys() - after.keys() - set(moved.values()))),
        moved=tuple(sorted((old, new) for new, old in moved.items())),
        unchanged=tuple(leaf_id for leaf_id in kept if before[leaf_id] == after[leaf_id]),
    )


def _fingerprint_or_bytes(source: Source, leaf_id: str) -> str:
    """A mistake that is mended by now must not stop the comparison."""
    try:
        return read_leaf(source, leaf_id).fingerprint
    except TilthError:
        return "unreadable " + bytes_sha256(source.read(f"{leaf_id}/{QNA_NAME}"))
