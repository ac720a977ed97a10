"""`tilth cycle`: one turn of the loop, whatever of it is not done yet."""

from __future__ import annotations

from typing import Annotated

import typer

from ..cycle.releases import current_release
from ..cycle.run import CycleResult, run_cycle
from .committed import say_uncommitted
from .options import Json, Set, open_workspace, print_json, shown_path
from .scores import print_scores
from .terminal import TerminalProgress


def cycle(
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Release the candidate though the gate refuses it; its record says so.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Generate, train, evaluate, judge, release, report: whatever is not done yet.

    Exit code 1 when the gate refuses the candidate.
    """
    workspace, progress = open_workspace(overrides), TerminalProgress()
    say_uncommitted(workspace, progress)
    result = run_cycle(workspace, progress, force=force)
    if as_json:
        print_json(_as_json(result))
    else:
        print_result(result)
        current = current_release(workspace)
        if current and result.release not in {0, current.number}:
            print(f"{current.name} is the current one; `tilth releases rollback {result.release}` changes that")
    if result.outcome == "refused":
        raise typer.Exit(1)


def print_result(result: CycleResult) -> None:
    """The scores, the gate's reasons, and what became of the candidate."""
    if result.evaluation is None or result.verdict is None or result.report is None:
        print(
            "nothing to do: the current release has seen every committed leaf; `tilth diff` shows what is not committed"
        )
        return
    print_scores(result.evaluation, result.comparisons)
    for reason in result.verdict.reasons:
        print(f"  {reason}")
    if result.outcome == "released":
        gate = "the gate passed" if result.verdict.passed else f"the gate said {result.verdict.outcome}, forced"
        print(f"cycle {result.number}: {gate}; this is release {result.release}")
    else:
        print(f"cycle {result.number}: the gate says {result.verdict.outcome}; no release")
    print(f"report: {shown_path(result.report)}")


def _as_json(result: CycleResult) -> dict[str, object]:
    return {
        "cycle": result.number,
        "outcome": result.outcome,
        "release": result.release or None,
        "verdict": result.verdict.model_dump(mode="json") if result.verdict else None,
        "comparisons": [item.model_dump(mode="json") for item in result.comparisons],
        "report": str(result.report) if result.report else None,
    }
