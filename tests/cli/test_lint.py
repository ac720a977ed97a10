"""`tilth lint` and `tilth migrate`: what they print in each format, what they write, and where they work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from tilth.cli.lint import Format, lint
from tilth.cli.migrate import migrate
from tilth.core.errors import ConfigError, TaxonomyError, TilthError
from tilth.taxonomy.lint import load_rules

PLACE = "compositional_skills/count/qna.yaml"
COUNT = "# How many.\ncreated_by: ada \ntask_description: Count.\nseed_examples:\n- question: How many?\n  answer: 7\n"
MENDED = COUNT.replace("ada ", "ada").replace("7", '"7"')
GREET = "created_by: ada\ntask_description: Greet.\nseed_examples:\n" + "".join(
    f"- {{question: 'Greet {name}.', answer: 'Hello, {name}.'}}\n" for name in "ABCDE"
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with leaves that no git and no tilth ever saw."""
    write(tmp_path / "taxonomy" / PLACE, COUNT)
    monkeypatch.chdir(tmp_path / "taxonomy")
    return tmp_path / "taxonomy"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def run(verb: Any, *paths: str, **options: Any) -> tuple[int, str]:
        try:
            verb([Path(path) for path in paths] or None, **options)
            code = 0
        except typer.Exit as end:
            code = end.exit_code
        return code, capsys.readouterr().out

    return run


def write(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def files(root: Path) -> dict[str, bytes]:
    return {str(place): place.read_bytes() for place in root.rglob("*") if place.is_file()}


def test_text(run):
    assert run(lint) == (
        1,
        f"""\
{PLACE}:2:16: W202 spaces at the end of the line; remove them
{PLACE}:6:3: E105 seed_examples.0.answer: YAML reads this as the number 7, not as text; put it in quotes
1 error, 1 warning in 1 file; `tilth lint --fix` mends 2 of them
""",
    )


def test_paths_are_told_as_seen_from_here(run, root, monkeypatch):
    monkeypatch.chdir(root / "compositional_skills")
    code, told = run(lint, "count")
    assert (code, told.splitlines()[0].split(" ")[0]) == (1, "count/qna.yaml:2:16:")
    with pytest.raises(TaxonomyError, match="outside the taxonomy"):
        run(lint, "../..")


def test_what_a_terminal_would_obey_is_not_printed(run, root):
    write(root / "compositional_skills/\x1b[31mred/qna.yaml", COUNT)
    assert "\x1b" not in run(lint)[1]
    assert "\x1b" not in run(lint, diff=True)[1]


def test_json(run):
    code, told = run(lint, as_json=True)
    assert code == 1
    assert json.loads(told) == json.loads(run(lint, form=Format.json)[1])
    assert json.loads(told)[0] == {
        "code": "W202",
        "severity": "warning",
        "path": PLACE,
        "line": 2,
        "column": 16,
        "message": "spaces at the end of the line; remove them",
        "fixable": True,
    }


def test_github(run, root):
    write(root / "compositional_skills/a,b:c%/qna.yaml", GREET.replace("Greet.", "50 %: 5", 1))
    code, told = run(lint, form=Format.github)
    assert code == 1
    place = "file=compositional_skills/a%2Cb%3Ac%25/qna.yaml"
    assert told.splitlines()[0].startswith(f"::warning {place},line=1,col=1,title=W208::the folder name 'a,b:c%25' has")
    assert told.splitlines()[1].startswith(f"::error {place},line=2,col=23,title=E101::not valid YAML: ")
    (root / "compositional_skills/a,b:c%/qna.yaml").unlink()
    assert run(lint, fix=True)[0] == 0
    assert run(lint, form=Format.github) == (0, "")


def test_sarif(run, root):
    write(root / "compositional_skills/ä b/qna.yaml", COUNT)
    code, told = run(lint, form=Format.sarif)
    log = json.loads(told)
    assert (code, log["version"], set(log)) == (1, "2.1.0", {"$schema", "version", "runs"})
    [part] = log["runs"]
    assert (part["columnKind"], part["tool"]["driver"]["name"]) == ("unicodeCodePoints", "tilth")
    rules = part["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["E105", "W202", "W208"]
    assert all(rule["fullDescription"]["text"] in rule["help"]["markdown"] for rule in rules)
    for result in part["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert rules[result["ruleIndex"]]["defaultConfiguration"]["level"] == result["level"]
        [location] = result["locations"]
        assert min(location["physicalLocation"]["region"].values()) >= 1
    uris = {result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in part["results"]}
    assert uris == {PLACE, "compositional_skills/%C3%A4%20b/qna.yaml"}
    (root / "compositional_skills/ä b/qna.yaml").unlink()
    run(lint, fix=True)
    assert json.loads(run(lint, form=Format.sarif)[1])["runs"][0]["results"] == []


def test_every_rule_has_a_level(run):
    assert {rule.severity for rule in load_rules().values()} == {"error", "warning"}


def test_diff_writes_nothing(run, root):
    before = files(root)
    code, told = run(lint, diff=True)
    assert (code, files(root)) == (1, before)
    assert told.startswith(
        f"--- a/{PLACE}\n+++ b/{PLACE}\n@@ -1,6 +1,6 @@\n # How many.\n-created_by: ada \n+created_by"
    )
    assert run(lint, diff=True, fix=True) == (code, told)
    assert files(root) == before


def test_fix_mends_shows_and_lints_the_rest(run, root):
    (root / PLACE).chmod(0o600)
    code, told = run(lint, fix=True)
    assert code == 0
    assert told.endswith('-  answer: 7\n+  answer: "7"\nmended 1 file\nno findings\n')
    assert (root / PLACE).read_text() == MENDED
    assert (root / PLACE).stat().st_mode & 0o777 == 0o600
    assert run(lint, fix=True) == (0, "no findings\n")
    assert run(lint, diff=True) == (0, "")
    assert [place.name for place in (root / PLACE).parent.iterdir()] == ["qna.yaml"]


def test_fix_writes_through_no_link(run, root, tmp_path):
    write(tmp_path / "outside.yaml", COUNT)
    (root / PLACE).unlink()
    (root / PLACE).symlink_to(tmp_path / "outside.yaml")
    run(lint, fix=True)
    assert (tmp_path / "outside.yaml").read_text() == COUNT


def test_results_stay_alone_on_standard_output(root, capsys):
    lint(None, form=Format.json, fix=True)
    told = capsys.readouterr()
    assert json.loads(told.out) == []
    assert "mended 1 file" in told.err


def test_nothing_is_left_behind_where_tilth_was_never_set_up(run, root):
    before = files(root).keys()
    run(lint)
    assert files(root).keys() == before


def test_in_a_workspace_its_settings_count_and_what_was_found_is_kept(run, root):
    write(root / "compositional_skills/greet/qna.yaml", f"version: 3\n{GREET}")
    (root / PLACE).unlink()
    assert "E131" in run(lint)[1]
    write(root / "tilth.yaml", "lint: {attribution: false}\n")
    assert run(lint) == (0, "no findings\n")
    assert (root / ".tilth/lint.db").is_file()


def test_where_there_is_no_taxonomy(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no taxonomy here; go into one"):
        run(lint)


def test_staged_only_looks(run):
    with pytest.raises(TilthError, match="--staged only looks; run --fix without it"):
        run(lint, staged=True, fix=True)
    with pytest.raises(TaxonomyError, match="this is no git repository"):
        run(lint, staged=True)


def test_what_is_staged_is_judged_by_the_settings_that_are_staged(run, root):
    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)

    git("init", "-q")
    write(root / "tilth.yaml", "lint: {attribution: false}\n")
    write(root / PLACE, f"version: 3\n{GREET}")
    git("add", ".")
    write(root / PLACE, COUNT)
    write(root / "tilth.yaml", "")
    assert run(lint, staged=True) == (0, "no findings\n")
    git("add", "tilth.yaml")
    code, told = run(lint, "compositional_skills", staged=True)
    assert (code, f"{PLACE}:1:1: E131" in told) == (1, True)
    git("add", "compositional_skills")
    assert run(lint, staged=True)[1].startswith(f"{PLACE}:2:16: W202")


def test_migrate_goes_on_past_a_file_that_is_not_read(run, root):
    write(root / "compositional_skills/greet/qna.yaml", GREET)
    with (root / PLACE).open("wb") as file:
        file.truncate(33 << 20)
    code, told = run(migrate)
    assert (code, f"{PLACE}: the file has 33 MB, at most 32 are read; split it\n1 leaf brought" in told) == (1, True)
    assert f"{PLACE}:1:1: E114 the file has 33 MB" in run(lint)[1]


def test_migrate(run, root):
    write(root / "compositional_skills/greet/qna.yaml", GREET)
    before = files(root)
    shown = run(migrate, diff=True)
    assert (shown[0], files(root)) == (1, before)
    assert run(migrate) == (
        1,
        f"""\
--- a/compositional_skills/greet/qna.yaml
+++ b/compositional_skills/greet/qna.yaml
@@ -1,3 +1,4 @@
+version: 4
 created_by: ada
 task_description: Greet.
 seed_examples:
{PLACE}:6:3: seed_examples.0.answer: YAML reads this as the number 7, not as text; put it in quotes
1 leaf brought to version 4, which wants an attribution.txt: 1 leaf without
1 leaf left as before: the lines above say what is missing
""",
    )
    assert (root / "compositional_skills/greet/qna.yaml").read_text() == f"version: 4\n{GREET}"
    assert (root / PLACE).read_text() == COUNT
    assert run(migrate, "compositional_skills/greet") == (0, "0 leaves brought to version 4\n")


@pytest.mark.slow
def test_a_reader_who_goes_is_no_error_and_changes_no_exit_code(tmp_path: Path) -> None:
    (tmp_path / "knowledge/x").mkdir(parents=True)
    (tmp_path / "knowledge/x/qna.yaml").write_text("version: 4\n")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        ran = subprocess.run(
            [sys.executable, "-m", "tilth.cli.main", "lint"],
            cwd=tmp_path,
            stdout=gone,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (1, b"")
