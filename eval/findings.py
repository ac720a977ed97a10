"""What the gate looks at: a candidate beside its parent and beside the student as it came, by leaf and together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ..core.held_out import Leak
from .compare import Comparison, Together, compare, together
from .evaluation import Evaluation
from .general import is_general
from .statistics import mcnemar

LEARNERS = "the releases that learned them"
"""Stands for the model before: of each leaf another."""


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
    known: Collection[str] = ()
    """Those that the parent, or a release that it grew from, was trained on, as they were then."""
    measured: Collection[str] = ()
    """Those to which the parent had held-out questions when it was released."""
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Leaf -> how many of its held-out questions, or of that part of the general set, stand in what may be trained."""


@dataclass(frozen=True)
class Findings:
    """The numbers that a verdict rests on. `candidate` is the name of the model in `evaluation`."""

    evaluation: Evaluation
    candidate: str
    comparisons: Sequence[Comparison]
    """Of every leaf of the taxonomy, with the parent; Holm over the changed ones, and over the others."""
    contest: Contest
    changed: Collection[str]
    """Those of which a gain is asked: not one that the parent was trained on, and answers so well that there is no room
    to show one. Such a leaf is held to what the others are."""
    changed_together: Together | None
    others_together: Together | None
    since_learned: Together | None
    """The other leaves with the releases that learned them, and the general set with the base: against the parent many
    small losses would pass one by one."""
    general: Together | None
    leaks: Sequence[Leak] = ()

    @property
    def together(self) -> tuple[Together, ...]:
        """The groups that were measured."""
        groups = (self.changed_together, self.others_together, self.since_learned, self.general)
        return tuple(group for group in groups if group)


def find(
    evaluation: Evaluation,
    contest: Contest,
    *,
    significance: float,
    seed: int,
    learned: Evaluation | None = None,
    leaks: Sequence[Leak] = (),
) -> Findings:
    """Compare them; `seed` is that of the bootstrap. Raises DataError when one of the models was not evaluated.

    `learned` has the candidate's answers beside those that were given when the leaves were learned, as of `LEARNERS`.
    """

    def has_room(leaf: str) -> bool:
        before = evaluation.rate(contest.parent, leaf)
        wrong = before.total - before.correct
        return before.correct <= wrong or mcnemar(wrong, 0) <= significance

    def by_leaf(leaves: list[str]) -> dict[str, Comparison]:
        found = compare(evaluation, contest.parent, contest.candidate, leaves, significance=significance)
        return {item.leaf: item for item in found}

    def as_one(name: str, leaves: list[str], against: str, of: Evaluation = evaluation) -> Together | None:
        return together(name, of, against, contest.candidate, leaves, significance=significance, seed=seed)

    to_gain = {leaf for leaf in contest.changed if leaf not in contest.known or has_room(leaf)}
    rising = [leaf for leaf in contest.leaves if leaf in to_gain]
    keeping = [leaf for leaf in contest.leaves if leaf not in to_gain]
    comparisons = by_leaf(rising) | by_leaf(keeping)
    return Findings(
        evaluation=evaluation,
        candidate=contest.candidate,
        comparisons=tuple(comparisons[leaf] for leaf in contest.leaves),
        contest=contest,
        changed=to_gain,
        changed_together=as_one("changed leaves", rising, contest.parent),
        others_together=as_one("other leaves", keeping, contest.parent),
        since_learned=as_one("other leaves since they were learned", keeping, LEARNERS, learned) if learned else None,
        general=as_one("general set", [leaf for leaf in evaluation.leaves if is_general(leaf)], contest.base),
        leaks=leaks,
    )
