"""That no held-out question is trained on: looked at before training in all that may be, and after it in all that was.

Both leave `contamination.json`, the second in place of the first. What the trainer itself made is in the second alone:
answers of the student's own that it replays. What it answers while it is trained by rewards is in no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from pydantic import RootModel

from ..core.atomic import write_json
from ..core.errors import CheckFailed
from ..core.held_out import LEAKS_BY, Leak
from ..core.jsonl import read_records
from ..core.records import Preference, Question, Sample
from ..core.reworded import Likeness
from ..eval.contamination import ContaminationReport, Origin, Trained, contamination
from ..eval.general import general_questions
from ..sdg.store import Entry, is_complete, open_entry, read_preferences, read_samples, read_tests
from ..train.data import Item, TrainingItem
from ..train.mix import DATA_NAME, VALIDATION_NAME
from ..train.results import TrainResult
from .journal import CONTAMINATION, TRAIN
from .open_cycle import OpenCycle
from .releases import releases


def hold_out(cycle: OpenCycle, entries: Sequence[Entry], general: Sequence[Sample] = ()) -> OpenCycle:
    """The cycle with its other held-out questions, after a look at all that it may train and releases trained on.

    A generated question that stands there is left out, and so is one of the general set: samples of other leaves, and
    older ones, know nothing of it. Raises CheckFailed when one that a person wrote stands there.
    """
    tests = [test for entry in entries for test in read_tests(entry)]
    small_set = general_questions() if cycle.workspace.config.eval.general else ()
    trained = chain(_of_entries(cycle, entries), (Trained(sample, "general") for sample in general))
    report = contamination([*cycle.questions, *tests, *small_set], trained, likeness=_likeness(cycle))
    write_json(cycle.folder / CONTAMINATION, report.model_dump(mode="json"))
    _check(report, {question.id: question for question in cycle.questions})
    leaked = {leak.question_id for leak in report.leaks}
    kept = replace(
        cycle,
        tests=tuple(test for test in tests if test.id not in leaked),
        general=tuple(question for question in small_set if question.id not in leaked),
        left_out=Counter(question.leaf for question in (*tests, *small_set) if question.id in leaked),
    )
    for name, before, after in (("generated", tests, kept.tests), ("general", small_set, kept.general)):
        if len(after) < len(before):
            left_out = f"{len(before) - len(after)} {name} held-out questions are left out"
            cycle.progress.say(f"{left_out}: something trained holds them")
    return kept


def check_trained(cycle: OpenCycle, trained: TrainResult, entries: Sequence[Entry]) -> tuple[Leak, ...]:
    """The leaks in what a trained cycle was trained on: its phases' own files, and what releases before it saw.

    Other phases that it has taken over from an earlier cycle are no part of it. Raises DataError when a file is broken.
    """
    items: dict[str, TrainingItem] = {}
    folders = [cycle.folder / TRAIN / phase.folder for phase in trained.phases if phase.status == "trained"]
    for file in (folder / name for name in (DATA_NAME, VALIDATION_NAME) for folder in folders):
        for line in read_records(file, _Line) if file.exists() else ():
            items.setdefault(line.root.id, line.root)
    seen = (each for item in items.values() for each in _trained(item, item.origin))
    before = (each for each in _of_entries(cycle, entries) if each.sample.id not in items and each.origin != "new")
    questions, likeness = [*cycle.questions, *cycle.general], _likeness(cycle)
    report = contamination(questions, chain(seen, before), likeness=likeness, as_trained=True)
    write_json(cycle.folder / CONTAMINATION, report.model_dump(mode="json"))
    return report.leaks


class _Line(RootModel[TrainingItem]):
    """A line of a phase's file."""


def _of_entries(cycle: OpenCycle, entries: Sequence[Entry]) -> Iterator[Trained]:
    """All that the store has of this cycle, and what releases were trained on besides."""
    new = set(cycle.inputs.new)
    for entry in entries:
        yield from _of_entry(entry, "new" if entry.leaf in new else "earlier_cycle")
    before = {data.entry: data.leaf for release in releases(cycle.workspace) for data in release.datasets}
    now = {entry.folder.name for entry in entries}
    for name, leaf in before.items():
        folder = cycle.workspace.store / name
        if name not in now and is_complete(folder):
            yield from _of_entry(open_entry(folder, leaf, reused=True), "past_release")


def _of_entry(entry: Entry, origin: Origin) -> Iterator[Trained]:
    for item in (*read_samples(entry), *read_preferences(entry)):
        yield from _trained(item, origin)


def _trained(item: Item, origin: Origin) -> Iterator[Trained]:
    """A sample as it is, a pair as both of its conversations."""
    for sample in item.sides if isinstance(item, Preference) else (item,):
        yield Trained(sample, origin)


def _likeness(cycle: OpenCycle) -> Likeness | None:
    """From when on a question is the same one reworded: where the recipe minds that, and so has fetched the model."""
    return next((each.recipe.likeness for each in cycle.basis.planned), None)


def _check(report: ContaminationReport, written: Mapping[str, Question]) -> None:
    """Raise CheckFailed when a question that a person wrote stands in a sample."""
    leaks = [leak for leak in report.leaks if leak.question_id in written]
    if leaks:
        clearest = min(leaks, key=lambda leak: list(LEAKS_BY).index(leak.kind))
        question, count = written[clearest.question_id], len({leak.sample_id for leak in leaks})
        what = f"{count} training sample(s) hold a held-out question, such as {question.question!r}"
        fix = f"reword that question, or the seed or general sample that repeats it ({CONTAMINATION} has all of them)"
        raise CheckFailed(f"{what}, {LEAKS_BY[clearest.kind]}", where=question.leaf, fix=fix)
