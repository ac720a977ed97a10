"""Every verb on a workspace with two releases: what it prints, as text and as JSON, and what it does not do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tilth.cli.cycle import _print_side_by_side
from tilth.cli.main import VERBS
from tilth.core.errors import TilthError
from tilth.core.progress import SilentProgress
from tilth.cycle.run import read_result

from ..loop import FERRY, MILL, SKILL, Loop, Ran, Spawner, knowledge_files, skill_files

Run = Callable[..., Ran]
Copy = Callable[[Loop], Loop]


@pytest.fixture
def run(spawner: Spawner, turned_twice: Loop) -> Run:
    """A command in the workspace with two releases, which must end well."""

    def ran(*arguments: str) -> Ran:
        ran = spawner.run(turned_twice.root, *arguments)
        assert ran.code == 0, ran.err
        return ran

    return ran


def test_help_names_every_verb(spawner: Spawner, tmp_path: Path) -> None:
    alone, asked = spawner.run(tmp_path), spawner.run(tmp_path, "--help")
    assert (alone.code, asked.code) == (0, 0)
    assert alone.out.strip() == asked.out.strip()
    assert all(f"\n  {verb} " in asked.out for verb in VERBS)
    for verb, line in VERBS.items():
        told = spawner.run(tmp_path, verb, "--help")
        assert told.code == 0
        assert told.out.startswith(f"Usage: tilth {verb} ")
        assert " ".join(told.out.split()).count(line.removesuffix(".")) == 1


LIGHT = """
import sys
from tilth.cli.main import main
for verb in ("--help", "lint", "diff", "tree", "releases", "cycle", "train", "report"):
    sys.argv = ["tilth", verb]
    try:
        main()
    except SystemExit as end:
        assert not end.code, verb
    light = ("torch", "transformers", "openai", *(["numpy"] if verb != "report" else []))  # a report draws
    heavy = [name for name in light if name in sys.modules]
    assert not heavy, (verb, heavy)
print("report was the last")
"""


def test_nothing_heavy_is_loaded_where_nothing_is_to_do(turned_twice: Loop) -> None:
    command = [sys.executable, "-W", "error", "-c", LIGHT]
    ran = subprocess.run(command, cwd=turned_twice.root, check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.endswith("report was the last\n")


def test_version(run: Run) -> None:
    assert run("--version").out.startswith("tilth 0.")


def test_init_add_lint_diff(spawner: Spawner, tmp_path: Path) -> None:
    made = spawner.run(tmp_path, "init", "new", "--empty")
    assert (made.code, made.err) == (0, "")
    root = tmp_path / "new"
    (root / "page.md").write_text("# A page\n\nIt says something.\n")
    added = spawner.run(root, "add", "knowledge", "things/page", "--from", "page.md")
    assert "wrote knowledge/things/page/qna.yaml" in added.out
    assert (root / "knowledge/things/page/page.md").is_file()
    linted = spawner.run(root, "lint", "--json")
    assert linted.code == 1
    assert {finding["severity"] for finding in linted.json} >= {"error"}
    by_path = spawner.run(root / "knowledge", "lint", "things", "--format", "github")
    assert by_path.code == 1
    assert "::error file=knowledge/things/page/qna.yaml,line=" in by_path.out
    assert spawner.run(root, "init").out.startswith("adopted 1 leaf ")
    again = spawner.run(root, "add", "knowledge", "things/page")
    assert again.code == 2
    assert len(again.err.splitlines()) == 1


def test_init_brings_a_starter_taxonomy_that_is_right(spawner: Spawner, tmp_path: Path) -> None:
    assert "starter leaves" in spawner.run(tmp_path, "init", "new").out
    assert spawner.run(tmp_path / "new", "lint").out == "no findings\n"
    assert len(spawner.run(tmp_path / "new", "diff", "--json").json["added"]) == 4


def test_lint_and_diff(run: Run) -> None:
    assert run("lint").out == "no findings\n"
    assert run("lint", "--json").json == []
    found = run("diff", "--json").json
    assert found["unchanged"] == [SKILL, FERRY, MILL]
    assert run("diff").out.splitlines()[-1] == "  3 unchanged"
    against_first = run("diff", "HEAD~1").out
    assert f"added      {FERRY}" in against_first
    assert "2 unchanged" in against_first


def test_diff_sees_what_is_not_committed(spawner: Spawner, turned_once: Loop, copy: Copy) -> None:
    loop = copy(turned_once)
    (loop.root / SKILL / "qna.yaml").write_text(skill_files()["qna.yaml"].replace("alpha", "omega"))
    assert f"  modified   {SKILL} (qna.yaml)\n" in spawner.run(loop.root, "diff").out


def test_generate_and_samples(run: Run, turned_twice: Loop) -> None:
    asked = len(turned_twice.teacher.requests)
    rows = run("generate", "--json").json
    assert [(row["leaf"], row["reused"], row["paid"]) for row in rows] == [
        (leaf, True, 0) for leaf in (SKILL, FERRY, MILL)
    ]
    assert run("generate").out.count("reused") == 3
    assert "complete" in run("generate", "--dry-run").out
    assert run("generate", "--dry-run", "--json").json == []
    assert len(turned_twice.teacher.requests) == asked
    samples = run("samples", "--leaf", "mill", "--kind", "knowledge_long", "--json").json
    assert {(sample["kind"], sample["source"]["leaf"]) for sample in samples} == {("knowledge_long", MILL)}
    assert run("samples", "--limit", "1").out.count("  Q: ") == 1
    rejects = run("samples", "--rejects", "--json").json
    assert all(reject["reason"] for reject in rejects)


def test_a_dry_run_asks_nobody(spawner: Spawner, untouched: Loop) -> None:
    asked = len(untouched.teacher.requests)
    rows = spawner.run(untouched.root, "generate", "--dry-run", "--json").json
    assert {row["leaf"] for row in rows} == {MILL, SKILL}
    assert all(row["calls"] > 0 for row in rows)
    assert len(untouched.teacher.requests) == asked
    assert not (untouched.state / "store").exists()


def test_train_and_cycle_again(run: Run) -> None:
    assert run("train").out.startswith("nothing to train")
    assert run("cycle").out.startswith("nothing to do")
    assert run("cycle", "--json").json["outcome"] == "nothing to do"


def test_branches_are_evaluated_beside_no_other_command(turned_twice: Loop, copy: Copy) -> None:
    workspace = copy(turned_twice).workspace
    second = read_result(workspace, 2)
    with workspace.lock(), pytest.raises(TilthError, match="another tilth command"):
        _print_side_by_side(workspace, {"ferry": second}, SilentProgress())


def test_eval(run: Run) -> None:
    table = run("eval").out
    assert "6/6" in table
    assert "95 % Wilson intervals" in table
    evaluation = run("eval", "base", "2", "--json").json
    assert [name for name, _ in evaluation["models"]] == ["base", "release 2"]


def test_report_from_a_folder_below(spawner: Spawner, turned_twice: Loop) -> None:
    ran = spawner.run(turned_twice.root / "knowledge", "report")
    assert ran.out == "../.tilth/cycles/0002/report.html\n"
    assert spawner.run(turned_twice.root, "report", "1").out == ".tilth/cycles/0001/report.html\n"


def test_releases(run: Run) -> None:
    table = run("releases").out.splitlines()
    assert "release 1" in table[3]
    assert table[3].endswith("current")
    assert [release["parent"] for release in run("releases", "--json").json] == [0, 1]
    shown = run("releases", "show", "2").out
    assert "release 2 from release 1" in shown
    assert "weights sha256" in shown
    assert run("releases", "show", "2", "--json").json["number"] == 2


def test_rollback_and_export(spawner: Spawner, turned_twice: Loop, copy: Copy, tmp_path: Path) -> None:
    loop = copy(turned_twice)
    assert spawner.run(loop.root, "releases", "rollback", "1").out == "release 1 is the current one\n"
    again = spawner.run(loop.root, "cycle")
    assert again.code == 0
    assert "`tilth releases rollback 2` changes that" in again.out
    assert spawner.run(loop.root, "releases", "export", "2", str(tmp_path / "out")).code == 0
    assert json.loads((tmp_path / "out/release.json").read_text())["number"] == 2


def test_a_whole_cycle_by_command(spawner: Spawner, turned_once: Loop, copy: Copy) -> None:
    """A plan that learns nothing: train, then a cycle that goes on from there and is refused, with exit code 1."""
    loop = copy(turned_once)
    (loop.root / "plan.yaml").write_text(
        "phases: [{name: all, kinds: [skill, knowledge_short], epochs: 1, learning_rate: 1.0e-6}]"
    )
    loop.commit(FERRY, knowledge_files(FERRY))
    trained = spawner.run(loop.root / "knowledge", "train")
    assert (trained.code, trained.out) == (0, "cycle 2 is trained; next: tilth cycle\n")
    asked = len(loop.teacher.requests)
    ran = spawner.run(loop.root, "cycle")
    assert ran.code == 1
    assert f"Changed leaf {FERRY}: no change shown" in ran.out
    assert "no release" in ran.out
    assert "phase all: done already" in ran.err
    again = spawner.run(loop.root, "cycle", "--json")
    assert (again.code, again.json["outcome"], again.err) == (1, "refused", "")
    assert len(loop.teacher.requests) == asked
    assert len(spawner.run(loop.root, "releases", "--json").json) == 1
    assert "finished (refused)" in spawner.run(loop.root, "train").out


def test_an_override_is_not_written_down(spawner: Spawner, turned_twice: Loop) -> None:
    before = (turned_twice.root / "tilth.yaml").read_text()
    ran = spawner.run(turned_twice.root, "eval", "base", "--json", "--set", "eval.max_new_tokens=2")
    assert ran.json["settings"]["max_new_tokens"] == 2
    assert (turned_twice.root / "tilth.yaml").read_text() == before
