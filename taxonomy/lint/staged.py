"""What a commit that is about to be made touches: linting that alone, an old fault elsewhere stops nobody."""

from __future__ import annotations

from ..changes import changes
from ..schema import QNA_NAME
from ..source import Source
from ..tree import leaf_ids
from .surroundings import misplaced, no_plain_files


def touched(base: Source, head: Source) -> list[str]:
    """The leaves of `head` of which a file is not as in `base`, documents included, and new files that are no leaf.

    Paths for `lint`, sorted.
    """
    found = changes(base, head)
    before, after = base.blob_ids(), head.blob_ids()
    qnas = {leaf_id: f"{leaf_id}/{QNA_NAME}" for leaf_id in leaf_ids(head)}
    return sorted(
        {
            *(leaf_id for leaf_id, path in qnas.items() if before.get(path) != after.get(path)),
            *(each.leaf for each in (*found.modified, *found.unreadable)),
            *found.attributed,
            *(_strays(head) - _strays(base)),
        }
    )


def _strays(source: Source) -> set[str]:
    found = (*misplaced(source.files(), leaf_ids(source)), *no_plain_files(source.files(), source.others()))
    return {stray.path for stray in found}
