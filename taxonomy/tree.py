"""The tree: which leaves a source holds."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from ..core.errors import TaxonomyError
from .leaf import Leaf, read_leaf
from .schema import QNA_NAME, SECTIONS
from .source import Source


def leaf_ids(source: Source) -> list[str]:
    """The ids of all leaves, sorted."""
    return sorted(
        path.removesuffix(f"/{QNA_NAME}")
        for path in source.files()
        if path.endswith(f"/{QNA_NAME}") and path.split("/", 1)[0] in SECTIONS
    )


def leaf_ids_under(source: Source, paths: Sequence[str], *, strays: Iterable[str] = ()) -> list[str]:
    """The ids of the leaves that `paths` name: leaves, folders above leaves, or `qna.yaml` files; sorted, each once.

    `strays` are paths that may be named as well, though no leaf stands there. Raises TaxonomyError for another path.
    """
    known, others = leaf_ids(source), sorted(strays)
    found: set[str] = set()
    for path in paths:
        folder = path.removesuffix(f"/{QNA_NAME}").removeprefix("./").rstrip("/")
        under = _below(folder, known)
        if not under and not _below(folder, others):
            raise _unknown(path, known)
        found |= set(under)
    return sorted(found)


def _below(folder: str, paths: Sequence[str]) -> Sequence[str]:
    """What of `paths` (sorted) stands at or below a folder."""
    if folder in {"", "."}:
        return paths
    first = bisect_left(paths, f"{folder}/")
    below = paths[first : bisect_left(paths, f"{folder}0", first)]  # 0 is the sign after /
    at = bisect_left(paths, folder)
    return [folder, *below] if paths[at : at + 1] == [folder] else below


def read_leaves(source: Source, ids: Iterable[str] | None = None) -> list[Leaf]:
    """The leaves `ids` (None: all), in the order given. Raises TaxonomyError at the first that cannot be read."""
    return [read_leaf(source, leaf_id) for leaf_id in _known_ids(source, ids)]


def _known_ids(source: Source, ids: Iterable[str] | None) -> list[str]:
    """`ids` as they are given, or all where None. Raises TaxonomyError, with the nearest, for one that is no leaf."""
    known = leaf_ids(source)
    wanted = known if ids is None else list(ids)
    for leaf_id in sorted(set(wanted) - set(known)):
        raise _unknown(leaf_id, known)
    return wanted


def _unknown(name: str, known: list[str]) -> TaxonomyError:
    close = difflib.get_close_matches(name, known, n=1)
    fix = f"did you mean {close[0]!r}?" if close else "`tilth tree` lists them"
    if not known:
        fix = "the taxonomy has no leaves yet: `tilth add` makes one"
    return TaxonomyError(f"there is no leaf {name!r}", fix=fix)
