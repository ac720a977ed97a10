"""Which held-out questions an evaluation asks: those that nothing trained holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..core.errors import CheckFailed
from ..core.held_out import find_leaks
from ..core.records import Sample
from ..sdg.store import Entry, is_complete, open_entry, read_preferences, read_samples, read_tests
from .open_cycle import OpenCycle
from .releases import releases


def hold_out(cycle: OpenCycle, entries: Sequence[Entry], general: Sequence[Sample] = ()) -> OpenCycle:
    """The cycle with its generated questions, after a look at all that it trains or replays and releases trained on.

    A generated question that stands there is left out: samples of other leaves, and older ones, know nothing of it.
    Raises CheckFailed when one that a person wrote stands there. Reworded ones, where the recipe minds them, are looked
    for in this cycle's samples only: older ones were made as the recipe of their day had it.
    """
    before = {data.entry: data.leaf for release in releases(cycle.workspace) for data in release.datasets}
    folders = {cycle.workspace.store / name: leaf for name, leaf in before.items()}
    older = [open_entry(folder, leaf, reused=True) for folder, leaf in folders.items() if is_complete(folder)]
    older = [entry for entry in older if entry.folder not in {entry.folder for entry in entries}]
    tests = [test for entry in entries for test in read_tests(entry)]
    written = {question.id: question for question in cycle.questions}
    likeness = next((each.recipe.likeness for each in cycle.basis.planned), None)
    asked = [*cycle.questions, *tests]
    found = find_leaks(asked, _samples(entries), likeness) + find_leaks(asked, [*_samples(older), *general])
    if leaks := [leak for leak in found if leak.question_id in written]:
        clearest = min(leaks, key=lambda leak: leak.kind)  # a copy before a near copy
        question, count = written[clearest.question_id], len({leak.sample_id for leak in leaks})
        what = f"{count} training sample(s) hold a held-out question, such as {question.question!r}"
        fix = "reword that question, or the seed or general sample that repeats it"
        raise CheckFailed(what, where=question.leaf, fix=fix)
    leaked = {leak.question_id for leak in found}
    kept = tuple(test for test in tests if test.id not in leaked)
    if len(kept) < len(tests):
        cycle.progress.say(
            f"{len(tests) - len(kept)} generated held-out questions are left out: something trained holds them"
        )
    return replace(cycle, tests=kept)


def _samples(entries: Sequence[Entry]) -> Iterator[Sample]:
    """All that may be trained, of a pair both conversations."""
    for entry in entries:
        yield from read_samples(entry)
        yield from (side for pair in read_preferences(entry) for side in pair.sides)
