"""`tilth diff` as a person and as CI uses it, in taxonomies without any release. With one: test_verbs.py."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from tilth.cli.diff import diff
from tilth.core.errors import TilthError

from ..loop import FERRY, SKILL, knowledge_files, skill_files

Told = Callable[..., tuple[int, str]]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An adopted taxonomy with two leaves, committed on `main`; a branch `change` is checked out."""
    root = tmp_path / "taxonomy"
    for leaf, files in ((FERRY, knowledge_files(FERRY)), (SKILL, skill_files())):
        for name, text in files.items():
            write(root / leaf / name, text)
    git(root, "init", "-q", "-b", "main")
    commit(root)
    git(root, "checkout", "-q", "-b", "change")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    def run(*arguments: object, **options: bool) -> tuple[int, str]:
        code = 0
        try:
            diff(*arguments, **options)
        except typer.Exit as end:
            code = end.exit_code
        return code, capsys.readouterr().out

    return run


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def git(root: Path, *arguments: str) -> None:
    author = ["-c", "user.name=ada", "-c", "user.email=ada@x"]
    subprocess.run(["git", *author, *arguments], cwd=root, check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "-qm", "work")


def test_each_sort_of_change_has_its_line(root: Path, told: Told) -> None:
    (root / SKILL).rename(root / "compositional_skills/elsewhere")
    page = next((root / FERRY).glob("*.md"))
    page.write_text(page.read_text() + "\nIt sails.\n")
    write(root / "compositional_skills/new/qna.yaml", skill_files()["qna.yaml"].replace("alpha", "omega"))
    write(root / "compositional_skills/elsewhere/attribution.txt", "Title of work: Words\n")
    write(root / "knowledge/\x1b[31mbad/qna.yaml", "version: 1\n")
    code, out = told("main")
    head, *lines, summary = out.splitlines()
    assert code == 1
    assert head.startswith("against main (")
    assert lines == [
        "  added      compositional_skills/new",
        f"  modified   {FERRY} ({page.name})",
        f"  moved      {SKILL} -> compositional_skills/elsewhere",
        "  attributed compositional_skills/elsewhere",
        "  unreadable knowledge/ [31mbad/qna.yaml:1:1: knowledge of version 1 is not read any more; "
        "rewrite it as version 4",
    ]
    assert summary == "  1 added, 1 modified, 1 moved, 1 attributed, 1 unreadable"
    found = json.loads(told("main", as_json=True)[1])
    assert found["modified"] == [{"leaf": FERRY, "moved_from": "", "files": [page.name]}]
    assert found["unreadable"][0]["leaf"] == "knowledge/\x1b[31mbad"


def test_quiet_tells_by_the_exit_code(root: Path, told: Told) -> None:
    assert told("main", quiet=True) == (0, "")
    (root / SKILL / "qna.yaml").write_text("# tidy\n" + (root / SKILL / "qna.yaml").read_text())
    assert told("main", quiet=True) == (0, "")
    write(root / SKILL / "qna.yaml", skill_files()["qna.yaml"].replace("alpha", "omega"))
    assert told("main", quiet=True) == (1, "")
    assert told("main")[0] == 0


def test_the_merge_base_leaves_out_what_others_did(root: Path, told: Told) -> None:
    git(root, "checkout", "-q", "main")
    git(root, "rm", "-qr", FERRY)
    git(root, "commit", "-qm", "without")
    git(root, "checkout", "-q", "change")
    assert f"  added      {FERRY}\n" in told("main")[1]
    code, out = told("main", from_fork=True)
    assert code == 0
    assert out.startswith("against where HEAD left main (")
    assert out.splitlines()[1:] == ["  2 unchanged"]


def test_all_is_against_nothing(root: Path, told: Told) -> None:
    expected = f"  added      {SKILL}\n  added      {FERRY}\n  2 added\n"
    assert told(everything=True) == (0, f"against nothing:\n{expected}")
    assert told() == (0, f"against nothing: there is no release yet:\n{expected}")
    with pytest.raises(TilthError, match="leave BASE and --merge-base out"):
        diff("main", everything=True)
    with pytest.raises(TilthError, match="no release yet; name the branch: `tilth diff --merge-base main`"):
        diff(from_fork=True)


def test_a_repository_without_a_commit_or_a_leaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    git(tmp_path, "init", "-q")
    monkeypatch.chdir(tmp_path)
    assert told() == (0, "against nothing: there is no release yet:\n  there are no leaves\n")
    with pytest.raises(TilthError, match="there is no commit 'HEAD'; commit something first"):
        diff("HEAD")
