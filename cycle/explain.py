"""What the next training would do, for `tilth train --explain`: nothing is generated, nothing is written."""

from __future__ import annotations

from ..core.progress import Progress
from ..core.records import Record
from ..core.workspace import Workspace
from ..llm.student import student_folder
from ..sdg.generate import Planned
from ..sdg.store import open_entry, read_tests
from ..train.explain import Outlook, explain_plan
from ..train.plan import load_plan
from .basis import read_basis, training_files
from .journal import TRAIN, cycle_folder, number_of
from .past import read_past
from .releases import model_folder


class Explained(Record):
    """The plan on what the store holds now."""

    plan: str
    student: str
    """The student, or the release that training starts from."""
    new: tuple[str, ...]
    """The leaves whose samples are new."""
    without_samples: tuple[str, ...]
    """Those of them that have none yet: `tilth generate` would make them."""
    outlook: Outlook | None
    """None: there is nothing new to train."""


def explain_training(workspace: Workspace, progress: Progress) -> Explained:
    """What `tilth train` would do now, with the samples that are there. Raises as it would before training."""
    basis, config = read_basis(workspace), workspace.config
    new, parent = set(basis.new), basis.parent
    there = [each for each in basis.planned if each.complete]
    outlook, number = None, number_of(workspace, basis.identity)
    if any(each.leaf.id in new for each in there):
        outlook = explain_plan(
            load_plan(config.train.plan),
            new=training_files(each.folder for each in there if each.leaf.id in new),
            earlier=training_files(each.folder for each in there if each.leaf.id not in new),
            student=model_folder(workspace, parent) if parent else student_folder(config.student.model, progress),
            out=cycle_folder(workspace, number) / TRAIN,
            config=config,
            askable=len(there) < len(basis.planned) or any(map(_has_questions, there)),
            past=read_past(workspace, parent, number),
        )
    return Explained(
        plan=config.train.plan,
        student=f"release {parent.number}" if parent else config.student.model,
        new=basis.new,
        without_samples=tuple(each.leaf.id for each in basis.planned if not each.complete and each.leaf.id in new),
        outlook=outlook,
    )


def _has_questions(planned: Planned) -> bool:
    """Whether held-out questions were generated with the samples of a leaf."""
    return bool(read_tests(open_entry(planned.folder, planned.leaf.id, reused=True)))
