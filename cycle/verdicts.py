"""The verdict on a cycle as Markdown: for a job's summary, a comment, a chat. The first line says what came of it.

What contributors and models wrote does nothing in it (`markdown.py`), no path of this machine is told, and it fits
into a comment (GitHub takes 65,536 characters): long lists are cut, and say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..core.atomic import read_json
from ..core.errors import DataError, TilthError
from ..core.rate import Rate
from ..core.workspace import Workspace
from ..eval.compare import Comparison, Together
from ..eval.difference import Difference
from ..eval.evaluation import Evaluation
from ..eval.report.data import LeafChanges, StageReport
from ..eval.report.words import duration, interval, moment, money, points
from ..sdg.store import open_entry
from ..taxonomy.repository import resolve_commit
from ..train.results import TrainResult
from . import journal
from .basis import read_basis
from .journal import ENTRIES, EVALUATION, JUDGEMENT, TRAINED, Done, Inputs, Judgement, cycle_folder, read_record
from .markdown import code, prose, table
from .releases import current_release
from .stages import stage_reports

_MOST_REASONS, _MOST_LEAVES, _MOST_CHANGES = 20, 40, 10


def verdict_on_cycle(workspace: Workspace, number: int) -> str:
    """The verdict on a finished cycle. Raises DataError when it is not finished, or one of its files is broken."""
    inputs, done = journal.find_cycle(workspace, number), journal.done(workspace, number)
    if done is None:
        raise DataError(f"cycle {number} is not finished", fix="run `tilth cycle`, which goes on with it")
    folder = cycle_folder(workspace, number)
    evaluation, judgement = read_record(folder / EVALUATION, Evaluation), read_record(folder / JUDGEMENT, Judgement)
    reasons = [f"- {prose(reason)}" for reason in judgement.verdict.reasons]
    parts = [
        f"## {_headline(inputs, done, judgement)}",
        f"{_commit(workspace, inputs.commit)}, {moment(done.finished_at)}{_rolled_back(workspace, done)}",
        "\n".join(_first(reasons, _MOST_REASONS, "- and {} more")),
        "### Scores",
        *_scores(inputs, evaluation, judgement),
        "### What changed",
        "\n".join(_changes(inputs)),
        *_costs(workspace, inputs),
        f"The report: `tilth report {number}` writes it, `tilth report --serve` shows those of all cycles.",
    ]
    return "\n\n".join(parts) + "\n"


def verdict_on_head(workspace: Workspace) -> str:
    """The verdict on the last commit; where no cycle is about it, that there is nothing to do, or what waits.

    Raises TaxonomyError where there is no commit, DataError where a cycle's file is broken.
    """
    commit = resolve_commit(workspace.root, "HEAD")
    about = next((each for each in journal.cycles(workspace) if each.commit == commit), None)
    if about and journal.done(workspace, about.number):
        return verdict_on_cycle(workspace, about.number)
    try:
        basis = read_basis(workspace)
    except TilthError as error:
        return no_verdict(workspace, commit, str(error))
    found = journal.with_identity(workspace, basis.identity, basis.parent)
    if found and journal.done(workspace, found.number):
        return verdict_on_cycle(workspace, found.number)
    if found:
        said = f"No verdict yet: cycle {found.number} is not finished"
    elif basis.to_train:
        said = f"No verdict yet: {_leaves(len(basis.to_train))} for a cycle"
    elif (made := basis.parent) and made.commit == commit and journal.done(workspace, made.cycle):
        return verdict_on_cycle(workspace, made.cycle)
    else:
        said = "Nothing to do: the current release has seen every committed leaf"
    return "\n\n".join([f"## {said}", *_standing(workspace, commit)]) + "\n"


def no_verdict(workspace: Workspace, commit: str, error: str) -> str:
    """What to say where an error kept a cycle from its end, or from its beginning."""
    said = prose(_without_folders(error.replace(str(workspace.root), workspace.root.name)))
    return f"## No verdict: an error stands in the way\n\n{_commit(workspace, commit)}\n\n{said}\n"


def _without_folders(text: str) -> str:
    """Paths of this machine by their last part only."""
    return re.sub(r"(?<![\w:/.~<])~?/(?:[^\s/'\"`<]+/)+", "", text.replace(str(Path.home()), "~"))


def _headline(inputs: Inputs, done: Done, judgement: Judgement) -> str:
    came = f"Release {done.release}" if done.release else "No release"
    if not judgement.verdict.passed:
        forced = ", forced" if done.release else ""
        return f"{came}{forced}: the gate's verdict on cycle {inputs.number} is {judgement.verdict.outcome}"
    judged = " of a branch that is not merged" if done.outcome == "judged" else ""
    return f"{came}: the gate passed cycle {inputs.number}{judged}"


def _commit(workspace: Workspace, commit: str) -> str:
    return f"Commit {commit[:10]} of {code(workspace.root.name)}"


def _rolled_back(workspace: Workspace, done: Done) -> str:
    """Which release is current, where it is another than the cycle's."""
    current = current_release(workspace)
    return f"; {current.name} is the current one" if current and done.release not in {0, current.number} else ""


def _standing(workspace: Workspace, commit: str) -> Iterator[str]:
    """Where the loop stands when there is no verdict to tell."""
    release, last = current_release(workspace), journal.last_finished(workspace)
    yield f"{_commit(workspace, commit)}; {release.name if release else 'no release'} is the current one."
    if last and (done := journal.done(workspace, last)):
        judgement = read_record(cycle_folder(workspace, last) / JUDGEMENT, Judgement)
        said = _headline(journal.find_cycle(workspace, last), done, judgement)
        yield f"The last verdict, of {moment(done.finished_at)}: {said}."


# Scores --------------------------------------------------------------------------------------------------------------


def _scores(inputs: Inputs, evaluation: Evaluation, judgement: Judgement) -> Iterator[str]:
    parent, candidate = list(evaluation.models)[-2:]
    measured = [item for item in judgement.comparisons if item.after.total]
    if not measured:
        yield "No leaf has held-out questions: nothing was measured."
    else:
        told = _told(inputs.changes)
        measured.sort(key=lambda item: (item.verdict == "no change shown", item.leaf not in told))
        shown = measured[:_MOST_LEAVES]
        yield table(
            ["leaf", prose(parent), prose(candidate), "difference (95 %)", "paired test"],
            [_leaf(item, told.get(item.leaf, "")) for item in shown],
        )
        if len(measured) > len(shown):
            yield f"{_leaves(len(measured) - len(shown), 'is', 'are')} in the report only."
        yield "Right answers to held-out questions, with 95 % intervals; in points, what was gained less what was lost."
    yield from (_general(inputs, each, candidate) for each in judgement.together if each.name == "general set")


def _leaf(item: Comparison, change: str) -> list[str]:
    finding = item.verdict if item.verdict in {"learned", "forgotten"} else ""
    name = f"{code(item.leaf)} ({change})" if change else code(item.leaf)
    return [name, _rate(item.before), _rate(item.after), _difference(item.difference(0.025)), finding]


def _general(inputs: Inputs, group: Together, candidate: str) -> str:
    """Against the model as it came, with the bounds that the gate holds to its margin."""
    level = f"{100 * (1 - 2 * inputs.config['gate']['significance']):g} %"
    head = ["general set", prose(group.against), prose(candidate), f"difference ({level})"]
    return table(head, [["all parts", _rate(group.before), _rate(group.after), _difference(group.difference)]])


def _rate(rate: Rate) -> str:
    return f"{rate.correct}/{rate.total} ({interval(rate)})"


def _difference(found: Difference) -> str:
    return f"{points(found.value)} ({points(found.low)} to {points(found.high)})"


# What changed, and what it took --------------------------------------------------------------------------------------


def _told(changes: LeafChanges) -> Mapping[str, str]:
    """Leaf -> what happened to it."""
    groups = {"added": changes.added, "modified": changes.modified, "moved": [new for _, new in changes.moved]}
    return {leaf: said for said, leaves in groups.items() for leaf in leaves}


def _changes(inputs: Inputs) -> Iterator[str]:
    changes, told = inputs.changes, _told(inputs.changes)
    anew = [leaf for leaf in inputs.new if leaf not in told]
    groups = {
        "added": map(code, changes.added),
        "modified": map(code, changes.modified),
        "removed": map(code, changes.removed),
        "moved": (f"{code(old)} to {code(new)}" for old, new in changes.moved),
        "with new samples": map(code, anew),
    }
    for said, names in groups.items():
        listed = list(names)
        if listed:
            yield f"- {said}: {', '.join(_first(listed, _MOST_CHANGES, 'and {} more'))}"
    yield f"- as before: {len(changes.unchanged) - len(set(anew) & set(changes.unchanged)):,}"


def _costs(workspace: Workspace, inputs: Inputs) -> Iterator[str]:
    """Nothing where what the cycle was made of is no longer there."""
    folder, new = cycle_folder(workspace, inputs.number), set(inputs.new)
    try:
        names = {leaf: name for leaf, name in read_json(folder / ENTRIES).items() if leaf in new}
        made = [open_entry(workspace.store / name, leaf, reused=False) for leaf, name in names.items()]
        trained, evaluation = read_record(folder / TRAINED, TrainResult), read_record(folder / EVALUATION, Evaluation)
        stages = stage_reports(folder, made, trained, evaluation, inputs.config)
    except DataError:
        return
    yield "### Time and cost"
    price = ["price"] if any(stage.price is not None for stage in stages) else []
    head = ["stage", "time", "answers", "paid for", "tokens", *price, "tokens trained on"]
    yield table(head, [_stage(stage, priced=bool(price)) for stage in stages])
    yield "The price is that of all tokens, by `tilth.yaml`." if price else "`tilth.yaml` has no prices: tokens only."


def _stage(stage: StageReport, *, priced: bool) -> list[str]:
    asked, paid, tokens, trained = (
        "" if count is None else f"{count:,}" for count in (stage.asked, stage.paid, stage.tokens, stage.trained)
    )
    price = [] if not priced else [""] if stage.price is None else [money(stage.price)]
    took = "" if stage.seconds is None else duration(stage.seconds)
    return [prose(stage.name), took, asked, paid, tokens, *price, trained]


def _first(items: Sequence[str], most: int, rest: str) -> Iterable[str]:
    return items if len(items) <= most else [*items[:most], rest.format(f"{len(items) - most:,}")]


def _leaves(number: int, one: str = "waits", many: str = "wait") -> str:
    return f"{number:,} leaf {one}" if number == 1 else f"{number:,} leaves {many}"
