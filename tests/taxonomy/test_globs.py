from __future__ import annotations

import pytest
from tilth.taxonomy.globs import matching

FILES = sorted(["a.md", "a[1].md", "docs/a.md", "docs/b.txt", "docs/deep/c.md", "x/docs/d.md"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.md", ["a.md"]),
        ("*.md", ["a.md", "a[1].md"]),
        ("a[1].md", ["a[1].md"]),
        ("docs/*", ["docs/a.md", "docs/b.txt"]),
        ("docs/**/*.md", ["docs/a.md", "docs/deep/c.md"]),
        ("**/docs/?.md", ["docs/a.md", "x/docs/d.md"]),
        ("**/*.md", ["a.md", "a[1].md", "docs/a.md", "docs/deep/c.md", "x/docs/d.md"]),
        ("docs", []),
        ("A.md", []),
        ("nothing/*", []),
    ],
)
def test_a_pattern_names_files(pattern, expected):
    assert matching(pattern, FILES) == expected


def test_a_pattern_made_to_be_slow_is_not():
    assert matching("**/a/" * 200 + "b", ["a/" * 400 + "c"]) == []
