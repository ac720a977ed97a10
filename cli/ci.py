"""`tilth ci`: the files that check contributions to a taxonomy."""

from __future__ import annotations

from .. import __version__
from ..taxonomy.ci_files import HOOK, SWITCH_ON, WORKFLOW, write_ci_files
from .options import open_workspace


def ci() -> None:
    """Write the files that check contributions: a workflow and a git hook.

    The workflow lints every pull request, with annotations in place, and lists the leaves that it changes. The hook
    lints what a commit changes in leaves, for those who switch it on. What is there already is kept; commit the files
    with git.
    """
    written = write_ci_files(open_workspace().root)
    for file in written:
        print(f"wrote {file.path}" if file.written else f"kept {file.path}: it is there already")
    new = {file.path for file in written if file.written}
    if WORKFLOW in new:
        print(f"the workflow installs tilth {__version__} from the package index; say in it if yours is from elsewhere")
    if HOOK in new:
        print(f"the hook is off; a contributor switches it on with: {SWITCH_ON}")
