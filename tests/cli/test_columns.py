"""Two answers side by side."""

from __future__ import annotations

from tilth.cli.columns import side_by_side
from tilth.cli.terminal import cells_of


def test_two_texts_stand_side_by_side() -> None:
    told = side_by_side([("base", "one two three\n\nfour"), ("release 2", "x")], 23)
    assert told.splitlines() == [
        "base         release 2",
        "----------   ----------",
        "one two      x",
        "three",
        "",
        "four",
    ]


def test_lines_fit_whatever_is_said() -> None:
    said = (
        "a\x1b[31m word"
        + "x" * 50
        + " 我想在apple工作我想在apple工作我想在apple工作  two  spaces\t\ttab e\u0301"
        + "\n" * 3
    )
    told = side_by_side([("one", said), ("a name that is longer than its column", said)], 41)
    assert all(cells_of(line) <= 41 for line in told.splitlines())
    assert "\x1b" not in told
    left = "".join(line[:19] if line.isascii() else "" for line in told.splitlines())
    assert "x" * 15 in left
    assert side_by_side([("one", ""), ("two", "")], 20).splitlines()[2:] == []
