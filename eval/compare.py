"""Two models compared on the same questions: what was learned, what was forgotten, what is not known.

"Learned" and "forgotten" are said of a leaf only when the paired test says so: exact McNemar per leaf, Holm over the
leaves that are compared together. Leaves taken as one have an interval besides, which the gate holds to its margins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Literal

from ..core.rate import Rate
from ..core.records import Question, Record
from .difference import Difference, clustered_interval, paired_difference
from .evaluation import Evaluation
from .statistics import holm, mcnemar

FEWEST_DOCUMENTS = 5
"""So many must stand behind an interval over them: two or three say hardly anything of others."""

Finding = Literal["learned", "forgotten", "no change shown", "not measured"]


class Comparison(Record):
    """One leaf, before and after."""

    leaf: str
    before: Rate
    after: Rate
    gained: tuple[str, ...]
    """Ids of the questions that only the later model answers rightly, or that it won where a judge compared both
    answers."""
    lost: tuple[str, ...]
    """Ids of the questions that only the earlier model answers rightly, or won."""
    unjudged: tuple[str, ...] = ()
    """Ids of the questions that the earlier model answers rightly, and to which no judge could grade the later one's
    answer: nobody knows whether they are lost."""
    duels: int = 0
    """How many of both were won: a judge compared the answers."""
    p_value: float
    """Exact McNemar, two-sided, adjusted by Holm for the leaves compared with it; 1 where nothing was measured."""
    verdict: Finding
    level: float = 0.9
    """Of the interval that is told, two-sided: either end is a bound at the significance that was asked for."""

    def difference(self, significance: float) -> Difference:
        """What was gained less what was lost; either end of its interval is a bound at this significance."""
        return self._difference(_level(significance))

    def worst(self, significance: float) -> Difference:
        """The same if all that could not be judged is lost."""
        lost = len(self.lost) + len(self.unjudged)
        return paired_difference(len(self.gained), lost, self.after.total, level=_level(significance))

    @property
    def numbers(self) -> str:
        """Both scores, the test between them and the difference with its interval, in words."""
        told = _told(self._difference(self.level), self.duels, self.p_value, self.level)
        return f"{_of(self.after)} right, {_of(self.before)} before ({told})"

    @property
    def sentence(self) -> str:
        """The finding with its numbers, as the report and the gate say it."""
        said = "it has no held-out questions" if self.verdict == "not measured" else self.numbers
        return f"{self.leaf}: {self.verdict}, {said}"

    def _difference(self, level: float) -> Difference:
        return paired_difference(len(self.gained), len(self.lost), self.after.total, level=level)


class Together(Record):
    """Several leaves as one, before and after."""

    name: str
    """What they are: "changed leaves", "other leaves", "general set"."""
    against: str
    """The model before."""
    leaves: tuple[str, ...]
    before: Rate
    after: Rate
    p_value: float
    """Exact McNemar, two-sided, over all of the questions."""
    difference: Difference
    """Each end is a bound at the significance that was asked for. Of five documents and more it is the wider one of the
    score interval, which takes questions as independent, and of the bootstrap over documents."""
    level: float = 0.9
    """Of its interval, two-sided."""
    duels: int = 0
    """As in a comparison."""
    unjudged: int = 0
    """How many there are of those of a comparison."""

    @property
    def worst(self) -> Difference:
        """The difference if all that could not be judged is lost, by the score interval."""
        found = self.difference
        return paired_difference(found.gained, found.lost + self.unjudged, found.total, level=self.level)

    @property
    def numbers(self) -> str:
        """Both scores, the test between them and the difference with its interval, in words."""
        told = _told(self.difference, self.duels, self.p_value, self.level)
        return f"{_of(self.after)} right, {_of(self.before)} {self._then} ({told})"

    @property
    def _then(self) -> str:
        return "before" if self.against.startswith("release") else f"by {self.against}"


def compare(
    evaluation: Evaluation, before: str, after: str, leaves: Sequence[str], *, significance: float
) -> tuple[Comparison, ...]:
    """Compare the models named `before` and `after` on each of `leaves`, in that order.

    `significance` is the chance of even one false "learned" or "forgotten" among them. A leaf without questions is
    there as "not measured". Raises DataError when a model was not evaluated.
    """
    better = Better(evaluation, before, after)
    flips = {leaf: _flips(better, evaluation.of_leaf(leaf)) for leaf in sorted({*leaves} & {*evaluation.leaves})}
    adjusted = holm([mcnemar(len(gained), len(lost)) for gained, lost in flips.values()])
    p_values = dict(zip(flips, adjusted, strict=True))
    comparisons: list[Comparison] = []
    for leaf in leaves:
        gained, lost = flips.get(leaf, ((), ()))
        p_value = p_values.get(leaf, 1.0)
        shown: Finding = "learned" if len(gained) > len(lost) else "forgotten"
        comparisons.append(
            Comparison(
                leaf=leaf,
                before=evaluation.rate(before, leaf),
                after=evaluation.rate(after, leaf),
                gained=gained,
                lost=lost,
                unjudged=tuple(each.id for each in evaluation.of_leaf(leaf) if better.is_unknown(each.id)),
                duels=sum(map(better.by_duel, (*gained, *lost))),
                p_value=p_value,
                level=_level(significance),
                verdict="not measured"
                if leaf not in flips
                else shown
                if p_value <= significance
                else "no change shown",
            )
        )
    return tuple(comparisons)


def together(  # noqa: PLR0913  what is compared, on what, and how sure one wants to be
    name: str,
    evaluation: Evaluation,
    before: str,
    after: str,
    leaves: Sequence[str],
    *,
    significance: float,
    seed: int,
) -> Together | None:
    """The models named `before` and `after` on the questions of several leaves as one; None where there are none.

    A question that two of the leaves ask counts once, for the first of them: its answer says nothing a second time.
    """
    asked: dict[str, Question] = {}
    for leaf in leaves:
        for question in evaluation.of_leaf(leaf):
            asked.setdefault(question.id, question)
    if not asked:
        return None
    questions, better, level = [*asked.values()], Better(evaluation, before, after), _level(significance)
    gained, lost = _flips(better, questions)
    found = paired_difference(len(gained), len(lost), len(questions), level=level)
    if len(clusters := _by_document(questions, {*gained}, {*lost})) >= FEWEST_DOCUMENTS:
        low, high = clustered_interval(clusters, level=level, seed=seed)
        found = found.model_copy(update={"low": low, "high": high})
    return Together(
        name=name,
        against=before,
        leaves=tuple(leaf for leaf in leaves if evaluation.of_leaf(leaf)),
        before=evaluation.rate_of(before, questions),
        after=evaluation.rate_of(after, questions),
        p_value=mcnemar(len(gained), len(lost)),
        difference=found,
        level=level,
        duels=sum(map(better.by_duel, (*gained, *lost))),
        unjudged=sum(map(better.is_unknown, asked)),
    )


class Better:
    """Tells the model whose answer to a question is better."""

    def __init__(self, evaluation: Evaluation, before: str, after: str) -> None:
        self.before, self.after = before, after
        self._old, self._new = evaluation.answers_of(before), evaluation.answers_of(after)
        duels = (duel for duel in reversed(evaluation.duels) if {duel.first, duel.second} == {before, after})
        self._duels = {duel.question_id: duel for duel in duels}

    def of(self, question_id: str) -> str:
        """Empty where neither is, or where one of them could not be judged.

        Where only one of them is right, that one. A duel tells two right ones apart, or two wrong ones; a judge who
        found no winner says nothing: he may prefer a place, whatever stands there.
        """
        if self.by_duel(question_id):
            duel = self._duels[question_id]
            return duel.first if duel.winner == "first" else duel.second
        old, new = self._old[question_id], self._new[question_id]
        if old.correct == new.correct or "unjudged" in {old.outcome, new.outcome}:
            return ""
        return self.after if new.correct else self.before

    def is_unknown(self, question_id: str) -> bool:
        """Whether the answer before is right, and the later one could not be judged, nor compared with it."""
        old, new = self._old[question_id], self._new[question_id]
        return old.correct and new.outcome == "unjudged" and not self.by_duel(question_id)

    def by_duel(self, question_id: str) -> bool:
        """Whether a judge who compared both answers decides: he found a winner, and the grades tell none apart."""
        old, new = self._old[question_id], self._new[question_id]
        graded = old.correct != new.correct and "unjudged" not in {old.outcome, new.outcome}
        return not graded and question_id in self._duels and self._duels[question_id].winner in {"first", "second"}


def _flips(better: Better, questions: Sequence[Question]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    models = {question.id: better.of(question.id) for question in questions}
    gained = tuple(id_ for id_, model in models.items() if model == better.after)
    lost = tuple(id_ for id_, model in models.items() if model == better.before)
    return gained, lost


def _by_document(questions: Sequence[Question], gained: Collection[str], lost: Collection[str]) -> list[list[int]]:
    """1 for each gained question, -1 for each lost one, 0 for the rest, grouped by leaf and document.

    People's questions name no document: they are with the leaf's only one, or by themselves.
    """
    documents: defaultdict[str, set[str]] = defaultdict(set)
    for question in questions:
        documents[question.leaf] |= {question.source.document} if question.source else set()
    clusters: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for question in questions:
        several = len(documents[question.leaf]) > 1
        document = question.source.document if question.source and several else ""
        clusters[question.leaf, document].append((question.id in gained) - (question.id in lost))
    return list(clusters.values())


def _level(significance: float) -> float:
    return 1 - 2 * significance


def _of(rate: Rate) -> str:
    return f"{rate.correct} of {rate.total}"


def _told(found: Difference, duels: int, p_value: float, level: float) -> str:
    interval = f"{100 * level:g} %: {_points(found.low)} to {_points(found.high)}"
    compared = f", {duels} of them where the judge compared both answers" if duels else ""
    flips = f"{found.gained} gained, {found.lost} lost{compared}"
    return f"{flips}, {_p(p_value)}; {_points(found.value)} points, {interval}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
