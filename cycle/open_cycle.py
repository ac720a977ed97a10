"""An open cycle: what every stage of it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..core.progress import Progress
from ..core.records import Question
from ..core.workspace import Workspace
from .basis import Basis
from .journal import Inputs, cycle_folder


@dataclass(frozen=True)
class OpenCycle:
    """The workspace, what the cycle is made of, and who watches."""

    workspace: Workspace
    basis: Basis
    inputs: Inputs
    student: Path
    """The model that release 1 starts from."""
    progress: Progress
    tests: tuple[Question, ...] = ()
    """Held-out questions that were generated with the samples; none before that."""
    general: tuple[Question, ...] = ()
    """The general set, without those that something trained holds; empty where it is not asked for."""
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Leaf, or part of the general set -> how many of its held-out questions something trained holds."""
    choosing: tuple[Question, ...] = ()
    """Generated ones that choose between a phase's epochs, and so judge no model."""

    @property
    def folder(self) -> Path:
        """Where its stages leave what they made."""
        return cycle_folder(self.workspace, self.inputs.number)

    @property
    def questions(self) -> list[Question]:
        """The held-out questions of every leaf: those of people, then those that were generated."""
        return [*(question for leaf in self.basis.leaves for question in leaf.questions), *self.tests]
