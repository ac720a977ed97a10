"""`tilth train --explain` on the miniature loop."""

from __future__ import annotations

from pathlib import Path

from ..loop import FERRY, Loop, Spawner, Teacher, knowledge_files


def test_without_samples_it_says_what_is_missing(spawner: Spawner, untouched: Loop) -> None:
    ran = spawner.run(untouched.root, "train", "--explain")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("nothing to train yet\n")
    assert "without samples left out: " in ran.out
    assert ran.out.rstrip().endswith("`tilth generate` makes them")


def test_where_the_release_has_seen_all_it_says_so(spawner: Spawner, turned_once: Loop) -> None:
    ran = spawner.run(turned_once.root, "train", "--explain")
    assert (ran.code, ran.out) == (0, "nothing to train: the current release has seen all samples\n")


def test_it_shows_the_plan_with_numbers_and_changes_nothing(
    spawner: Spawner, untouched: Loop, teacher: Teacher, tmp_path: Path
) -> None:
    loop = untouched.copy(tmp_path / "taxonomy")
    assert spawner.run(loop.root, "generate").code == 0
    loop.commit(FERRY, knowledge_files(FERRY))
    asked, files = len(teacher.requests), _files(loop.root)
    ran, told = (spawner.run(loop.root, "train", "--explain", *more) for more in ([], ["--json"]))
    assert (ran.code, told.code) == (0, 0)
    assert len(teacher.requests) == asked
    assert _files(loop.root) == files
    assert max(len(line) for line in ran.out.splitlines() if "/" not in line) <= 80  # a path is not broken
    for text in ("1. short", "2. all", "samples    ", "lengths    half up to ", "memory     about ", "1 leaf without"):
        assert text in ran.out
    short, everything = told.json["outlook"]["phases"]
    assert f"\n   steps      {short['mix']['steps']:,}: 4 epochs of " in ran.out
    assert f"\n   samples    {everything['mix']['total']['samples']} (" in ran.out
    assert told.json["without_samples"] == [FERRY]


def _files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and ".git/" not in str(path)}
