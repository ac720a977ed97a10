"""Which leaves could say something else than before, told by blob ids: ten thousand leaves, and few to be read.

A leaf says what its `qna.yaml` and its documents say. Where neither can have changed it needs no reading, so the only
question is which documents a leaf may name; its own folder's, or others if its `qna.yaml` holds a path that leads out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..core.errors import TaxonomyError
from .formats import DOCUMENT_SUFFIXES, as_kept
from .schema import QNA_NAME
from .source import Source
from .tree import leaf_ids


def leaves_that_may_differ(base: Source, head: Source) -> set[str]:
    """The leaves of both trees but for those that surely read the same: the same fingerprint, or the same fault."""
    before, after = base.blob_ids(), head.blob_ids()
    both = set(leaf_ids(base)) & set(leaf_ids(head))
    changed = {
        path
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path) and differ(base, path, head, path)
    }
    suspects = {leaf for leaf in both if f"{leaf}/{QNA_NAME}" in changed}
    # A file of another format that is there before and after is no document before and after.
    documents = [
        path for path in changed if path not in before or path not in after or path.lower().endswith(DOCUMENT_SUFFIXES)
    ]
    suspects |= both & {folder for path in documents for folder in _folders_above(path)}
    if documents:
        suspects |= {leaf for leaf in both - suspects if _may_name_others(head, leaf)}
    return suspects


def differ(base: Source, before: str, head: Source, after: str) -> bool:
    """Whether a file of `base` and one of `head` say something else, or only one of them is there.

    Texts that differ in line ends alone do not. Only what has two blob ids is read.
    """
    old, new = base.blob_ids().get(before), head.blob_ids().get(after)
    if old == new or not (old and new):
        return old != new
    try:
        return as_kept(before, base.read(before)) != as_kept(after, head.read(after))
    except TaxonomyError:
        return True


def _folders_above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


# The slash of `../`, or one that may begin an entry. Inside double quotes a backslash may stand for any sign.
_LEADS_OUT = re.compile(r"/(?<![\w:/]/)")


def _may_name_others(source: Source, leaf_id: str) -> bool:
    """Whether a leaf may name documents outside of its folder: surely where it does, seldom where it does not."""
    if leaf_id.split("/", 1)[0] != "knowledge":
        return False
    try:
        text = source.read(f"{leaf_id}/{QNA_NAME}").decode(errors="ignore")
    except TaxonomyError:
        return True
    return "\\" in text or ("files" in text and _LEADS_OUT.search(text) is not None)
