"""What the gate looks at: a candidate beside its parent and beside the student as it came, by leaf and together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..core.held_out import Leak
from .compare import Comparison, Together, compare, together
from .evaluation import Evaluation
from .general import is_general


@dataclass(frozen=True)
class Contest:
    """Who is compared, by the names in the evaluation, and on what."""

    base: str
    """The student as it came."""
    parent: str
    """The model that training started from; the base in the first cycle."""
    candidate: str
    leaves: Sequence[str]
    """All of the taxonomy."""
    changed: Collection[str]
    """Those whose samples are new in this cycle."""


@dataclass(frozen=True)
class Findings:
    """The numbers that a verdict rests on. `candidate` is the name of the model in `evaluation`."""

    evaluation: Evaluation
    candidate: str
    comparisons: Sequence[Comparison]
    """Of every leaf of the taxonomy, with the parent; Holm over the changed ones, and over the others."""
    changed: Collection[str]
    changed_together: Together | None
    others_together: Together | None
    general: Together | None
    """The general set, with the base: against the parent many small losses would pass one by one."""
    leaks: Sequence[Leak] = ()

    @property
    def together(self) -> tuple[Together, ...]:
        """The groups that were measured."""
        groups = (self.changed_together, self.others_together, self.general)
        return tuple(group for group in groups if group)


def find(
    evaluation: Evaluation, contest: Contest, *, significance: float, seed: int, leaks: Sequence[Leak] = ()
) -> Findings:
    """Compare them; `seed` is that of the bootstrap. Raises DataError when one of the models was not evaluated."""

    def compared(name: str, against: str, leaves: list[str]) -> tuple[tuple[Comparison, ...], Together | None]:
        found = compare(evaluation, against, contest.candidate, leaves, significance=significance)
        return found, together(name, evaluation, against, found, significance=significance, seed=seed)

    changed, changed_together = compared(
        "changed leaves", contest.parent, [leaf for leaf in contest.leaves if leaf in contest.changed]
    )
    others, others_together = compared(
        "other leaves", contest.parent, [leaf for leaf in contest.leaves if leaf not in contest.changed]
    )
    _, general = compared("general set", contest.base, [leaf for leaf in evaluation.leaves if is_general(leaf)])
    by_leaf = {item.leaf: item for item in (*changed, *others)}
    return Findings(
        evaluation=evaluation,
        candidate=contest.candidate,
        comparisons=tuple(by_leaf[leaf] for leaf in contest.leaves),
        changed=contest.changed,
        changed_together=changed_together,
        others_together=others_together,
        general=general,
        leaks=leaks,
    )
