"""What `tilth ci` writes, run as GitHub and git would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml
from tilth import __version__
from tilth.taxonomy.ci_files import HOOK, SWITCH_ON, WORKFLOW, write_ci_files

from .conftest import Repository

BROKEN = "version: 4\ncreated_by: ada\n"


def shell(root: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a workflow's step is run, with this `tilth` to be found."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    names = {f"GIT_{role}_{part}": "ada" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    return subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=root,
        env={**os.environ, "PATH": path, **names, **environment},
        check=False,
        capture_output=True,
        text=True,
    )


def leaf(repository: Repository, skill: dict[str, object]) -> None:
    repository.write("compositional_skills/greet/qna.yaml", skill)
    text = "Title of work: a\nLicense of the work: MIT\nCreator names: ada\n"
    repository.write("compositional_skills/greet/attribution.txt", text)


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".githooks").mkdir()
    (tmp_path / HOOK).write_text("mine")
    assert [(file.path, file.written) for file in write_ci_files(tmp_path)] == [(WORKFLOW, True), (HOOK, False)]
    assert (tmp_path / HOOK).read_text() == "mine"
    assert not any(file.written for file in write_ci_files(tmp_path))


def test_the_workflow_runs(repository: Repository, skill: dict[str, object], tmp_path: Path) -> None:
    """Its commands in a clone of a branch with one good and one broken leaf, but for the one that installs tilth."""
    write_ci_files(repository.root)
    repository.write("tilth.yaml", "")
    repository.commit()
    repository.git.git.checkout("-q", "-b", "contribution")
    leaf(repository, skill)
    repository.write("compositional_skills/broken/qna.yaml", BROKEN)
    repository.commit()
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(repository.root), str(clone)], check=True)
    workflow = yaml.safe_load((clone / WORKFLOW).read_text())
    assert workflow[True] == "pull_request"  # YAML 1.1 reads the key `on` so; GitHub does not
    assert workflow["permissions"] == {"contents": "read"}
    install, lint, diff = [step["run"] for step in workflow["jobs"]["leaves"]["steps"] if "run" in step]
    assert f'"tilth=={__version__}"' in install
    linted = shell(clone, lint)
    assert linted.returncode == 1, linted.stderr
    assert "::error file=compositional_skills/broken/qna.yaml,line=" in linted.stdout
    assert "greet" not in linted.stdout
    changed = shell(clone, diff, GITHUB_BASE_REF="main")
    assert "compositional_skills/greet" in changed.stdout, changed.stderr
    assert "compositional_skills/broken" in changed.stdout


def test_the_hook_does_nothing_until_it_is_switched_on(repository: Repository, skill: dict[str, object]) -> None:
    write_ci_files(repository.root)
    repository.write("tilth.yaml", "")
    repository.commit()
    repository.write("compositional_skills/old/qna.yaml", BROKEN)
    assert shell(repository.root, "git add . && git commit -qm off").returncode == 0
    leaf(repository, skill)
    good = shell(repository.root, f"{SWITCH_ON} && git add . && git commit -qm good")
    assert good.returncode == 0, good.stderr
    repository.write("compositional_skills/greet/qna.yaml", BROKEN)
    refused = shell(repository.root, "git add . && git commit -qm bad")
    assert refused.returncode != 0
    assert "compositional_skills/greet/qna.yaml:1:1: E104" in refused.stdout + refused.stderr
    assert "compositional_skills/old" not in refused.stdout + refused.stderr
    removed = shell(repository.root, "git rm -rqf compositional_skills/greet && git commit -qm gone")
    assert removed.returncode == 0, removed.stderr
