"""The held-out questions that models can be asked at any time: as a cycle would hold them out now.

Those that people wrote, those that were made with the store's samples, and the general set. What something trained
holds, or chose between a phase's epochs, measures nothing and is left out; that no question of people's is trained on
is what every cycle makes sure of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..core.held_out import find_leaks
from ..core.records import Question, Sample
from ..core.workspace import Workspace
from ..eval.general import general_questions
from ..sdg.generate import plan
from ..sdg.store import Entry, is_complete, open_entry, read_preferences, read_samples, read_tests
from ..taxonomy.leaf import Leaf
from ..train.general import general_samples
from ..train.plan import load_plan
from .choosing import choosers
from .releases import releases


def held_out_questions(workspace: Workspace, leaves: Sequence[Leaf]) -> list[Question]:
    """The questions of all leaves, and the general set if `eval.general` asks for it. Raises ConfigError, DataError."""
    config = workspace.config
    planned = plan(leaves, config, workspace.store)
    entries = [open_entry(each.folder, each.leaf.id, reused=True) for each in planned if each.complete]
    written = [question for leaf in leaves for question in leaf.questions]
    tests = [test for entry in entries for test in read_tests(entry)]
    made = [*tests, *(general_questions() if config.eval.general else ())]
    if not made:
        return written
    training = load_plan(config.train.plan)
    likeness = next((each.recipe.likeness for each in planned), None)
    others = [*_trained(_of_releases(workspace, entries)), *general_samples(training)]
    leaks = [*find_leaks(made, _trained(entries), likeness), *find_leaks(made, others)]  # reworded: as a cycle looks
    out = {leak.question_id for leak in leaks}
    out |= {test.id for test in choosers(tests, training)}
    return [*written, *(question for question in made if question.id not in out)]


def _of_releases(workspace: Workspace, entries: Sequence[Entry]) -> Iterator[Entry]:
    """What releases were trained on besides."""
    now = {entry.folder.name for entry in entries}
    before = {data.entry: data.leaf for release in releases(workspace) for data in release.datasets}
    for name, leaf in before.items():
        folder = workspace.store / name
        if name not in now and is_complete(folder):
            yield open_entry(folder, leaf, reused=True)


def _trained(entries: Iterable[Entry]) -> Iterator[Sample]:
    for entry in entries:
        yield from read_samples(entry)
        yield from (side for pair in read_preferences(entry) for side in pair.sides)
