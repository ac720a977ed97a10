"""`tilth cycle`: one turn of the loop, whatever of it is not done yet, or what it would do and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from ..core.errors import TilthError
from ..core.progress import Progress
from ..core.workspace import Workspace
from ..cycle.branches import evaluate_together
from ..cycle.explain import CycleOutlook, explain_cycle
from ..cycle.releases import current_release
from ..cycle.run import CycleResult, run_cycle
from .committed import say_uncommitted
from .options import Json, Set, open_workspace, print_json, shown_path
from .plan_outlook import print_wrapped
from .scores import print_scores
from .terminal import TerminalProgress, printable


def cycle(
    overrides: Set = [],  # noqa: B006  typer copies it
    refs: Annotated[
        list[str], typer.Option("--ref", metavar="REF", help="A branch or commit to judge instead of HEAD; repeatable.")
    ] = [],  # noqa: B006
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Release the candidate though the gate refuses it; its record says so.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which stages would run and why, and do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Generate, train, evaluate, judge, release, report: whatever is not done yet.

    With --ref the taxonomy of a branch is judged, and nothing is released; the working tree is not touched, and once
    the branch is merged a cycle only has to release. Given twice or more, the branches' candidates are shown side by
    side. Exit code 1 when the gate refuses a candidate.
    """
    if refs and force:
        raise TilthError("--force has no effect with --ref", fix="leave one of them out")
    if explain and force:
        raise TilthError("--force has no effect with --explain", fix="leave one of them out")
    workspace, progress = open_workspace(overrides), TerminalProgress()
    if not refs:
        say_uncommitted(workspace, progress)
    if explain:
        _explain(workspace, progress, refs, as_json=as_json)
        return
    results = [run_cycle(workspace, progress, force=force, ref=ref) for ref in refs or [""]]
    if as_json:
        told = [_as_json(result) for result in results]
        print_json(told if len(refs) > 1 else told[0])
    else:
        for result in results:
            print_result(result)
        _say_current(workspace, results[-1])
        if len(refs) > 1:
            _print_side_by_side(workspace, dict(zip(refs, results, strict=True)), progress)
    if any(result.outcome == "refused" for result in results):
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
    if result.outcome == "judged":
        print(f"cycle {result.number}: the gate passed; nothing is released before `tilth cycle` finds this merged")
    elif result.outcome == "released":
        gate = "the gate passed" if result.verdict.passed else f"the gate said {result.verdict.outcome}, forced"
        print(f"cycle {result.number}: {gate}; this is release {result.release}")
    else:
        print(f"cycle {result.number}: the gate says {result.verdict.outcome}; no release")
    print(f"report: {shown_path(result.report)}")


def _say_current(workspace: Workspace, result: CycleResult) -> None:
    current = current_release(workspace)
    if current and result.release not in {0, current.number}:
        print(f"{current.name} is the current one; `tilth releases rollback {result.release}` changes that")


def _print_side_by_side(workspace: Workspace, by_ref: Mapping[str, CycleResult], progress: Progress) -> None:
    """What has nothing new is the current release, which stands beside the candidates."""
    cycles = {ref: result.number for ref, result in by_ref.items() if result.evaluation}
    if not cycles or len(set(cycles.values())) < len(cycles):
        print("side by side: the branches have no cycle each, for they lead to the same samples or to none")
        return
    with workspace.lock():
        shown = evaluate_together(workspace, cycles, progress)
    print()
    print_scores(shown)


def _explain(workspace: Workspace, progress: Progress, refs: list[str], *, as_json: bool) -> None:
    outlooks = [explain_cycle(workspace, progress, ref) for ref in refs or [""]]
    if as_json:
        told = [outlook.model_dump(mode="json") for outlook in outlooks]
        print_json(told if len(refs) > 1 else told[0])
        return
    for outlook in outlooks:
        _print_outlook(outlook)


def _print_outlook(outlook: CycleOutlook) -> None:
    if not outlook.stages:
        was = f"cycle {outlook.number} is finished ({outlook.outcome})" if outlook.outcome else "nothing is new"
        print(f"nothing to do at commit {outlook.commit[:8]}: {was}")
        return
    print(f"cycle {outlook.number} at commit {outlook.commit[:8]}, from {printable(outlook.start)}")
    if outlook.because:
        print(f"another cycle than the one before: {printable(outlook.because)}")
    width = max(len(each.stage) for each in outlook.stages)
    for each in outlook.stages:
        head = f"{each.stage:{width}}  {'runs' if each.runs else '':4}  "
        print_wrapped(head + each.why, hanging=len(head))


def _as_json(result: CycleResult) -> dict[str, object]:
    return {
        "cycle": result.number,
        "outcome": result.outcome,
        "release": result.release or None,
        "verdict": result.verdict.model_dump(mode="json") if result.verdict else None,
        "comparisons": [item.model_dump(mode="json") for item in result.comparisons],
        "report": str(result.report) if result.report else None,
    }
