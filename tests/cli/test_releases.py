"""`tilth releases` and what stands below it, as a user meets it: on releases that nobody trained."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tilth.cycle.releases import set_current

from ..loop import Loop, Ran, Spawner
from ..made_releases import Made

Run = Callable[..., Ran]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = Made.at(tmp_path / "coast")
    for number in (1, 2, 3):
        made.release(number, {"knowledge/mill": "mill", f"knowledge/leaf-{number}": f"{number}"})
    return made


@pytest.fixture
def run(made: Made, spawner: Spawner) -> Run:
    """A command and its exit code; the rest of what it came to is returned."""

    def ran(*arguments: str, code: int = 0) -> Ran:
        ran = spawner.run(made.workspace.root, *arguments)
        assert ran.code == code, ran.err
        return ran

    return ran


def test_list_show_and_marks(made: Made, run: Run) -> None:
    assert run("releases", "pin", "1").out == "release 1 is pinned\n"
    run("releases", "pin", "3")
    run("releases", "prune", "--keep", "1", "--yes")
    head, _, first, second, third = run("releases").out.splitlines()
    assert head.split() == ["release", "from", "made", "commit", "right", "answers", "disk"]
    assert first.endswith("8/8 (68\N{EN DASH}100 %)  0.0 GB  pinned")
    assert (second.split()[-1], third.split()[-2:]) == ("pruned", ["pinned,", "current"])
    assert run("releases", "list").out == run("releases").out
    listed = run("releases", "list", "--json").json
    assert [(each["number"], each["pinned"], each["pruned"], each["current"]) for each in listed] == [
        (1, True, False, False), (2, False, True, False), (3, True, False, True),
    ]  # fmt: skip
    assert listed[0]["bytes"] > 100_000 > listed[1]["bytes"] > 0
    run("releases", "unpin", "1")
    assert run("releases", "prune", "--keep", "1").out.splitlines()[2].startswith("model of release 1")


def test_show_goes_down_to_the_student(made: Made, run: Run) -> None:
    made.release(4, parent=2, forced=True, verdict={"outcome": "fail", "reasons": ["Forgotten: all."]})
    made.release(5, student="walnut")
    shown = run("releases", "show", "5").out.splitlines()
    assert shown[0] == "release 5 from release 4, made 2026-03-06 12:00 UTC in cycle 5 (current)"
    at = next(place for place, line in enumerate(shown) if line.startswith("grown from"))
    assert [line.split() for line in shown[at + 2 : at + 6]] == [
        ["release", "4", "2026-03-05", "12:00", "44444444", "fail,", "released", "all", "the", "same"],
        ["release", "2", "2026-03-03", "12:00", "22222222", "pass"],
        ["release", "1", "2026-03-02", "12:00", "11111111", "pass"],
        ["nut"],
    ]
    assert shown[-2:] == ["the gate said pass", "  Changed leaves: learned."]
    told = run("releases", "show", "4", "--json").json
    assert [(each["number"], each["verdict"]["outcome"]) for each in told["ancestors"]] == [(2, "pass"), (1, "pass")]
    assert told["pruned"] is False


def test_diff(made: Made, run: Run) -> None:
    shown = run("releases", "diff", "1", "2").out
    assert shown.startswith(
        "release 2 against release 1:\n  added      knowledge/leaf-2\n  removed    knowledge/leaf-1\n"
    )
    assert f"  commit     {'1' * 40} -> {'2' * 40}\n" in shown
    assert shown.endswith("may differ; `tilth eval 1 2` asks both those of today\n")
    assert run("releases", "diff", "2", "1", "--json").json["leaves"]["added"] == ["knowledge/leaf-1"]
    releases = made.release(4, scores={"knowledge/mill": 1}), made.release(5, scores={"knowledge/mill": 8})
    made.compared(*releases)
    shown = run("releases", "diff", "4", "5").out.splitlines()
    assert shown[-3].split()[-1] == "better"
    assert shown[-1].startswith("cycle 5 asked both the same questions")
    run("releases", "prune", "--keep", "1", "--yes")
    assert run("releases", "diff", "1", "2").out.endswith("so the questions may differ\n")
    assert run("releases", "diff", "1", code=2).err.endswith("`tilth releases diff --help` shows how\n")


def test_verify(made: Made, run: Run) -> None:
    ran = run("releases", "verify")
    assert ran.out == "".join(f"release {number}: ok, 7 files\n" for number in (1, 2, 3))
    weights = made.workspace.releases / "0002/model/model.safetensors"
    weights.chmod(0o600)
    os.truncate(weights, 7)
    told = run("releases", "verify", "2", "3", code=1).out.splitlines()
    assert told[0] == "release 2: 1 fault"
    assert told[1].startswith("  .tilth/releases/0002/model/model.safetensors: changed; restore it from an export")
    assert told[2:] == ["release 3: ok, 7 files"]
    told = run("releases", "verify", "--json", code=1).json
    assert [[fault["what"] for fault in each["faults"]] for each in told] == [[], ["changed"], []]
    assert "there is no release 9" in run("releases", "verify", "9", code=2).err


def test_prune_shows_before_it_deletes(made: Made, run: Run) -> None:
    assert run("releases", "prune").out == ("nothing to prune; all releases are kept: `--keep N` lets older ones go\n")
    shown = run("releases", "prune", "--keep", "2").out.splitlines()
    assert shown[2].split() == ["model", "of", "release", "1", "0.0", "GB"]
    assert shown[3].endswith("nothing is deleted yet: `tilth releases prune --keep 2 --yes` deletes it")
    assert run("releases", "verify").out.count("pruned") == 0
    with made.workspace.lock():
        run("releases", "prune", "--keep", "2")
        assert "another tilth command" in run("releases", "prune", "--keep", "2", "--yes", code=2).err
    assert run("releases", "prune", "--keep", "2", "--yes").out == "deleted: model of release 1\nfreed 0.0 GB\n"
    assert run("releases", "prune", "--keep", "2", "--yes").out == "nothing to prune\n"
    assert run("releases", "verify").out.startswith("release 1: ok, 5 files (pruned)\n")
    assert run("releases", "show", "1").out.startswith(
        "release 1 from nut, made 2026-03-02 12:00 UTC in cycle 1 (pruned)"
    )
    said = "tilth: the model of release 1 was pruned; take a release that has its model: 2, 3\n"
    for arguments in (["releases", "rollback", "1"], ["releases", "export", "1", "x"], ["releases", "pin", "1"]):
        assert run(*arguments, code=2).err == said
    assert "--keep is '0'; write a number of at least 1" in run("releases", "prune", "--keep", "0", code=2).err


def test_the_policy_of_the_workspace_is_the_default(made: Made, run: Run) -> None:
    (made.workspace.root / "tilth.yaml").write_text("releases: {keep: 1}\n")
    set_current(made.workspace, 2)
    assert run("releases", "prune", "--yes").out.splitlines()[0] == "deleted: model of release 1"
    (made.workspace.root / "tilth.yaml").write_text("releases: {keep: 0}\n")
    assert "releases.keep" in run("releases", "prune", code=2).err


def test_a_cycle_that_made_a_release_prunes_by_the_policy_and_says_so(
    spawner: Spawner, turned_twice: Loop, copy: Callable[[Loop], Loop]
) -> None:
    """It was stopped before it could; the same command closes it."""
    loop = copy(turned_twice)
    (loop.state / "cycles/0002/done.json").unlink()
    loop.configure(releases={"keep": 1})
    ran = spawner.run(loop.root, "cycle")
    assert ran.code == 0
    assert ran.err.endswith(
        "pruned by `releases.keep: 1`: training data of cycle 1, model of release 1; freed 0.0 GB\n"
    )
    assert not (loop.state / "releases/0001/model/model.safetensors").exists()
    assert spawner.run(loop.root, "releases", "verify").code == 0
    assert spawner.run(loop.root, "cycle").out.startswith("nothing to do")


def test_no_model_of_a_pruned_release_is_chatted_with_served_or_scored(
    spawner: Spawner, turned_twice: Loop, copy: Callable[[Loop], Loop]
) -> None:
    root = copy(turned_twice).root
    assert spawner.run(root, "releases", "prune", "--keep", "1", "--yes").code == 0
    for verb in ("chat", "serve", "eval"):
        ran = spawner.run(root, verb, "1")
        assert (ran.code, ran.err.splitlines()[-1]) == (
            2, "tilth: the model of release 1 was pruned; take a release that has its model: 2",
        )  # fmt: skip
    assert [name for name, _ in spawner.run(root, "eval", "--json").json["models"]] == ["base", "release 2"]
    assert spawner.run(root, "show", "knowledge/mill").code == 0
    assert spawner.run(root, "report", "1").code == 0
    assert spawner.run(root, "cycle").out.startswith("nothing to do")


def test_readers_wait_for_no_writer(spawner: Spawner, turned_once: Loop) -> None:
    with turned_once.workspace.lock():
        for arguments in (
            ["releases"], ["releases", "verify"], ["samples"], ["tree"], ["diff"], ["ledger"], ["report"],
            ["generate", "--dry-run"],
        ):  # fmt: skip
            ran = spawner.run(turned_once.root, *arguments)
            assert ran.code == 0, (arguments, ran.err)
