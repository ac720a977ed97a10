"""The gate: whether a candidate may become a release, and why.

It fails a candidate on contamination, on a leaf shown forgotten, and on a changed leaf that shows no sign of learning.
It passes one whose changed leaves were each shown to be learned. What lies between is inconclusive: the numbers point
the right way, but too few questions were asked to say so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from ..core.held_out import Leak
from ..core.records import Record
from .compare import Comparison
from .statistics import mcnemar

Outcome = Literal["pass", "fail", "inconclusive"]


class Verdict(Record):
    """The gate's answer."""

    outcome: Outcome
    reasons: tuple[str, ...]
    """Whole sentences with their numbers: what decided first, then changed leaves before others."""

    @property
    def passed(self) -> bool:
        """Whether the candidate may be released."""
        return self.outcome == "pass"


def judge(
    comparisons: Sequence[Comparison], *, changed: Collection[str], leaks: Sequence[Leak], significance: float
) -> Verdict:
    """The verdict on a candidate from its comparisons with its parent, over every leaf of the taxonomy.

    `changed` are the leaves added or modified in this cycle; `significance` is the level that the comparisons were
    made at.
    """
    found: list[tuple[Outcome, str]] = []
    if leaks:
        found.append(("fail", _leak_sentence(leaks)))
    ordered = sorted(comparisons, key=lambda item: item.leaf not in changed)
    found += [_found(item, changed=item.leaf in changed, significance=significance) for item in ordered]
    if all(item.verdict == "not measured" for item in comparisons):
        found.append(("inconclusive", "Nothing was measured: no leaf has held-out questions."))
    weight: dict[Outcome, int] = {"fail": 0, "inconclusive": 1, "pass": 2}
    found.sort(key=lambda item: weight[item[0]])
    return Verdict(outcome=found[0][0], reasons=tuple(reason for _, reason in found))


def _found(item: Comparison, *, changed: bool, significance: float) -> tuple[Outcome, str]:
    if changed and item.verdict == "no change shown":
        return _not_shown(item, significance)
    sentence = f"{'Changed' if changed else 'Other'} leaf {item.sentence}."
    return "fail" if item.verdict == "forgotten" else "pass", sentence


def _not_shown(item: Comparison, significance: float) -> tuple[Outcome, str]:
    """A changed leaf that was measured and not shown to be learned."""
    if item.after.correct > item.before.correct:
        return "inconclusive", f"Changed leaf {item.sentence}: it rose, but not by enough to be sure."
    open_questions = item.before.total - item.before.correct
    if item.after.correct == item.before.correct and mcnemar(open_questions, 0) > significance:
        left = f"{open_questions} question{'' if open_questions == 1 else 's'}"
        return "inconclusive", f"Changed leaf {item.sentence}: the parent left {left} to learn, too few to show it."
    return "fail", f"Changed leaf {item.sentence}: nothing was learned."


def _leak_sentence(leaks: Sequence[Leak]) -> str:
    questions = len({leak.question_id for leak in leaks})
    samples = len({leak.sample_id for leak in leaks})
    copies = sum(leak.kind == "copy" for leak in leaks)
    return (
        f"Contamination: {questions} held-out question(s) stand in {samples} training sample(s), "
        f"{copies} word for word and {len(leaks) - copies} nearly."
    )
