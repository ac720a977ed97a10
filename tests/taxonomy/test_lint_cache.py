"""The cache changes how long linting takes, never what it finds."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tilth.taxonomy.lint import lint, report
from tilth.taxonomy.lint import run as run_module
from tilth.taxonomy.source import WorkingTree

ATTRIBUTION = "Title of work: A bridge\nCreator names: Ada\n"


@pytest.fixture
def leaves(repository, skill, knowledge):
    for name in "abc":
        repository.write(f"compositional_skills/{name}/qna.yaml", {**skill, "task_description": f"Greet {name} "})
        repository.write(f"compositional_skills/{name}/attribution.txt", ATTRIBUTION)
    repository.write("knowledge/k/qna.yaml", knowledge)
    repository.write("knowledge/k/bridge.md", "")
    repository.write("knowledge/wrong/qna.yaml", "version: 4 \n")
    return repository


@pytest.fixture
def read(monkeypatch):
    """The files that were read and not taken from the cache."""
    read: list[bytes] = []
    real = run_module.report

    def noted(data: bytes, section: str):
        read.append(data)
        return real(data, section)

    monkeypatch.setattr(run_module, "report", noted)
    return read


def found(repository, **options):
    return lint(WorkingTree(repository.root), **options)


def test_the_same_is_found_with_and_without(leaves, tmp_path, read):
    cache = tmp_path / "state" / "lint.db"
    plain = found(leaves)
    assert {finding.code for finding in plain} >= {"E104", "E124", "E131", "W202", "W209", "W211"}
    for _ in range(3):
        assert found(leaves, cache_file=cache) == plain
    assert len(read) == 2 * 5


def test_what_changed_is_read_again(leaves, tmp_path, read, skill):
    cache = tmp_path / "lint.db"
    found(leaves, cache_file=cache)
    read.clear()
    leaves.write("compositional_skills/b/qna.yaml", {**skill, "task_description": ""})
    leaves.write("knowledge/k/bridge.md", "# A bridge\n")
    leaves.write("compositional_skills/c/attribution.txt", "")
    assert found(leaves, cache_file=cache) == found(leaves)
    assert {"E106", "E132"} <= {finding.code for finding in found(leaves, cache_file=cache)}
    assert len(read) == 1 + 5


@pytest.mark.parametrize("name", ["compositional_skills/b/qna.yaml", "compositional_skills/b/attribution.txt"])
def test_what_is_saved_while_it_is_read_is_read_again(leaves, tmp_path, monkeypatch, name):
    cache, file = tmp_path / "lint.db", leaves.root / name
    before, right = found(leaves), file.read_bytes()
    listed = WorkingTree.blob_ids

    def saved(self: WorkingTree):
        ids = listed(self)
        file.write_bytes(b"\xff")
        return ids

    with monkeypatch.context() as saving:
        saving.setattr(WorkingTree, "blob_ids", saved)
        assert found(leaves, cache_file=cache) != before
    file.write_bytes(right)
    assert found(leaves, cache_file=cache) == before


def test_a_moved_leaf_is_not_read_again_unless_its_schema_is_another(leaves, tmp_path, read):
    cache = tmp_path / "lint.db"
    found(leaves, cache_file=cache)
    read.clear()
    (leaves.root / "compositional_skills/a").rename(leaves.root / "compositional_skills/z")
    found(leaves, cache_file=cache)
    assert read == []
    (leaves.root / "compositional_skills/z").rename(leaves.root / "knowledge/z")
    assert found(leaves, cache_file=cache) == found(leaves)
    assert len(read) == 1 + 5


def test_part_of_the_leaves_and_then_all(leaves, tmp_path):
    cache = tmp_path / "lint.db"
    some = ["compositional_skills/a", "compositional_skills/b"]
    assert found(leaves, paths=some, cache_file=cache) == found(leaves, paths=some)
    assert found(leaves, cache_file=cache) == found(leaves)
    assert found(leaves, paths=some, cache_file=cache) == found(leaves, paths=some)


@pytest.mark.parametrize("broken", [b"", b"not a database", b"SQLite format 3\0" + b"\0" * 5000])
def test_a_broken_cache_is_made_anew(leaves, tmp_path, read, broken):
    cache = tmp_path / "lint.db"
    cache.write_bytes(broken)
    assert found(leaves, cache_file=cache) == found(leaves)
    read.clear()
    found(leaves, cache_file=cache)
    assert read == []


@pytest.mark.slow
def test_a_cache_cut_off_anywhere_is_no_harm(leaves, tmp_path):
    cache = tmp_path / "lint.db"
    plain = found(leaves, cache_file=cache)
    whole = cache.read_bytes()
    for size in range(0, len(whole), 1013):
        os.truncate(cache, 0)
        cache.write_bytes(whole[:size] + b"\xff" * (len(whole) - size))
        assert found(leaves, cache_file=cache) == plain


def test_a_cache_of_other_code_or_from_elsewhere_is_not_believed(leaves, tmp_path, read, monkeypatch):
    cache, copy = tmp_path / "lint.db", tmp_path / "copy.db"
    found(leaves, cache_file=cache)
    with sqlite3.connect(cache) as database:
        database.execute("UPDATE fact SET value = '[[],0,[],[],[],[]]' WHERE key LIKE 'qna:%'")
    database.close()
    copy.write_bytes(cache.read_bytes())
    read.clear()
    found(leaves, cache_file=cache)
    assert read == []
    assert found(leaves, cache_file=copy) == found(leaves)
    monkeypatch.setattr("tilth.taxonomy.lint.cache._code_sha256", lambda: "other")
    assert found(leaves, cache_file=cache) == found(leaves)


def test_a_cache_that_cannot_be_written_is_done_without(leaves, tmp_path):
    (tmp_path / "file").write_text("")
    assert found(leaves, cache_file=tmp_path / "file" / "lint.db") == found(leaves)


@pytest.mark.slow
def test_facts_of_what_is_gone_do_not_pile_up(leaves, tmp_path, skill):
    cache = tmp_path / "lint.db"
    for number in range(20):
        leaves.write("compositional_skills/a/qna.yaml", {**skill, "task_description": f"Greet {number}."})
        found(leaves, cache_file=cache)
    with sqlite3.connect(cache) as database:
        [[count]] = database.execute("SELECT count(*) FROM fact")
    database.close()
    assert count < 25


def test_workers_find_the_same(leaves):
    assert found(leaves, workers=2) == found(leaves)


KILLED = """
import os, signal, sys, time
from pathlib import Path
from tilth.taxonomy.lint import run
from tilth.taxonomy.source import WorkingTree

def report(file):
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(60)

run._report = report
run.lint(WorkingTree(Path(sys.argv[1])), workers=2)
"""


@pytest.mark.slow
def test_workers_end_with_who_started_them_however_that_ends(leaves):
    parent = subprocess.Popen([sys.executable, "-c", KILLED, str(leaves.root)], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20.0
    while is_running(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid):
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_report_of_the_largest_file_needs_no_worker(leaves):
    leaves.write("knowledge/wrong/qna.yaml", b"a: " + b"x" * (1 << 21))
    assert found(leaves, workers=2) == found(leaves)
    assert report.report(b"a: " + b" \n" * (1 << 23), "knowledge").faults[0].code == "E114"
