"""What goes wrong through no fault of ours is told in one line, with the right exit code and without a traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..loop import FERRY, MILL, SKILL, Loop, Spawner, knowledge_files, skill_files

Fails = Callable[..., str]


@pytest.fixture
def fails(spawner: Spawner) -> Fails:
    """Runs a command that must fail; returns its one line without the name. `progress`: other lines may precede it."""

    def told(
        folder: Path, *arguments: str, code: int = 2, progress: bool = False, trains: bool = False, **more: str
    ) -> str:
        ran = spawner.run(folder, *arguments, trains=trains, **more)
        lines = ran.err.splitlines()
        assert (ran.code, ran.out) == (code, ""), ran.err
        assert "Traceback" not in ran.err
        assert [line for line in lines if line.startswith("tilth: ")] == (lines[-1:] if progress else lines)
        return lines[-1].removeprefix("tilth: ")

    return told


@pytest.fixture
def loop(untouched: Loop, copy: Callable[[Loop], Loop]) -> Loop:
    return copy(untouched)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lnt"], "there is no verb 'lnt'; did you mean 'lint'?"),
        (["lint", "--jsn"], "no such option: --jsn (Possible options: --json); `tilth lint --help` shows how"),
        (
            ["lint", "--format", "xml"],
            "'xml' is not one of 'text', 'json', 'github', 'sarif'; `tilth lint --help` shows how",
        ),
        (["add", "knowledge"], "missing argument 'PATH'; `tilth add --help` shows how"),
        (["add"], "Choose from: knowledge, skill; `tilth add --help` shows how"),
        (["releases", "show", "x"], "`tilth releases show --help` shows how"),
        (["releases", "shw"], "Did you mean 'show'; `tilth releases --help` shows how"),
        (["samples", "--limit", "0"], "--limit is '0'; write a number of at least 1; `tilth samples --help` shows how"),
        (["lint", "--workers", "x"], "--workers is 'x'; write a whole number; `tilth lint --help` shows how"),
        (["report", "x"], "CYCLE is 'x'; write a whole number; `tilth report --help` shows how"),
        (["add", "x", "y"], "KIND: 'x' is not one of 'knowledge', 'skill'; `tilth add --help` shows how"),
        (["add", "skill", "x", "--task"], "option '--task' requires an argument; `tilth add --help` shows how"),
        (["--bad"], "no such option: --bad; `tilth --help` shows how"),
        (["zzz"], ", serve, show, train, tree, watch"),
        (["diff", "--quiet", "--json"], "--quiet prints nothing; leave it or --json out"),
        (["lint", "--json", "--format", "sarif"], "--json and --format sarif are two forms; leave one of them out"),
        (
            ["add", "knowledge", "x", "--grounded"],
            "--grounded is for skills; leave it out: knowledge rests on its documents",
        ),
        (
            ["generate", "--dry-run", "--max-calls", "5"],
            "neither a limit nor --ray has an effect; leave it out, or the other option",
        ),
        (["generate", "--ray", ""], "--ray is empty; name the cluster's address or `local`, or leave it out"),
    ],
)
def test_wrong_usage(fails: Fails, tmp_path: Path, arguments: list[str], line: str) -> None:
    assert fails(tmp_path, *arguments).endswith(line)


@pytest.mark.parametrize("verb", ["generate", "samples", "train", "eval", "cycle", "report", "releases"])
def test_no_workspace(fails: Fails, tmp_path: Path, verb: str) -> None:
    assert fails(tmp_path, verb) == f"{tmp_path}: there is no tilth.yaml; run `tilth init` first"


@pytest.mark.parametrize("verb", ["lint", "diff"])
def test_no_taxonomy(fails: Fails, tmp_path: Path, verb: str) -> None:
    assert fails(tmp_path, verb) == f"{tmp_path}: there is no taxonomy here; go into one, or run `tilth init` here"


@pytest.mark.parametrize("verb", ["lint", "cycle", "releases"])
def test_an_unknown_key(fails: Fails, loop: Loop, verb: str) -> None:
    (loop.root / "tilth.yaml").write_text("seed: 1\nteacher:\n  modle: x\n")
    assert fails(loop.root, verb) == "tilth.yaml:3:3: unknown key 'teacher.modle'; did you mean 'model'?"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("gate.significanse=0.1", "--set gate.significanse=0.1: unknown key 'gate.significanse'; did you mean"),
        ("seed", "--set: cannot read 'seed'; write it as section.key=value"),
        ("teacher=3", "--set teacher=3: teacher is 3; write keys and values: model, base_url"),
        ("lint.licenses=3", "--set lint.licenses=3: lint.licenses is 3; write a list: [a, b]"),
        ("train.plan=labb", "train.plan: there is no plan 'labb'; did you mean 'lab'?"),
        ("train.plan=none.yaml", "none.yaml: the file does not exist"),
        ("generate.recipe=quik", "recipes: there is no recipe 'quik'; did you mean 'quick'?"),
        ("generate.recipe=none.yaml", "none.yaml"),
        ("student.model=./none", "student.model: there is no model './none'"),
        ("teacher.base_url=localhost:8000", "teacher.base_url: 'localhost:8000' is no http address; write it"),
    ],
)
def test_a_wrong_setting(fails: Fails, loop: Loop, override: str, line: str) -> None:
    assert line in fails(loop.root, "cycle", "--set", override)


def test_a_place_that_is_no_place(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "odd" / "tilth.yaml").mkdir(parents=True)
    for verb in ("init", "demo"):
        assert fails(tmp_path, verb, "file") == f"{tmp_path}/file: this is no folder; name a folder, new or not"
        assert fails(tmp_path, verb, "file/x").endswith("cannot be made (not a directory); name another place")
        assert fails(tmp_path, verb, "") == "DIR is empty; name a folder, or leave it out"
        assert fails(tmp_path, verb, "odd").endswith("tilth.yaml: a folder stands where a file has to be; move it away")


def test_a_workspace_with_wrong_settings_is_not_adopted(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "tilth.yaml").write_text("- a\n")
    assert fails(tmp_path, "init").startswith("tilth.yaml:1:1: the file is a list of 1; write keys and values: seed, ")
    assert not (tmp_path / ".git").exists()


def test_a_repository_that_git_cannot_read(fails: Fails, loop: Loop) -> None:
    (loop.root / ".git" / "index").write_bytes(b"no index")
    for arguments in (["lint"], ["tree"], ["diff"], ["show", "mill"]):
        line = fails(loop.root, *arguments, progress=True)
        assert "index file smaller than expected; mend that with git: `git status`" in line
    (loop.root / ".git" / "HEAD").write_text("nothing")
    assert "mend that with git" in fails(loop.root, "lint")


def test_a_wrong_plan(fails: Fails, loop: Loop) -> None:
    (loop.root / "plan.yaml").write_text("phases:\n  - name: a\n    kinds: [skil]\n    learning_rate: 1\n")
    assert "plan.yaml:3:13: " in fails(loop.root, "cycle")


@pytest.mark.parametrize("verb", ["cycle", "samples", "eval"])
def test_a_broken_leaf(fails: Fails, loop: Loop, verb: str) -> None:
    loop.commit(SKILL, {"qna.yaml": "version: 4\nseed_examples: [\n"})
    assert fails(loop.root, verb).startswith(f"{SKILL}/qna.yaml:3:1: not valid YAML: ")


def test_a_broken_leaf_stops_no_other_from_being_made(spawner: Spawner, loop: Loop) -> None:
    loop.commit(SKILL, {"qna.yaml": "version: 4\nseed_examples: [\n"})
    ran = spawner.run(loop.root, "generate")
    assert (ran.code, "Traceback" in ran.err) == (2, False)
    assert f"{MILL} " in ran.out
    last = ran.err.splitlines()[-1]
    assert last.startswith(f"tilth: 1 leaf is not complete: {SKILL}: qna.yaml:3:1: not valid YAML: ")


def test_a_missing_document(fails: Fails, loop: Loop) -> None:
    files = knowledge_files(FERRY)
    loop.commit(FERRY, {"qna.yaml": files["qna.yaml"]})
    assert f"{FERRY}/qna.yaml:" in (line := fails(loop.root, "cycle"))
    assert "page.md" in line


def test_a_dead_teacher(fails: Fails, loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    loop.configure(teacher={"model": "rule", "base_url": f"http://127.0.0.1:{port}/v1"})
    for verb in ("generate", "cycle"):
        line = f"cannot reach the teacher at http://127.0.0.1:{port}/v1; start it or set teacher.base_url"
        assert fails(loop.root, verb, progress=True) == line


def test_no_repository_and_no_commit(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "tilth.yaml").write_text("")
    assert fails(tmp_path, "cycle") == f"{tmp_path}: this is no git repository; run `tilth init` there"
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert fails(tmp_path, "cycle").startswith(f"{tmp_path}: there is no commit 'HEAD'")
    assert fails(tmp_path, "diff", "HEAD~3").startswith(f"{tmp_path}: there is no commit 'HEAD~3'")


def test_an_empty_taxonomy(fails: Fails, spawner: Spawner, tmp_path: Path) -> None:
    spawner.run(tmp_path, "init", "--empty")
    assert fails(tmp_path, "cycle") == f"{tmp_path}: the taxonomy has no committed leaf; run `tilth add`"


def test_an_unknown_release_or_cycle(fails: Fails, turned_once: Loop, loop: Loop) -> None:
    for arguments in (["releases", "show", "7"], ["releases", "rollback", "7"], ["releases", "export", "7", "x"]):
        assert fails(turned_once.root, *arguments) == "there is no release 7; releases: 1"
    assert fails(turned_once.root, "eval", "7", progress=True) == "there is no release 7; releases: 1"
    assert fails(turned_once.root, "report", "7") == "there is no finished cycle 7; run `tilth cycle` first"
    assert fails(loop.root, "report") == "there is no finished cycle; run `tilth cycle` first"


FULL = """
import errno, os
real = os.fsync
def full(descriptor):
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    if "%s" in path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    real(descriptor)
os.fsync = full
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["cycle.json", "samples.jsonl", "model.safetensors", "eval.json"])
def test_a_full_disk(fails: Fails, untouched: Loop, spawner: Spawner, loop: Loop, place: str) -> None:
    (loop.root / "plan.yaml").write_text("phases: [{name: all, kinds: [skill], epochs: 1, learning_rate: 1.0e-5}]")
    line = fails(loop.root, "cycle", progress=True, trains=True, before=FULL % place)
    assert "space" in line
    again = spawner.run(loop.root, "cycle")
    assert again.code == 1
    assert "the gate says" in again.out


def test_an_unreachable_registry(fails: Fails, loop: Loop, tmp_path: Path) -> None:
    nothing = {"TILTH_CACHE": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "HF_HUB_OFFLINE": "1"}
    for verb, settings in (("generate", {"teacher": {}}), ("cycle", {"student": {}})):
        loop.configure(**settings)
        line = fails(loop.root, verb, progress=True, **nothing)
        assert "pip" in line
        assert "run the same command again" in line


def test_a_held_out_question_in_the_training_data(
    fails: Fails, turned_once: Loop, copy: Callable[[Loop], Loop]
) -> None:
    loop = copy(turned_once)
    seed = '- {question: "From what was the wheel that Orla Mill uses once cut or cast?", answer: larch}\n'
    loop.commit("compositional_skills/riddles", {"qna.yaml": skill_files()["qna.yaml"] + seed})
    line = fails(loop.root, "cycle", code=1, progress=True, trains=True)
    assert line.startswith(f"{MILL}: ")
    assert "hold a held-out question, such as 'From what was the wheel that Orla Mill uses" in line


def test_two_commands_at_once(fails: Fails, loop: Loop) -> None:
    with loop.workspace.lock():
        assert "another tilth command" in fails(loop.root, "cycle")
        assert "another tilth command" in fails(loop.root, "generate")


def test_a_tampered_store(fails: Fails, turned_once: Loop, copy: Callable[[Loop], Loop]) -> None:
    loop = copy(turned_once)
    next(loop.state.glob("store/*/samples.jsonl")).write_text("{}\n")
    assert "not the file that was written" in fails(loop.root, "samples")


def test_state_that_is_no_state(fails: Fails, turned_once: Loop, copy: Callable[[Loop], Loop]) -> None:
    state = copy(turned_once).state
    for path, text, verb, line in (
        (
            "cycles/0001/eval.json",
            "{}",
            "report",
            "not the Evaluation that was written: the key 'settings' is missing; ",
        ),
        ("cycles/0001/entries.json", "{}", "report", "not the leaves with their entries that were written; restore it"),
        ("cycles/0001/cycle.json", "[]", "report", "not the JSON that was written; restore it, or remove its folder"),
        ("releases/0001/release.json", "{}", "releases", "not a release: the key 'number' is missing; restore it"),
        ("releases/0001/release.json", "{", "diff", "; restore it, or remove its folder: a release is never made"),
    ):
        whole = (state / path).read_text()
        (state / path).write_text(text)
        assert line in fails(state.parent, verb)
        (state / path).write_text(whole)
    manifest = next(state.glob("store/*/manifest.json"))
    manifest.write_text("{}")
    assert "not a manifest: the key 'leaf' is missing; remove the folder" in fails(state.parent, "tree")


@pytest.mark.parametrize(
    ("verb", "closed"),
    [("lint", ">&-"), ("lint", "2>&-"), ("lint", "<&- >&- 2>&-"), ("lint", "| true"), ("schema", "| true")],
)
def test_nobody_listens(loop: Loop, verb: str, closed: str) -> None:
    """A short output is refused where it is flushed, a long one where it is printed."""
    command = f"set -o pipefail; {sys.executable} -m tilth.cli.main {verb} {closed}"
    ran = subprocess.run(["bash", "-c", command], cwd=loop.root, check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_folder_that_may_not_be_written(fails: Fails, loop: Loop) -> None:
    (loop.root / ".tilth").write_text("a file in the way")
    assert ".tilth" in fails(loop.root, "cycle")
