"""docs/reliability.md: every fault has a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """The cells of each row of the page's tables."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] != "fault"]


def found_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_fault_has_all_four_cells_and_a_test() -> None:
    assert len(rows()) > 40
    assert [row[0] for row in rows() if len(row) != 4 or not all(row) or not NAMED.search(row[3])] == []


def test_every_test_that_is_named_is_there() -> None:
    named = NAMED.findall(PAGE)
    there = {path: found_in(path) for path, _ in named if (ROOT / path).is_file()}
    assert [f"{path}::{name}" for path, name in named if name not in there.get(path, set())] == []


def test_every_test_of_this_folder_is_named() -> None:
    here = [path for path in Path(__file__).parent.glob("test_*.py") if path.name != Path(__file__).name]
    made = {(name, test) for path in here for name in [f"tests/reliability/{path.name}"] for test in found_in(name)}
    assert made - set(NAMED.findall(PAGE)) == set()
