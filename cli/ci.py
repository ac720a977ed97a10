"""`tilth ci`: the files that check contributions to a taxonomy, and the one that turns the loop."""

from __future__ import annotations

from typing import Annotated

import typer

from ..core.workspace import Workspace
from ..taxonomy.ci_files import HOOK, SOURCE_VARIABLE, SWITCH_ON, CiFile, write_ci_files, write_cycle_workflow
from .options import open_workspace


def ci(
    *,
    cycle: Annotated[
        bool,
        typer.Option(
            "--cycle",
            help="Write another workflow instead: on your own runner it turns a cycle at each merge, and at night.",
        ),
    ] = False,
) -> None:
    """Write the files that check contributions, or a workflow that turns the loop.

    The one workflow lints every pull request, with annotations in place, and lists the leaves that it changes. The hook
    lints what a commit changes in leaves, for those who switch it on. The other workflow (--cycle) trains, and shows
    the verdict in the summary of its run. What is there already is kept; commit the files with git.
    """
    workspace = open_workspace()
    written = [_cycle(workspace)] if cycle else write_ci_files(workspace.root)
    for file in written:
        print(f"wrote {file.path}" if file.written else f"kept {file.path}: it is there already")
    new = {file.path for file in written if file.written}
    if new - {HOOK}:
        example = "git+https://HOST/PATH@COMMIT"
        print(f"say where the workflow gets tilth from, in the repository's variable {SOURCE_VARIABLE}: {example}")
    if HOOK in new:
        print(f"the hook is off; a contributor switches it on with: {SWITCH_ON}")


def _cycle(workspace: Workspace) -> CiFile:
    servers = (workspace.config.teacher, workspace.config.judge)
    keys = [server.api_key_env for server in servers if server and server.base_url]
    return write_cycle_workflow(workspace.root, keys)
