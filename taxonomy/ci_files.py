"""The files by which a taxonomy repository checks contributions: a workflow for pull requests, and a git hook.

The workflow is GitHub's, which others run as well (Gitea, Forgejo). The hook is tracked and does nothing until a
contributor switches it on in a clone of theirs: nobody's `git commit` changes because a repository brought a file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .. import __version__
from ..core import atomic
from ..core.errors import TaxonomyError
from .repository import git_output

WORKFLOW, HOOK = ".github/workflows/tilth.yml", ".githooks/pre-commit"
SWITCH_ON = "git config core.hooksPath .githooks"

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
      # From the package index, in the version that wrote this file. If yours comes from elsewhere, say here where from:
      # "tilth @ git+https://HOST/PATH@COMMIT", or the address of a wheel.
      - name: Install tilth
        run: python -m pip install "tilth=={__version__}"
      - name: Lint
        run: tilth lint --format github
      - name: What this pull request changes
        if: ${{{{ !cancelled() }}}}
        run: tilth diff --merge-base "origin/$GITHUB_BASE_REF"
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


def _write(root: Path, name: str, text: str, *, mode: int = 0o644) -> bool:
    path = root / name
    if os.path.lexists(path):
        return False
    try:
        atomic.write_text(path, text)
        path.chmod(mode)
    except OSError as error:
        what = f"the file cannot be written ({error.strerror})"
        raise TaxonomyError(what, where=name, fix="check that folder and its disk") from error
    return True
