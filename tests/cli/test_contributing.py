"""What a contributor calls: add, show, tree, ci."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import yaml
from tilth.core.workspace import Workspace
from tilth.taxonomy.lint import lint
from tilth.taxonomy.source import WorkingTree

from ..loop import FERRY, MILL, SKILL, THINGS, Loop, Ran, Spawner, Teacher, knowledge_files, suggesting_teacher

Run = Callable[..., Ran]
PAGE = "# Orla Mill\n" + "".join(
    f"\n## The {t}\n\nThe {t} of Orla Mill is made of larch. {'So. ' * 40}\n" for t in THINGS
)
LEAF = "knowledge/mills/orla"


@pytest.fixture
def clever() -> Generator[Teacher]:
    with suggesting_teacher() as teacher:
        yield teacher


@pytest.fixture(scope="module")
def empty(spawner: Spawner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new taxonomy, to be copied."""
    folder = tmp_path_factory.mktemp("empty")
    assert spawner.run(folder, "init", "new", "--empty").code == 0
    return folder / "new"


@pytest.fixture
def root(empty: Path, tmp_path: Path, clever: Teacher) -> Path:
    """A new, empty taxonomy beside a page to learn."""
    shutil.copytree(empty, tmp_path / "new")
    (tmp_path / "new/tilth.yaml").write_text(yaml.safe_dump({"teacher": {"model": "rule", "base_url": clever.url}}))
    (tmp_path / "page.md").write_text(PAGE)
    return tmp_path / "new"


def findings(root: Path) -> list[str]:
    return [str(found) for found in lint(WorkingTree(root)) if found.path.endswith("qna.yaml")]


def test_init_brings_the_schema_that_a_leaf_names(spawner: Spawner, root: Path) -> None:
    spawner.run(root, "add", "skill", "writing/haiku", "--task", "Write a haiku.")
    qna = root / "compositional_skills/writing/haiku/qna.yaml"
    schema = qna.read_text().splitlines()[0].partition("$schema=")[2]
    assert (qna.parent / schema).resolve() == root / "qna.schema.json"
    assert 'task_description: "Write a haiku."' in qna.read_text()


def test_a_hook_that_refuses_a_commit_leaves_the_leaf(spawner: Spawner, root: Path) -> None:
    hook = root / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    ran = spawner.run(root, "add", "knowledge", "mills/orla", "--from", "../page.md", "--commit")
    said = "git: failed without a word; the files are written; mend that, then commit them with git\n"
    assert (ran.code, ran.err.endswith(said)) == (2, True)
    assert (root / "knowledge/mills/orla/qna.yaml").is_file()


def test_only_commit_commits_and_only_the_new_files(spawner: Spawner, root: Path) -> None:
    def log() -> list[str]:
        command = ["git", "log", "-1", "--format=%s", "--name-only"]
        return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split("\n")

    (root / "loose.txt").write_text("mine")
    before = log()
    spawner.run(root, "add", "skill", "a")
    assert log() == before
    ran = spawner.run(root, "add", "knowledge", "mills/orla", "--from", "../page.md", "--commit")
    assert "committed as " in ran.out
    assert log()[0] == f"Add {LEAF}"
    assert [path for path in log()[1:] if path] == [
        f"{LEAF}/{name}" for name in ("attribution.txt", "page.md", "qna.yaml")
    ]


def test_all_proposals_unread_and_the_file_says_so(spawner: Spawner, root: Path) -> None:
    ran = spawner.run(root, "add", "knowledge", "mills/orla", "--from", "../page.md", "--suggest", "--accept-all")
    assert ran.code == 0, ran.err
    text = (root / LEAF / "qna.yaml").read_text()
    assert "# NOT REVIEWED: rule wrote this leaf and nobody has read it." in text
    assert 'created_by: "rule, not reviewed"' in text
    assert findings(root) == []
    said = f"next: read {LEAF}/qna.yaml, write 'License of the work' and 'Creator names' in attribution.txt, then tilth"
    assert said in ran.out
    owned = root / LEAF / "attribution.txt"
    owned.write_text(owned.read_text().replace("work:\n", "work: MIT\n").replace("names:\n", "names: ada\n"))
    assert spawner.run(root, "lint", LEAF).code == 0


def test_no_proposals_are_asked_for_beside_another_command(spawner: Spawner, root: Path, clever: Teacher) -> None:
    with Workspace.open(root).lock():
        ran = spawner.run(root, "add", "skill", "a", "--task", "Count.", "--suggest", "--accept-all")
    assert (ran.code, ran.out, clever.requests) == (2, "", [])
    assert "another tilth command" in ran.err


def test_nothing_is_written_behind_a_link_or_a_file(spawner: Spawner, root: Path) -> None:
    (root / "knowledge").mkdir()
    (root / "knowledge/away").symlink_to(root.parent)
    (root / "knowledge/file").write_text("")
    for name, what in (("away", "link"), ("file", "file")):
        ran = spawner.run(root, "add", "knowledge", f"{name}/x")
        assert ran.err == f"tilth: knowledge/{name}: this is a {what}, not a folder; choose another path\n"
    assert not (root.parent / "x").exists()


def test_an_absolute_path_in_the_taxonomy_is_as_good_and_a_skill_may_be_foundational(
    spawner: Spawner, root: Path
) -> None:
    assert spawner.run(root, "add", "knowledge", f"{root}/{LEAF}").code == 0
    assert spawner.run(root, "add", "skill", "foundational_skills/x").code == 0
    assert (root / LEAF / "qna.yaml").is_file()
    assert (root / "foundational_skills/x/qna.yaml").is_file()


@pytest.mark.slow
def test_proposals_in_a_terminal(root: Path, clever: Teacher) -> None:
    """Some accepted, one dropped, then Ctrl-C: what was accepted is written."""
    command = [sys.executable, "-m", "tilth.cli.main", "add", "knowledge", "mills/orla", "--from", "../page.md"]
    person, terminal = pty.openpty()
    ran = subprocess.Popen([*command, "--suggest"], cwd=root, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = answer(person, [b"a\n", b"d\n", b"a\n", b"d\n", b"\x04"])
    assert ran.wait() == 0, shown
    assert b"left for you to write: 4 seed example(s), 2 question(s) of a seed example, held-out questions" in shown
    assert (root / LEAF / "qna.yaml").read_text().count('answer: "larch"') == 1
    assert b"proposes" not in shown


def answer(terminal: int, keys: list[bytes]) -> bytes:
    """Type the next keys whenever we are asked, until the terminal closes. Returns what was shown.

    The blank after a question is written apart from it, when the keys are waited for: what is typed before may be lost.
    """
    shown = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # closed
            break
        shown += data
        if shown.endswith(b"[q]uit: ") and keys:
            os.write(terminal, keys.pop(0))
    os.close(terminal)
    return shown


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["knowledge", "a", "--from", "../page.md", "--suggest"],
            "this is no terminal; run it in a terminal, or accept",
        ),
        (["knowledge", "a", "--suggest"], "--suggest has nothing to go by; say from which document: --from FILE"),
        (["skill", "a", "--suggest"], "--suggest has nothing to go by; say what is to be done: --task TEXT"),
        (["skill", "a", "--accept-all"], "--accept-all is about proposals; add --suggest"),
        (["skill", "a", "--from", "../page.md"], "a skill has no document"),
        (["knowledge", "a", "--task", "x"], "--task is for skills"),
        (["knowledge", "a", "--from", ""], "--from is empty; name a file or an address"),
        (["knowledge", " "], "' ' must be lower case letters, digits and _; write it like science/animals/birds"),
        (["knowledge", "/abs"], "/abs: this is outside the taxonomy; name something below "),
        (["skill", "x" * 300], "a folder's name has 300 letters; choose one with 100 at most"),
        (["knowledge", "a", "--from", "none.md"], "none.md: there is no such document"),
        (["knowledge", "a", "--from", "https://x.example/page.html"], "this is not the address of a file in a git rep"),
    ],
)
def test_what_cannot_be_added_is_told_in_one_line(
    spawner: Spawner, root: Path, arguments: list[str], line: str
) -> None:
    ran = spawner.run(root, "add", *arguments)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert line in ran.err
    assert not (root / "knowledge").exists()


def test_an_existing_leaf_costs_no_answer(spawner: Spawner, root: Path, clever: Teacher) -> None:
    spawner.run(root, "add", "knowledge", "mills/orla")
    again = spawner.run(root, "add", "knowledge", "mills/orla", "--from", "../page.md", "--suggest", "--accept-all")
    assert again.err == f"tilth: {LEAF}/qna.yaml: the file is there already; choose another path\n"
    assert clever.requests == []


# Show and tree -------------------------------------------------------------------------------------------------------


def test_show_tells_all_of_a_leaf(spawner: Spawner, turned_twice: Loop) -> None:
    shown = spawner.run(turned_twice.root, "show", MILL).out
    assert "  knowledge, version 4, by tester" in shown
    assert "held-out questions: 6" in shown
    assert "releases trained on what it says now: release 1, release 2" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert any(row[:1] == ["knowledge_short"] and int(row[1]) > 0 for row in rows)
    assert [row[-1] for row in rows if row[:2] == ["release", "1"]] == ["learned"]
    assert "95 % Wilson intervals" in shown
    assert "coverage: 6 of 6 sentences have samples (100 %)" in shown
    told = spawner.run(turned_twice.root, "show", MILL, "--json").json
    assert [sentence["samples"] > 0 for sentence in told["coverage"][f"{MILL}/page.md"]] == [True] * 6
    assert (told["learned_by"], told["releases"]) == ("release 1", [1, 2])
    assert [score["model"] for score in told["scores"]] == ["base", "release 1", "release 2"]
    assert all(score["low"] <= score["correct"] / score["total"] <= score["high"] for score in told["scores"])
    assert told["chunks"][0]["text"].startswith("# Orla Mill")


def test_show_finds_a_leaf_by_its_path_from_here_or_its_end(spawner: Spawner, turned_twice: Loop) -> None:
    whole = spawner.run(turned_twice.root, "show", SKILL).out
    assert spawner.run(turned_twice.root, "show", "backwards").out == whole
    below = turned_twice.root / "compositional_skills"
    assert spawner.run(below, "show", "backwards/qna.yaml").out == whole
    wrong = spawner.run(below, "show", "bakwards")
    assert (wrong.code, len(wrong.err.splitlines())) == (2, 1)
    assert wrong.err == f"tilth: there is no leaf 'bakwards'; did you mean {SKILL!r}?\n"
    assert f"there is no leaf 'kwa'; use one of: {SKILL}" in spawner.run(below, "show", "kwa").err
    assert "`tilth tree` shows them all" in spawner.run(below, "show", "xyz").err


def test_show_says_what_is_not_there_yet(spawner: Spawner, untouched: Loop) -> None:
    shown = spawner.run(untouched.root, "show", MILL).out
    assert "`tilth generate` makes them" in shown
    assert "releases trained on what it says now: none yet" in shown


def test_tree_counts(spawner: Spawner, turned_twice: Loop) -> None:
    rows = {row["leaf"]: row for row in spawner.run(turned_twice.root, "tree", "--json").json}
    assert list(rows) == [SKILL, FERRY, MILL]
    assert all(row["trained"] and row["samples"] > 0 for row in rows.values())
    assert (rows[MILL]["held_out"], rows[MILL]["score"]["total"], rows[SKILL]["score"]) == (6, 6, None)
    table = spawner.run(turned_twice.root, "tree").out.splitlines()
    assert table[2].split()[:4] == ["compositional_skills/backwards", "5", "0", f"{rows[SKILL]['samples']}"]
    assert table[3].split()[0] == "knowledge/"
    assert table[-1].split()[:4] == ["all", "of", "it", "3"]
    part = spawner.run(turned_twice.root / "knowledge", "tree", "mill").out.splitlines()
    assert [line.split()[0] for line in part[2:]] == [MILL]


def test_tree_tells_what_changed_since(spawner: Spawner, turned_twice: Loop, copy: Callable[[Loop], Loop]) -> None:
    loop = copy(turned_twice)
    before = spawner.run(loop.root, "tree", "--json").json
    (loop.root / MILL / "page.md").write_text("# Orla Mill\n\nThe wheel of Orla Mill is made of oak.\n")
    (loop.root / SKILL / "qna.yaml").write_text("version: [\n")
    rows = {row["leaf"]: row for row in spawner.run(loop.root, "tree", "--json").json}
    assert (rows[MILL]["samples"], rows[MILL]["trained"]) == (None, False)
    assert rows[SKILL]["fault"].startswith(f"{SKILL}/qna.yaml:2:1: not valid YAML")
    assert rows[FERRY] == next(row for row in before if row["leaf"] == FERRY)
    assert "1 cannot be read: `tilth lint` says why" in spawner.run(loop.root, "tree").out
    (loop.root / MILL / "page.md").write_text(knowledge_files(MILL)["page.md"])
    assert {row["leaf"]: row for row in spawner.run(loop.root, "tree", "--json").json}[MILL]["trained"]


def test_a_wide_tree_is_shown_to_a_depth_that_can_be_read(spawner: Spawner, root: Path) -> None:
    for number in range(120):
        folder = root / f"compositional_skills/group_{number % 12}/sub_{number % 3}/leaf_{number}"
        folder.mkdir(parents=True)
        (folder / "qna.yaml").write_text("version: 4\n")
    shown = spawner.run(root, "tree").out.splitlines()
    assert len(shown) < 60
    assert "levels; `--depth " in shown[-2]
    assert len(spawner.run(root, "tree", "--depth", "9").out.splitlines()) > 120


def test_an_empty_tree(spawner: Spawner, root: Path) -> None:
    assert spawner.run(root, "tree").out == "the taxonomy has no leaves yet: `tilth add` makes one\n"
    assert spawner.run(root, "tree", "--json").json == []


def test_a_table_that_is_longer_than_a_chunk_may_be_is_named(
    spawner: Spawner, untouched: Loop, copy: Callable[[Loop], Loop]
) -> None:
    root, table = copy(untouched).root, "| part | wood |\n|---|---|\n" + "| the wheel | larch, as ever |\n" * 200
    (root / MILL / "page.md").write_text(f"# Orla Mill\n\nIts parts.\n\n{table}\nThat is all.\n")
    shown = " ".join(spawner.run(root, "show", MILL).out.split())
    place = f"over-long: {MILL}/page.md, characters 25-{25 + len(table) - 1}"
    assert f"{place}: a table or a block of code is never cut; split it in the document" in shown
    chunks = spawner.run(root, "show", MILL, "--json").json["chunks"]
    assert [chunk["too_long"] for chunk in chunks].count(True) == 1


# ci ------------------------------------------------------------------------------------------------------------------


def test_ci_writes_what_is_missing_and_says_so(spawner: Spawner, root: Path) -> None:
    first, second = spawner.run(root, "ci").out, spawner.run(root, "ci").out
    assert "wrote .github/workflows/tilth.yml\nwrote .githooks/pre-commit\n" in first
    assert "git config core.hooksPath .githooks" in first
    assert second.count("it is there already") == 2
    assert os.access(root / ".githooks/pre-commit", os.X_OK)
