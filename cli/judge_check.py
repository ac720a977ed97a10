"""`tilth judge-check`: how far the judge can be trusted, measured on pairs that people have labelled."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import ConfigError
from ..llm.endpoint import identity
from ..sdg.judge_check import (
    SHIPPED_CASES,
    Agreement,
    Checked,
    agreement,
    check_judge,
    judges,
    read_cases,
    suggested,
    thresholds,
)
from ..sdg.judges import Judge
from .options import Json, Set, open_workspace, print_json, shown_path
from .scores import rate_text
from .terminal import TerminalProgress, columns, cut, printable, table


def judge_check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="JSON lines with labelled pairs; default: those that tilth ships."),
    ] = None,
    by: Annotated[
        str, typer.Option("--by", metavar="METHOD", help="answering, quoting, verdict, rubric; default: the recipe's.")
    ] = "",
    votes: Annotated[
        int,
        typer.Option(
            "--votes", metavar="N", min=0, max=15, show_default=False, help="Times to ask; default: the recipe's."
        ),
    ] = 0,
    precision: Annotated[
        float, typer.Option("--precision", metavar="SHARE", min=0, max=1, help="What a threshold is to reach.")
    ] = 0.95,
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    as_json: Json = False,
) -> None:
    """Measure the judge on labelled pairs: precision, recall, kappa, and what it got wrong.

    A line of FILE is {"passage": …, "question": …, "answer": …, "good": true}, or with "task" (and "context") for a
    skill's; "title" and "fault" help. Answers are kept in the workspace's ledger.
    """
    workspace = open_workspace(overrides)
    path = file or SHIPPED_CASES
    if not path.is_file():
        raise ConfigError(f"there is no file {str(path)!r}", fix="name a file, or none for the pairs that tilth ships")
    cases = read_cases(path)
    kinds = list(dict.fromkeys(each.case.kind for each in cases))
    asked = judges(workspace.config, kinds, by=by, votes=votes)
    with workspace.lock():
        checked = check_judge(
            cases, asked, config=workspace.config, ledger=workspace.ledger, progress=TerminalProgress()
        )
    name = identity(workspace.config.judge or workspace.config.teacher)
    groups = {kind: [each for each in checked if each.case.kind == kind] for kind in asked}
    if as_json:
        print_json({"judge": name, "kinds": {kind: _as_json(asked[kind], groups[kind], precision) for kind in asked}})
        return
    for kind, group in groups.items():
        _print_group(name, kind, asked[kind], group, precision)
    _print_wrong(shown_path(path), checked)


def _print_group(name: str, kind: str, judge: Judge, group: Sequence[Checked], precision: float) -> None:
    found, times = agreement(group), f", {judge.votes} votes" if judge.votes > 1 else ""
    unanswered = sum(each.judgement is None for each in group)
    print(f"{kind.replace('_', ' ')}: {len(group)} pairs, judged by {judge.by}{times}, {printable(name)}")
    counts = [["  good", found.good_kept, found.good_dropped], ["  bad", found.bad_kept, found.bad_dropped]]
    print(table(counts, ["  labelled", "kept", "dropped"]))
    for what, rate in (("precision", found.precision), ("recall", found.recall), ("accuracy", found.accuracy)):
        print(f"  {what:9} {rate_text(rate)}")
    print(f"  {'kappa':9} {found.kappa:.2f} ({found.kappa_low:.2f} to {found.kappa_high:.2f})")
    if unanswered:
        print(f"  {unanswered} without an answer that can be used, counted as dropped")
    if found_thresholds := thresholds(group):
        rows = [[f"  {e.lowest_score}", rate_text(e.precision), rate_text(e.recall)] for e in found_thresholds]
        print(table(rows, ["  lowest_score", "precision", "recall"]))
        best = suggested(found_thresholds, precision)
        said = f"lowest_score: {best.lowest_score}" if best else "no score"
        print(f"  a precision of {precision:.2f} is reached by {said}; in use: {judge.lowest_score}")
    print()


def _print_wrong(path: str, checked: Sequence[Checked]) -> None:
    wrong = [each for each in checked if each.kept != each.case.good]
    print(f"wrong: {len(wrong)} of {len(checked)}; the intervals are of 95 %")
    width = max(60, columns(sys.stdout) - 1)
    for each in wrong:
        verdict = "kept, though bad" if each.kept else "dropped, though good"
        why = f" ({each.case.fault})" if each.case.fault else ""
        print(printable(f"{path}:{each.line}: {verdict}{why}"))
        said = each.judgement.grades["judge"] if each.judgement else "nothing that can be used"
        for text in (f"{each.case.question}  -> {each.case.answer}", f"the judge: {said}"):
            print("  " + cut(printable(" ".join(text.split())), width - 2))


def _as_json(judge: Judge, group: Sequence[Checked], precision: float) -> dict[str, Any]:
    found: Agreement = agreement(group)
    by_score = thresholds(group)
    best = suggested(by_score, precision)
    return {
        "by": judge.by,
        "prompt": judge.prompt.name,
        "votes": judge.votes,
        "lowest_score": judge.lowest_score if by_score else None,
        "cases": len(group),
        "unanswered": sum(each.judgement is None for each in group),
        **found.model_dump(mode="json"),
        "thresholds": [each.model_dump(mode="json") for each in by_score],
        "suggested_lowest_score": best.lowest_score if best else None,
        "wrong": [
            {
                "line": each.line,
                "kept": each.kept,
                "reason": each.judgement.reason if each.judgement else "no_answer",
                "grades": each.judgement.grades if each.judgement else {},
                **each.case.model_dump(mode="json", exclude_defaults=True),
            }
            for each in group
            if each.kept != each.case.good
        ],
    }
