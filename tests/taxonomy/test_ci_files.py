"""What `tilth ci` writes, run as GitHub and git would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tilth.core.errors import TaxonomyError
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


def test_nothing_that_is_there_is_overwritten(repository: Repository) -> None:
    root = repository.root
    (root / ".githooks").mkdir()
    (root / HOOK).write_text("mine")
    assert [(file.path, file.written) for file in write_ci_files(root)] == [(WORKFLOW, True), (HOOK, False)]
    assert (root / HOOK).read_text() == "mine"
    assert not any(file.written for file in write_ci_files(root))


@pytest.mark.parametrize("folder", [".github", ".githooks"])
def test_nothing_is_written_through_a_link(repository: Repository, tmp_path: Path, folder: str) -> None:
    (repository.root / folder).symlink_to(tmp_path)
    with pytest.raises(TaxonomyError, match=f"{folder}: this is a link, not a folder"):
        write_ci_files(repository.root)
    assert not (tmp_path / "workflows").exists()
    assert not (tmp_path / "pre-commit").exists()


def test_a_folder_of_a_repository_is_refused(repository: Repository) -> None:
    inner = repository.root / "inner"
    inner.mkdir()
    with pytest.raises(TaxonomyError, match=r"inner: this is a folder of the git repository .*; a taxonomy is one of"):
        write_ci_files(inner)
    assert list(inner.iterdir()) == []


@pytest.mark.slow
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
    refused = shell(clone, f"python() {{ echo ran; }}; {install}", TILTH_FROM="")
    assert (refused.returncode != 0, "set this variable of the repository" in refused.stderr, refused.stdout) == (
        True,
        True,
        "",
    )
    installed = shell(clone, f'python() {{ echo "$4"; }}; {install}', TILTH_FROM="git+https://host/tilth@c0ffee")
    assert installed.stdout == "tilth @ git+https://host/tilth@c0ffee\n"
    linted = shell(clone, lint)
    assert linted.returncode == 1, linted.stderr
    assert "::error file=compositional_skills/broken/qna.yaml,line=" in linted.stdout
    assert "greet" not in linted.stdout
    changed = shell(clone, diff, GITHUB_BASE_REF="main")
    assert "compositional_skills/greet" in changed.stdout, changed.stderr
    assert "compositional_skills/broken" in changed.stdout


@pytest.fixture
def hooked(repository: Repository, skill: dict[str, object]) -> Repository:
    """A committed leaf, an old one with a fault that was committed before, and the hook switched on."""
    write_ci_files(repository.root)
    repository.write(".gitignore", ".tilth/\n")
    repository.write("tilth.yaml", "")
    repository.write("compositional_skills/old/qna.yaml", BROKEN)
    leaf(repository, skill)
    repository.commit()
    repository.git.git.config("core.hooksPath", ".githooks")
    return repository


GREET = "compositional_skills/greet"


def commits(root: Path, script: str) -> bool:
    """Whether a script ends with a commit; where it does not, lint has said why."""
    ran = shell(root, script)
    assert "Traceback" not in ran.stderr
    assert (ran.returncode == 0) == (": E" not in ran.stdout + ran.stderr), ran.stderr
    return ran.returncode == 0


@pytest.mark.slow
def test_the_hook_is_off_until_it_is_switched_on(repository: Repository) -> None:
    write_ci_files(repository.root)
    repository.write("tilth.yaml", "")
    repository.write(f"{GREET}/qna.yaml", BROKEN)
    assert shell(repository.root, "git add . && git commit -qm off").returncode == 0
    assert not commits(repository.root, f"{SWITCH_ON} && echo >> {GREET}/qna.yaml && git commit -qam on")


@pytest.mark.slow
def test_what_is_staged_counts_and_not_what_is_in_the_folder(hooked: Repository, skill: dict[str, object]) -> None:
    hooked.write(f"{GREET}/qna.yaml", {**skill, "created_by": "bob"})
    hooked.git.git.add(".")
    hooked.write(f"{GREET}/qna.yaml", BROKEN)
    assert commits(hooked.root, "git commit -qm good")
    hooked.git.git.add(".")
    hooked.write(f"{GREET}/qna.yaml", skill)
    assert not commits(hooked.root, "git commit -qm bad")
    assert commits(hooked.root, "git commit -qam mended")


@pytest.mark.slow
def test_partial_commits_and_removals(hooked: Repository, skill: dict[str, object]) -> None:
    hooked.write("compositional_skills/new/qna.yaml", {**skill, "version": 1})
    hooked.write(f"{GREET}/qna.yaml", BROKEN)
    hooked.git.git.add(".")
    assert commits(hooked.root, "git commit -qm part compositional_skills/new")
    assert not commits(hooked.root, f"cd {GREET} && git commit -qm bad qna.yaml")
    assert not commits(hooked.root, "git commit -qam bad")
    assert commits(hooked.root, "git reset -q --hard && git commit --allow-empty -qm empty")
    assert not commits(hooked.root, f"git rm -q --cached {GREET}/attribution.txt && git commit -qm bare")
    assert commits(hooked.root, f"git rm -rqf {GREET} && git commit -qm gone")


@pytest.mark.slow
def test_a_worktree_and_a_shell_without_tilth(hooked: Repository, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    hooked.git.git.worktree("add", "-q", "-b", "side", str(beside))
    assert commits(beside, f"echo '# a' >> {GREET}/qna.yaml && git commit -qam good")
    (beside / GREET / "qna.yaml").write_text(BROKEN)
    assert not commits(beside, "git commit -qam bad")
    ran = shell(hooked.root, f"echo >> {GREET}/qna.yaml; PATH=/usr/bin:/bin git commit -qam x")
    assert (ran.returncode, ran.stderr.partition(";")[0]) == (1, "pre-commit: tilth is not on the PATH")
