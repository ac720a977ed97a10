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
        ("docs/**", ["docs/a.md", "docs/b.txt", "docs/deep/c.md"]),
        ("docs/a*", ["docs/a.md"]),
        ("doc?/a.md", ["docs/a.md"]),
        ("docs/deep/../*", []),
        ("docs", []),
        ("A.md", []),
        ("nothing/*", []),
    ],
)
def test_a_pattern_names_files(pattern, expected):
    assert matching(pattern, FILES) == expected


def test_only_the_files_of_the_folder_that_a_pattern_names_are_looked_at():
    class Counted(list[str]):
        looked = 0

        def __iter__(self):
            for path in super().__iter__():
                self.looked += 1
                yield path

        def __getitem__(self, at):
            found = super().__getitem__(at)
            self.looked += len(found) if isinstance(at, slice) else 1
            return found

    files = Counted(f"leaf_{number:05}/{name}" for number in range(10_000) for name in ("a.md", "qna.yaml"))
    assert matching("leaf_09000/*.md", files) == ["leaf_09000/a.md"]
    assert files.looked < 100


def test_a_pattern_made_to_be_slow_is_not():
    assert matching("**/a/" * 200 + "b", ["a/" * 400 + "c"]) == []
