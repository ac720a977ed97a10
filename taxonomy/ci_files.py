"""The files by which a taxonomy repository checks contributions and turns the loop: two workflows, and a git hook.

The workflows are GitHub's, which others run as well (Gitea, Forgejo). The hook is tracked and does nothing until a
contributor switches it on in a clone of theirs: nobody's `git commit` changes because a repository brought a file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..core import atomic
from ..core.errors import TaxonomyError
from .contribute import refuse_way
from .repository import git_output

WORKFLOW, HOOK = ".github/workflows/tilth.yml", ".githooks/pre-commit"
CYCLE_WORKFLOW = ".github/workflows/tilth-cycle.yml"
SWITCH_ON = "git config core.hooksPath .githooks"

SOURCE_VARIABLE = "TILTH_FROM"
"""The repository's variable that says where its workflows install tilth from."""
_SOURCE = f"${{{SOURCE_VARIABLE}:?set this variable of the repository, for example to git+https://HOST/PATH@COMMIT}}"
"""For a shell: empty, it ends the step with that message."""

_WORKFLOW = f"""\
# Checks every pull request; written by `tilth ci`. What lint finds is shown beside the lines that it is about.
name: tilth
on: pull_request
permissions:
  contents: read
jobs:
  leaves:
    runs-on: ubuntu-latest
    timeout-minutes: 15
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0 # diff looks for the commit that the branch came from
          persist-credentials: false
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      # tilth is on no package index, and what is called so there is somebody else's. The repository's variable
      # TILTH_FROM says where yours comes from.
      - name: Install tilth
        env:
          TILTH_FROM: ${{{{ vars.TILTH_FROM }}}}
        run: python -m pip install "tilth @ {_SOURCE}"
      - name: Lint
        run: tilth lint --format github
      - name: What this pull request changes
        if: ${{{{ !cancelled() }}}}
        run: tilth diff --merge-base "origin/$GITHUB_BASE_REF"
"""

_CYCLE_WORKFLOW = """\
# Turns the loop: generate, train, evaluate, judge, release; written by `tilth ci --cycle`. It wants a runner of your
# own, on the machine that trains.
#
# What must outlive a run (answers that were paid for, samples, releases) lies outside the checkout, which a runner
# cleans and may remove: in $HOME/tilth/OWNER/REPOSITORY, or in the folder that the repository's variable TILTH_STATE
# names. Every run must find the same folder: one machine, or storage that the runners share.
#
# Never add pull_request: a stranger's tilth.yaml would say what runs on your machine.
name: tilth cycle
on:
  push:
    branches: [@BRANCH@] # whatever changed: documents and prompts may lie anywhere, and nothing to do is soon done
  schedule:
    - cron: "17 3 * * *" # at night, UTC: goes on with what was cut off, tries again what failed
  workflow_dispatch:
    inputs:
      force:
        description: Release the candidate though the gate refuses it; its record says so
        type: boolean
        default: false
permissions:
  contents: read
concurrency: # one at a time, and none is stopped for a newer one: of those that wait, the newest has all commits
  group: tilth-cycle
  cancel-in-progress: false
defaults:
  run:
    shell: bash
jobs:
  cycle:
    if: github.ref_name == @IS_BRANCH@ # by hand, too, only what is merged
    runs-on: self-hosted # or, with labels: [self-hosted, gpu]
    timeout-minutes: 1440 # what is cut off goes on with the next run
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0 # reports show what older commits held
          persist-credentials: false
      - name: State
        env:
          TILTH_STATE: ${{ vars.TILTH_STATE }}
        run: |
          state=${TILTH_STATE:-$HOME/tilth/$GITHUB_REPOSITORY}
          mkdir -p "$state"
          rm -f .tilth
          ln -s "$state" .tilth
          touch "$RUNNER_TEMP/begun"
      # tilth is on no package index, and what is called so there is somebody else's. The repository's variable
      # TILTH_FROM says where yours comes from; what that names is installed once. If your machine wants another build
      # of PyTorch, say so here; if the runner has tilth on its PATH, remove this step.
      - name: Install tilth
        env:
          TILTH_FROM: ${{ vars.TILTH_FROM }}
        run: |
          wanted="tilth[train,teacher] @ @SOURCE@"
          place="$RUNNER_TOOL_CACHE/tilth-$(printf %s "$wanted" | sha256sum | cut -c -16)"
          if [ ! -e "$place/bin/tilth" ]; then
            python3 -m venv "$place"
            "$place/bin/pip" install --quiet "$wanted"
          fi
          echo "$place/bin" >> "$GITHUB_PATH"
      - name: Cycle
        id: cycle
        env:
          FORCE: ${{ inputs.force }}
@KEYS@        run: |
          if [ "$FORCE" = true ]; then tilth cycle --force; else tilth cycle; fi
      - name: Verdict
        if: ${{ !cancelled() && steps.cycle.outcome != 'skipped' }} # also when the gate refuses
        run: |
          mkdir -p "$RUNNER_TEMP/verdict"
          tilth report --markdown | tee "$RUNNER_TEMP/verdict/verdict.md" >> "$GITHUB_STEP_SUMMARY"
          find .tilth/ -maxdepth 3 -name report.html -newer "$RUNNER_TEMP/begun" -exec cp {} "$RUNNER_TEMP/verdict" \\;
      - name: Report
        if: ${{ !cancelled() && steps.cycle.outcome != 'skipped' }}
        uses: actions/upload-artifact@v4
        with:
          name: tilth-cycle
          path: ${{ runner.temp }}/verdict
          if-no-files-found: ignore
"""

_HOOK = f"""\
#!/bin/sh
# Lints what a commit is about to change in leaves, as it will be committed; written by `tilth ci`.
# To switch it on, once in every clone:
#   {SWITCH_ON}
if ! command -v tilth >/dev/null; then
    echo "pre-commit: tilth is not on the PATH; activate its environment, or commit with --no-verify" >&2
    exit 1
fi
exec tilth lint --staged
"""


class CiFile(NamedTuple):
    """One of the files, by its path from the root, and whether it was written; it was there already if not."""

    path: str
    written: bool


def write_ci_files(root: Path) -> list[CiFile]:
    """Write the files that are not there; what is there is kept as it is.

    Raises TaxonomyError, also where `root` is no repository's top folder: nobody looks for them elsewhere.
    """
    git_output(root, "rev-parse", "--git-dir")
    return [CiFile(WORKFLOW, _write(root, WORKFLOW, _WORKFLOW)), CiFile(HOOK, _write(root, HOOK, _HOOK, mode=0o755))]


def write_cycle_workflow(root: Path, key_names: Iterable[str]) -> CiFile:
    """Write the workflow that turns the loop, if it is not there; `key_names` are the variables with models' keys.

    It runs when the default branch moves. Raises TaxonomyError as `write_ci_files`.
    """
    branch, keys = _default_branch(root), sorted(name for name in set(key_names) if name.isidentifier())
    text = _CYCLE_WORKFLOW
    for mark, value in {
        "@SOURCE@": _SOURCE,
        "@BRANCH@": json.dumps(branch),
        "@IS_BRANCH@": "'{}'".format(branch.replace("'", "''")),
        "@KEYS@": "".join(f"          {name}: ${{{{ secrets.{name} }}}}\n" for name in keys),
    }.items():
        text = text.replace(mark, value)
    return CiFile(CYCLE_WORKFLOW, _write(root, CYCLE_WORKFLOW, text))


def _default_branch(root: Path) -> str:
    """What the remote calls so; without one, the branch that is checked out."""
    for name in ("refs/remotes/origin/HEAD", "HEAD"):
        try:
            found = git_output(root, "symbolic-ref", "--short", name)
        except TaxonomyError:
            continue
        return found.decode(errors="replace").strip().removeprefix("origin/")
    return "main"


def _write(root: Path, name: str, text: str, *, mode: int = 0o644) -> bool:
    path = root / name
    if os.path.lexists(path):
        return False
    refuse_way(root, name.rpartition("/")[0])
    try:
        atomic.write_text(path, text)
        path.chmod(mode)
    except OSError as error:
        what = f"the file cannot be written ({error.strerror})"
        raise TaxonomyError(what, where=name, fix="check that folder and its disk") from error
    return True
