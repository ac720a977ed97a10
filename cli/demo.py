"""`tilth demo`: the loop twice on the starter taxonomy with the embedded models, a contribution in between."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import TilthError
from ..core.workspace import Workspace
from ..cycle.journal import find_cycle
from ..cycle.releases import current_release
from ..cycle.run import CycleResult, read_result, run_cycle
from ..llm.catalogue import fetch
from ..llm.ledger import Ledger
from ..llm.ledger_report import count, usage
from ..taxonomy.changes import changes
from ..taxonomy.contribute import add_files, commit_files
from ..taxonomy.source import CommitTree, WorkingTree
from ..taxonomy.starter_taxonomy import FIRST_KNOWLEDGE, FREEFORM_SKILL, GROUNDED_SKILL, SECOND_KNOWLEDGE, starter_files
from .cycle import print_result
from .diff import print_changes
from .init import make_workspace
from .options import shown_path
from .terminal import TerminalProgress, table


def demo(
    name: Annotated[
        str, typer.Argument(metavar="DIR", help="The demo's workspace; made if it is not there.")
    ] = "tilth-demo",
) -> None:
    """Show the whole loop: a first cycle, a contribution, a second cycle. Stopped and called again, it goes on."""
    workspace, progress = Workspace.open(make_workspace(name)), TerminalProgress()
    contribute(workspace.root, (FIRST_KNOWLEDGE, FREEFORM_SKILL, GROUNDED_SKILL))
    if current_release(workspace) is None:
        _fetch_teacher_meanwhile(workspace, progress)
        progress.say("1. The taxonomy has one knowledge leaf and two skills: the first cycle.")
        first = run_cycle(workspace, progress)
        if first.outcome == "refused":
            print_result(first)
            raise typer.Exit(1)
    contribute(workspace.root, (SECOND_KNOWLEDGE,))
    progress.say(f"2. A contribution comes in: {SECOND_KNOWLEDGE}. The second cycle.")
    _print_diff(workspace)
    result = run_cycle(workspace, progress)
    if result.outcome == "nothing to do":
        result = read_result(workspace, result.number)
    _print_ledger(workspace, result.number)
    _print_table(workspace, result)
    if result.outcome == "refused":
        raise typer.Exit(1)


def _fetch_teacher_meanwhile(workspace: Workspace, progress: TerminalProgress) -> None:
    """Fetch the teacher beside the unpacking of the student; whoever needs it waits for it, or tells why it failed."""

    def run() -> None:
        with contextlib.suppress(TilthError):
            fetch(workspace.config.teacher.model, progress)

    if not workspace.config.teacher.base_url:
        threading.Thread(target=run, daemon=True).start()


def contribute(root: Path, leaves: Sequence[str]) -> None:
    """Commit the starter's `leaves`, with the same functions that `tilth add` uses; one that is there stays."""
    for leaf in leaves:
        files = starter_files(leaf)
        there = (root / leaf / "qna.yaml").exists()
        paths = [root / leaf / name for name in files] if there else add_files(root, leaf, files)
        commit_files(root, paths, f"Add {leaf}")


def _print_diff(workspace: Workspace) -> None:
    release = current_release(workspace)
    if release and release.number == 1:
        print("tilth diff, against release 1:")
        print_changes(changes(CommitTree(workspace.root, release.commit), WorkingTree(workspace.root)))


def _print_ledger(workspace: Workspace, number: int) -> None:
    """What the last cycle asked the teacher, leaf by leaf, read from the ledger: proof of what it did not ask."""
    since = find_cycle(workspace, number).started_at.isoformat(timespec="microseconds")
    with Ledger(workspace.ledger) as ledger:
        leaves = sorted({use.leaf for use in usage(ledger)})
        rows = [[leaf, count(ledger, leaf=leaf), count(ledger, leaf=leaf, since=since)] for leaf in leaves]
    print(f"\n{table(rows, ['requests to the teacher, by the ledger', 'in all', f'in cycle {number}'])}")


def _print_table(workspace: Workspace, result: CycleResult) -> None:
    print()
    print_result(result)
    print(f"\nYour own taxonomy: tilth init DIR. Talk about this one: cd {shown_path(workspace.root)} and tilth --help")
