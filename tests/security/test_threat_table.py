"""docs/security.md: every threat has a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """The cells of each row of the threats' tables."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] != "what is tried"]


def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_threat_names_what_stops_it_and_a_test() -> None:
    assert len(rows()) > 30
    assert [row[0] for row in rows() if len(row) != 3 or not row[1] or not NAMED.search(row[2])] == []


def test_every_test_that_is_named_is_there() -> None:
    named = NAMED.findall(PAGE)
    there = {path: names_in(path) for path, _ in named if (ROOT / path).is_file()}
    assert [f"{path}::{name}" for path, name in named if name not in there.get(path, set())] == []


def test_every_test_of_this_folder_is_named() -> None:
    """Those of the table itself aside: what nobody names proves nothing to a reader."""
    here = [path for path in Path(__file__).parent.glob("test_*.py") if path.name != Path(__file__).name]
    made = {(f"tests/security/{path.name}", name) for path in here for name in names_in(f"tests/security/{path.name}")}
    assert {test for test in made if test[1].startswith("test_")} - set(NAMED.findall(PAGE)) == set()
