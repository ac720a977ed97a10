"""What all variants train on: the samples of the five leaves, generated once by the embedded teacher.

What he said is in `answers.jsonl.gz` (`tilth ledger export`): with the same recipe and leaves nobody is asked again,
and the samples are the same wherever the experiment is run.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tilth.cli.init import make_workspace
from tilth.core.answers import is_correct
from tilth.core.errors import CheckFailed
from tilth.core.held_out import find_leaks
from tilth.core.progress import Progress
from tilth.core.workspace import Workspace
from tilth.cycle.generating import setup_of
from tilth.llm.ledger import Ledger
from tilth.llm.ledger_file import merge_ledger_file
from tilth.sdg.generate import bring_up_to_date
from tilth.sdg.store import Entry, read_samples
from tilth.taxonomy.contribute import commit_files
from tilth.taxonomy.leaf import Leaf
from tilth.taxonomy.source import CommitTree
from tilth.taxonomy.tree import read_leaves

TAXONOMY = Path(__file__).parent / "taxonomy"
ANSWERS = Path(__file__).parent / "answers.jsonl.gz"
CONTRIBUTIONS = (
    "knowledge/places/velmora_lighthouse",
    "knowledge/music/zellophar",
    "knowledge/plants/ostrelle",
    "knowledge/railways/brannock_cable_railway",
    "knowledge/games/tavrick",
)
"""The leaves in the order in which they come."""


def workspace_in(folder: Path) -> Workspace:
    """The workspace whose store and ledger hold what the teacher made; made if it is not there. Raises TilthError."""
    root = make_workspace(str(folder))
    shutil.copytree(TAXONOMY, root, dirs_exist_ok=True)
    commit_files(root, [root / "knowledge"], "Five contributions")
    return Workspace.open(root)


def generated(workspace: Workspace, progress: Progress) -> tuple[list[Leaf], list[Entry]]:
    """The leaves and their samples, in the order of the contributions.

    Raises TilthError, CheckFailed when a held-out question stands in a sample.
    """
    source = CommitTree(workspace.root, "HEAD")
    leaves = sorted(read_leaves(source), key=lambda leaf: CONTRIBUTIONS.index(leaf.id))
    with workspace.lock():
        with Ledger(workspace.ledger) as ledger:
            merge_ledger_file(ANSWERS, ledger)
        entries = bring_up_to_date(leaves, setup_of(workspace, source, None, progress), progress)
    questions = [question for leaf in leaves for question in leaf.questions]
    if leaks := find_leaks(questions, [sample for entry in entries for sample in read_samples(entry)]):
        raise CheckFailed(f"{len(leaks)} held-out questions stand in samples", fix="reword them")
    return leaves, entries


def untaught(leaves: Sequence[Leaf], entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Leaf -> its held-out questions whose answer no sample of the leaf gives: nothing that is trained can teach it."""
    given = {entry.leaf: [sample.answer for sample in read_samples(entry)] for entry in entries}
    return {
        leaf.id: [
            question.question
            for question in leaf.questions
            if not any(is_correct(answer, question.answers) for answer in given[leaf.id])
        ]
        for leaf in leaves
    }
