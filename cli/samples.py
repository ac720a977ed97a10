"""`tilth samples`: look at samples, pairs, held-out questions that were made, and rejects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, get_args

import typer

from ..core.errors import TilthError, nearest
from ..core.records import Kind, Preference, Question, Reject, Sample
from ..cycle.basis import read_basis
from ..sdg.store import Entry, open_entry, read_preferences, read_rejects, read_samples, read_tests
from .options import Json, KindText, LeafText, Set, count_leaves, open_workspace, print_json, refuse_no_leaf
from .terminal import printable


def samples(  # noqa: PLR0913  the verb's options
    leaf: LeafText = "",
    kind: KindText = "",
    reason: Annotated[
        str,
        typer.Option("--reason", metavar="TEXT", help="With --rejects: only those whose step or reason contains TEXT."),
    ] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Print N at most; JSON has all.")] = 20,
    overrides: Set = [],  # noqa: B006  typer copies it
    *,
    rejects: Annotated[bool, typer.Option("--rejects", help="What the filters dropped, with their reasons.")] = False,
    as_json: Json = False,
) -> None:
    """Look at samples, or at what the filters dropped. Shown is what the store holds for the committed leaves."""
    if kind and kind not in get_args(Kind):
        raise TilthError(f"there is no kind {kind!r}", where="--kind", fix=nearest(kind, get_args(Kind)))
    if reason and not rejects:
        raise TilthError("only rejects have a reason", where="--reason", fix="add --rejects")
    workspace = open_workspace(overrides)
    planned = read_basis(workspace).planned
    refuse_no_leaf(leaf, (each.leaf.id for each in planned))
    chosen = [each for each in planned if leaf in each.leaf.id]
    entries = [open_entry(each.folder, each.leaf.id, reused=True) for each in chosen if each.complete]
    listed = _rejected if rejects else _made
    found = [each for entry in entries for each in listed(entry) if kind in {"", each.kind} and reason in each.reason]
    if as_json:
        print_json([each.as_json for each in found])
        return
    for each in found[:limit]:
        print(printable(f"[{each.kind}] {each.leaf}{f'  ({each.reason})' if each.reason else ''}"))
        for text in each.lines:
            _print_text(text)
    print(f"{min(limit, len(found)):,} of {len(found):,} shown")
    if missing := len(chosen) - len(entries):
        print(f"{count_leaves(missing)} of {len(chosen):,} without samples: run `tilth generate`")


def _print_text(text: str) -> None:
    """A model's words may have several lines, which stand under the first, and escapes, which steer a terminal."""
    first, *others = text.splitlines() or [""]
    indent = " " * (len(first) - len(first.lstrip()) + 3)
    for line in (first, *(f"{indent}{other}" for other in others)):
        print(printable(line).rstrip())


class _Listed(NamedTuple):
    kind: str
    leaf: str
    reason: str
    """Why it was dropped; empty where it was not."""
    lines: list[str]
    as_json: dict[str, Any]


def _made(entry: Entry) -> Iterator[_Listed]:
    for sample in read_samples(entry):
        yield _Listed(sample.kind, entry.leaf, "", _sample_lines(sample), sample.model_dump(mode="json"))
    for pair in read_preferences(entry):
        yield _Listed(pair.kind, entry.leaf, "", _pair_lines(pair), pair.model_dump(mode="json"))
    for question in read_tests(entry):
        yield _Listed("test", entry.leaf, "", _question_lines(question), question.model_dump(mode="json"))


def _rejected(entry: Entry) -> Iterator[_Listed]:
    for reject in read_rejects(entry):
        why = f"{reject.step}: {reject.reason} {reject.score}".strip()
        shown = reject.sample.model_dump(mode="json") | {"reason": why}
        yield _Listed(reject.sample.kind, entry.leaf, why, _reject_lines(reject), shown)


def _sample_lines(sample: Sample) -> list[str]:
    return [f"  Q: {sample.question}", f"  A: {sample.answer}"]


def _pair_lines(pair: Preference) -> list[str]:
    better = f"  better ({pair.score_chosen:g}): {pair.chosen[-1].content}"
    return [
        f"  Q: {pair.prompt[-1].content}",
        better,
        f"  worse ({pair.score_rejected:g}): {pair.rejected[-1].content}",
    ]


def _question_lines(question: Question) -> list[str]:
    options = [f"     {option}" for option in question.options]
    return [f"  Q: {question.question}", *options, f"  A: {question.answers[0]}"]


def _reject_lines(reject: Reject) -> list[str]:
    candidates = [f"     ({each.score:g}) {each.answer}" for each in reject.candidates]
    return [*_sample_lines(reject.sample), *candidates]
