"""The gate: whether a candidate may become a release, and why.

Each thing that it asks for is a check of its own, with a sentence of its own; the worst outcome is the verdict's.

- No held-out question stands in what was trained, every must-pass question is answered rightly, the judge did judge.
- All that was measured before still is.
- The changed leaves together gained: exact McNemar says so, and the low bound of the difference lies above
  `gate.min_gain`. Each of them rose. One that the parent was trained on, and answers so well that it leaves no room to
  show a gain, is held to what other leaves are.
- The other leaves together did not lose more than `gate.max_loss`: the low bound lies above minus that
  (non-inferiority, as in Wellek 2010, "Testing Statistical Hypotheses of Equivalence and Noninferiority", chapter 1).
  None of them is shown to be forgotten, and none was seen to lose more. Nor did they together against the releases that
  learned them: against the parent many small losses would pass one by one.
- The general set did not lose more than `gate.max_general_loss` against the model as it came, by the same bound.

What the numbers point to but do not show is inconclusive, and where more questions would show it the sentence says how
many.
So is what would not pass if every right answer whose successor no judge could grade were lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Literal

from ..core.config import Gate
from ..core.held_out import LEAKS_BY, Leak
from ..core.records import Question, Record
from .compare import Comparison, Together
from .difference import Difference, paired_difference, questions_needed
from .findings import Findings
from .general import is_general
from .statistics import mcnemar

Outcome = Literal["pass", "fail", "inconclusive"]

_WORST_FIRST: dict[Outcome, int] = {"fail": 0, "inconclusive": 1, "pass": 2}


class Verdict(Record):
    """The gate's answer."""

    outcome: Outcome
    reasons: tuple[str, ...]
    """Whole sentences with their numbers: what decided first, then changed leaves before others."""

    @property
    def passed(self) -> bool:
        """Whether the candidate may be released."""
        return self.outcome == "pass"


def judge(findings: Findings, settings: Gate) -> Verdict:
    """The verdict on a candidate."""
    checks = [
        *_leaked(findings.leaks),
        *_must_pass(findings),
        *_judged(findings, settings),
        *_measured(findings),
        *_unmeasured(findings),
        *_changed(findings, settings),
        *_others(findings, settings),
        *_general(findings.general, settings),
    ]
    checks.sort(key=lambda check: _WORST_FIRST[check[0]])
    return Verdict(outcome=checks[0][0], reasons=tuple(sentence for _, sentence in checks))


_Checks = Iterator[tuple[Outcome, str]]


def _leaked(leaks: Sequence[Leak]) -> _Checks:
    if leaks:
        questions, samples = len({leak.question_id for leak in leaks}), len({leak.sample_id for leak in leaks})
        counts = [(sum(leak.kind == kind for leak in leaks), said) for kind, said in LEAKS_BY.items()]
        how = ", ".join(f"{count} {said}" for count, said in counts if count)
        yield "fail", f"Contamination: {questions} held-out question(s) stand in {samples} training sample(s): {how}."


def _must_pass(findings: Findings) -> _Checks:
    given = findings.evaluation.answers_of(findings.candidate)
    needed = [question for question in findings.evaluation.questions if question.must_pass]
    for question in needed:
        if given[question.id].outcome == "unjudged":
            yield "inconclusive", f"Must-pass question of {question.leaf} could not be judged: {_short(question)!r}."
        elif not given[question.id].correct:
            yield "fail", f"Must-pass question of {question.leaf} is not answered rightly: {_short(question)!r}."
    if needed and all(given[question.id].correct for question in needed):
        yield "pass", f"Must-pass questions: all {len(needed)} are answered rightly."


def _judged(findings: Findings, settings: Gate) -> _Checks:
    for model in findings.evaluation.models:
        failed = findings.evaluation.unjudged(model)
        if failed.total and failed.value > settings.max_unjudged:
            what = f"{failed.correct} of {failed.total} answers of {model} that it was asked about"
            yield "inconclusive", f"The judge could not grade {what}; at most {_percent(settings.max_unjudged)} may be."
    failed = findings.evaluation.unjudged_duels()
    if failed.total and failed.value > settings.max_unjudged:
        what = f"{failed.correct} of {failed.total} pairs of answers"
        yield "inconclusive", f"The judge could not compare {what}; at most {_percent(settings.max_unjudged)} may be."


def _measured(findings: Findings) -> _Checks:
    if findings.changed_together is not None:
        return
    if findings.others_together is None:
        yield "inconclusive", "Nothing was measured: no leaf has held-out questions."
    elif findings.changed:
        yield "inconclusive", "That anything was learned is not shown: no changed leaf has held-out questions."


def _unmeasured(findings: Findings) -> _Checks:
    """What is not measured any more, or hardly: nobody knows whether it was kept."""
    contest, evaluation = findings.contest, findings.evaluation
    for leaf, count in sorted(contest.left_out.items()):
        left = len(evaluation.of_leaf(leaf))
        if count > left:
            whose = f"General set, {leaf}" if is_general(leaf) else f"Leaf {leaf}"
            what = f"{count} of its {count + left} held-out questions stand in what is trained, and were left out"
            yield "inconclusive", f"{whose}: {what}: what became of it is not known."
    for leaf in contest.leaves:
        if leaf in contest.measured and leaf not in contest.left_out and not evaluation.of_leaf(leaf):
            what = f"{contest.parent} had held-out questions to it, and now there are none"
            yield "inconclusive", f"Leaf {leaf}: {what}: what became of it is not known."


def _changed(findings: Findings, settings: Gate) -> _Checks:
    group = findings.changed_together
    if group is not None and len(group.leaves) > 1:
        yield _gained(f"Changed leaves together: {group.numbers}", group, settings)
    for item in findings.comparisons:
        if item.leaf in findings.changed:
            yield _changed_leaf(item, group, settings)


def _gained(numbers: str, group: Together, settings: Gate) -> tuple[Outcome, str]:
    found = group.difference
    shown = group.p_value <= settings.significance and found.gained > found.lost
    if shown and found.low > settings.min_gain:
        return "pass", f"{numbers}."
    needed = _needed(found, settings.min_gain, settings, gain=True)
    above = f" above {_percent(settings.min_gain)}" if settings.min_gain else ""
    return "inconclusive", f"{numbers}: a gain{above} is not shown; {needed}."


def _changed_leaf(item: Comparison, group: Together | None, settings: Gate) -> tuple[Outcome, str]:
    sentence = f"Changed leaf {item.sentence}"
    if item.verdict == "forgotten":
        return "fail", f"{sentence}."
    if item.verdict == "not measured" or group is None:
        return "pass", f"{sentence}."
    if item.difference(settings.significance).value <= settings.min_gain:
        return _not_risen(sentence, item, settings)
    if len(group.leaves) == 1:
        return _gained(sentence, group, settings)
    alone = "" if item.verdict == "learned" else ": it rose, and is shown together with the others only"
    return "pass", f"{sentence}{alone}."


def _not_risen(sentence: str, item: Comparison, settings: Gate) -> tuple[Outcome, str]:
    open_questions = item.before.total - item.before.correct
    if mcnemar(open_questions, 0) > settings.significance and not item.lost:
        left = f"{open_questions} question{'' if open_questions == 1 else 's'}"
        return "inconclusive", f"{sentence}: the parent left {left} to learn, too few to show it."
    rise = item.difference(settings.significance).value
    asked = f"it rose by {_percent(rise)}, and more than {_percent(settings.min_gain)} is asked for"
    return "fail", f"{sentence}: {asked if rise > 0 else 'nothing was learned'}."


def _others(findings: Findings, settings: Gate) -> _Checks:
    if (group := findings.others_together) is not None:
        yield _kept(f"Other leaves together: {group.numbers}", group, settings.max_loss, settings)
    if (group := findings.since_learned) is not None:
        yield _kept(f"Other leaves since they were learned: {group.numbers}", group, settings.max_loss, settings)
    for item in findings.comparisons:
        if item.leaf not in findings.changed:
            yield _other_leaf(item, settings)


def _other_leaf(item: Comparison, settings: Gate) -> tuple[Outcome, str]:
    lost = -item.difference(settings.significance).value
    if item.verdict == "forgotten":
        return "fail", f"Other leaf {item.sentence}."
    if lost <= settings.max_loss < -item.worst(settings.significance).value:
        return "inconclusive", f"Other leaf {item.sentence}: {_unknown(len(item.unjudged))}."
    if lost > settings.max_loss:
        return "inconclusive", (
            f"Other leaf {item.sentence}: it lost {_percent(lost)}, at most {_percent(settings.max_loss)} may be, "
            f"and {item.after.total} questions are too few to tell that from chance."
        )
    return "pass", f"Other leaf {item.sentence}."


def _general(group: Together | None, settings: Gate) -> _Checks:
    if group is not None:
        yield _kept(f"General set: {group.numbers}", group, settings.max_general_loss, settings)


def _kept(numbers: str, group: Together, margin: float, settings: Gate) -> tuple[Outcome, str]:
    """Non-inferiority, or that the loss is shown to be larger than the margin."""
    found = group.difference
    if found.low > -margin and group.unjudged and group.worst.low <= -margin:
        return "inconclusive", f"{numbers}: {_unknown(group.unjudged)}."
    if found.low > -margin:
        return "pass", f"{numbers}."
    if found.high < -margin:
        return "fail", f"{numbers}: more than {_percent(margin)} was lost."
    needed = _needed(found, -margin, settings)
    return "inconclusive", f"{numbers}: that no more than {_percent(margin)} was lost is not shown; {needed}."


def _unknown(unjudged: int) -> str:
    return f"that as much was kept is not shown, for {unjudged} of what was right could not be judged"


def _needed(found: Difference, margin: float, settings: Gate, *, gain: bool = False) -> str:
    level = 1 - 2 * settings.significance
    more = questions_needed(found, margin=margin, level=level)
    if more is None:
        return "as things stand no number of questions would show it"
    more = max(1, more, _more_of_documents(found, margin, level))
    if gain:
        more = max(more, _more_to_gain(found, settings.significance))
    return f"about {more} more question{' is' if more == 1 else 's are'} needed"


def _more_of_documents(found: Difference, margin: float, level: float) -> int:
    """How many more questions the bootstrap over documents needs, if they come in as many more documents.

    0 where the score interval is the wider one. The distance of its low end shrinks with the root of their number.
    """
    if found.low >= paired_difference(found.gained, found.lost, found.total, level=level).low:
        return 0
    times = ((found.value - found.low) / (found.value - margin)) ** 2
    return math.floor(times * found.total) + 1 - found.total


def _more_to_gain(found: Difference, significance: float) -> int:
    """How many more questions McNemar needs, if the shares of gained and lost stay as they are.

    From the normal approximation with its continuity correction (Edwards 1948, Psychometrika 13:185-187), which comes
    within a few questions of the exact test and takes no time for thousands of flips.
    """
    if mcnemar(found.gained, found.lost) <= significance:
        return 0
    flips, more = found.gained + found.lost, found.gained - found.lost
    z = NormalDist().inv_cdf(1 - significance / 2)
    times = ((z * math.sqrt(flips) + math.sqrt(z * z * flips + 4 * more)) / (2 * more)) ** 2
    return math.ceil(math.ceil(times * flips) * found.total / flips) - found.total


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _short(question: Question) -> str:
    return question.question if len(question.question) <= 80 else f"{question.question[:79]}…"
