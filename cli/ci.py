"""`tilth ci`: the files that check contributions to a taxonomy."""

from __future__ import annotations

from ..taxonomy.ci_files import HOOK, SWITCH_ON, write_ci_files
from .options import open_workspace


def ci() -> None:
    """Write the files that check contributions: a workflow and a git hook.

    The workflow lints every pull request, with annotations in place, and lists the leaves that it changes. The hook
    lints the leaves of a commit, for those who switch it on. What is there already is kept; commit the files with git.
    """
    written = write_ci_files(open_workspace().root)
    for file in written:
        print(f"wrote {file.path}" if file.written else f"kept {file.path}: it is there already")
    if any(file.written and file.path == HOOK for file in written):
        print(f"the hook is off; a contributor switches it on with: {SWITCH_ON}")
