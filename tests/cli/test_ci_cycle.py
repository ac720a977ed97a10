"""The workflow that `tilth ci --cycle` writes: what triggers it, and its steps, run as a runner of one's own would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tilth.core.atomic import read_json
from tilth.taxonomy.ci_files import CYCLE_WORKFLOW, write_cycle_workflow
from tilth.taxonomy.contribute import commit_files, init_repository

from ..cycle.test_verdicts import refuse_second
from ..loop import FERRY, Loop, Spawner, knowledge_files

Copy = Callable[[Loop], Loop]


def workflow(root: Path) -> dict[Any, Any]:
    return yaml.safe_load((root / CYCLE_WORKFLOW).read_text())


def steps(root: Path) -> dict[str, dict[str, Any]]:
    return {step.get("name", "Checkout"): step for step in workflow(root)["jobs"]["cycle"]["steps"]}


@pytest.fixture
def written(untouched: Loop, copy: Copy, spawner: Spawner) -> Loop:
    loop = copy(untouched)
    ran = spawner.run(loop.root, "ci", "--cycle")
    assert (ran.code, ran.err) == (0, "")
    said = (
        "say where the workflow gets tilth from, in the repository's variable TILTH_FROM: git+https://HOST/PATH@COMMIT"
    )
    assert ran.out == f"wrote {CYCLE_WORKFLOW}\n{said}\n"
    return loop


def test_it_is_triggered_by_whatever_comes_to_the_default_branch(written: Loop, spawner: Spawner) -> None:
    told = workflow(written.root)
    on = told[True]  # YAML 1.1 reads the key `on` so; GitHub does not
    assert on["push"] == {"branches": ["main"]}
    assert on["schedule"] == [{"cron": "17 3 * * *"}]
    assert on["workflow_dispatch"]["inputs"]["force"]["default"] is False
    assert "pull_request" not in on
    assert told["permissions"] == {"contents": "read"}
    assert told["concurrency"] == {"group": "tilth-cycle", "cancel-in-progress": False}
    job = told["jobs"]["cycle"]
    assert (job["runs-on"], job["if"]) == ("self-hosted", "github.ref_name == 'main'")
    assert not list(written.root.glob(".githooks/*"))
    again = spawner.run(written.root, "ci", "--cycle")
    assert again.out == f"kept {CYCLE_WORKFLOW}: it is there already\n"


def test_nothing_of_an_event_is_read_by_a_shell(written: Loop) -> None:
    scripts = [step["run"] for step in steps(written.root).values() if "run" in step]
    assert len(scripts) == 4
    assert not [script for script in scripts if "${{" in script]
    assert "github.event" not in (written.root / CYCLE_WORKFLOW).read_text()


def test_the_branch_is_what_the_remote_calls_default_and_keys_are_secrets(tmp_path: Path) -> None:
    origin, root = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    init_repository(origin)
    (origin / "a").write_text("")
    commit_files(origin, [origin / "a"], "A")
    for command in (["branch", "-qm", "it's"], ["clone", "-q", ".", str(root)]):
        subprocess.run(["git", *command], cwd=origin, check=True)
    subprocess.run(["git", "checkout", "-qb", "mine"], cwd=root, check=True)
    write_cycle_workflow(root, ["MY_KEY", "OTHER", "MY_KEY", "not a: name"])
    told = workflow(root)
    assert told[True]["push"]["branches"] == ["it's"]
    assert told["jobs"]["cycle"]["if"] == "github.ref_name == 'it''s'"
    env = steps(root)["Cycle"]["env"]
    assert env == {
        "FORCE": "${{ inputs.force }}",
        "MY_KEY": "${{ secrets.MY_KEY }}",
        "OTHER": "${{ secrets.OTHER }}",
    }


# The steps -----------------------------------------------------------------------------------------------------------


@dataclass
class Runner:
    """A runner of one's own: what it keeps, and one job's folders."""

    home: Path
    checkout: Path

    def job(self, origin: Path) -> None:
        """Begin: the repository as `actions/checkout` leaves it, and an empty folder for what is temporary."""
        if not self.checkout.exists():
            subprocess.run(["git", "clone", "-q", str(origin), str(self.checkout)], check=True)
        for command in (["clean", "-qffdx"], ["pull", "-q", "--ff-only"]):
            subprocess.run(["git", *command], cwd=self.checkout, check=True)
        self.temporary = self.home.parent / f"temp{len(list(self.home.parent.glob('temp*')))}"
        self.temporary.mkdir()

    def step(self, name: str, **inputs: str) -> subprocess.CompletedProcess[str]:
        """Run a step's script with what its `env` says, where expressions are what `inputs` give, else empty."""
        step = steps(self.checkout)[name]
        own = {
            variable: re.sub(r"\$\{\{ (.*?) \}\}", lambda found: inputs.get(found[1], ""), value)
            for variable, value in step.get("env", {}).items()
        }
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "GITHUB_REPOSITORY": "ada/garden",
            "GITHUB_STEP_SUMMARY": str(self.temporary / "summary.md"),
            "RUNNER_TEMP": str(self.temporary),
            **own,
        }
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.checkout,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )

    @property
    def summary(self) -> str:
        return (self.temporary / "summary.md").read_text()

    @property
    def verdict(self) -> set[str]:
        """The files of the artifact."""
        return {path.name for path in (self.temporary / "verdict").iterdir()}


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    (tmp_path / "home").mkdir()
    return Runner(tmp_path / "home", tmp_path / "checkout")


def publish(loop: Loop) -> None:
    """Commit the workflow and the settings, so that a checkout has them."""
    write_cycle_workflow(loop.root, [])
    commit_files(loop.root, [loop.root / name for name in (CYCLE_WORKFLOW, "tilth.yaml", "plan.yaml")], "Settings")


def test_tilth_comes_from_where_the_repository_says(untouched: Loop, copy: Copy, runner: Runner) -> None:
    loop = copy(untouched)
    publish(loop)
    runner.job(loop.root)
    refused = runner.step("Install tilth")
    assert refused.returncode != 0
    assert "TILTH_FROM: set this variable of the repository" in refused.stderr


def test_the_state_outlives_the_checkout(turned_twice: Loop, copy: Copy, runner: Runner) -> None:
    loop, state = copy(turned_twice), runner.home / "tilth/ada/garden"
    publish(loop)
    state.parent.mkdir(parents=True)
    loop.state.rename(state)
    for _ in range(2):
        runner.job(loop.root)
        assert not (runner.checkout / ".tilth").exists()
        assert runner.step("State").returncode == 0
    ran = runner.step("Cycle", **{"inputs.force": "false"})
    assert (ran.returncode, ran.stdout[:13]) == (0, "nothing to do"), ran.stderr
    assert runner.step("Verdict").returncode == 0
    assert runner.summary.startswith("## Nothing to do: ")
    assert runner.verdict == {"verdict.md"}
    assert (state / "releases/0002/release.json").is_file()


def test_a_refusal_fails_the_step_and_is_shown(turned_twice: Loop, copy: Copy, runner: Runner) -> None:
    loop = copy(turned_twice)
    publish(loop)
    refuse_second(loop)
    state = {"vars.TILTH_STATE": str(loop.state)}
    runner.job(loop.root)
    assert runner.step("State", **state).returncode == 0
    assert runner.step("Cycle").returncode == 1
    assert runner.step("Verdict").returncode == 0
    assert runner.summary.startswith("## No release: the gate's verdict on cycle 2 is fail\n")


def test_an_error_is_shown(turned_once: Loop, copy: Copy, runner: Runner) -> None:
    loop = copy(turned_once)
    publish(loop)
    loop.commit(FERRY, {"qna.yaml": "version: four\n"})
    runner.job(loop.root)
    assert runner.step("State", **{"vars.TILTH_STATE": str(loop.state)}).returncode == 0
    ran = runner.step("Cycle")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert runner.step("Verdict").returncode == 0
    assert runner.summary.startswith("## No verdict: ")
    assert f"{FERRY}/qna.yaml" in runner.summary


def test_a_state_that_the_repository_brings_is_not_taken(turned_once: Loop, copy: Copy, runner: Runner) -> None:
    loop = copy(turned_once)
    publish(loop)
    for command in (["add", "-f", ".tilth/releases/current.json"], ["commit", "-qm", "mine"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=loop.root, check=True)
    runner.job(loop.root)
    assert runner.step("State").returncode == 1


@pytest.mark.slow  # a cycle in a process of its own
def test_a_push_becomes_a_release_and_its_report_an_artifact(turned_once: Loop, copy: Copy, runner: Runner) -> None:
    loop = copy(turned_once)
    publish(loop)
    loop.commit(FERRY, knowledge_files(FERRY))
    runner.job(loop.root)
    state = runner.home / "state"
    loop.state.rename(state)
    assert runner.step("State", **{"vars.TILTH_STATE": str(state)}).returncode == 0
    ran = runner.step("Cycle", **{"inputs.force": "true"})
    assert ran.returncode == 0, ran.stderr
    assert runner.step("Verdict").returncode == 0
    assert runner.summary.startswith("## Release 2: the gate passed cycle 2\n")
    assert runner.verdict == {"verdict.md", "report.html"}
    assert read_json(state / "releases/0002/release.json")["commit"] in (
        subprocess.run(["git", "log", "--format=%H"], cwd=loop.root, check=True, capture_output=True, text=True).stdout
    )
