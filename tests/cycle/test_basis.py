"""What a cycle calls a change: fingerprints against those of the release, whatever git's history says."""

from __future__ import annotations

from tilth.cycle.basis import leaf_changes
from tilth.cycle.releases import Dataset
from tilth.eval.report.data import LeafChanges


def test_of_two_equal_leaves_one_may_move_and_one_go() -> None:
    before = tuple(
        Dataset(leaf=leaf, leaf_fingerprint=fingerprint, entry="", sha256="", samples=1)
        for leaf, fingerprint in (("a/one", "1"), ("a/two", "1"), ("a_b/c", "2"), ("a/b_c", "3"))
    )
    found = leaf_changes(before, {"a/three": "1", "a_b/c": "2", "a/b_c": "4", "a/new": "5"})
    assert found == LeafChanges(
        added=("a/new",),
        modified=("a/b_c",),
        removed=("a/two",),
        moved=(("a/one", "a/three"),),
        unchanged=("a_b/c",),
    )
