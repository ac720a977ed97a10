"""Preferences: a sample's question -> several answers -> grades -> a better and a worse one.

The questions are those of samples that were accepted, so they are good questions, and the sample's own answer is what
the grader compares with, and a candidate to be chosen. Other answers come from the teacher with the passage and the
student without it (the last release's own mistakes are the best rejected answers), from one model several times, or
from two models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from ...core.records import Candidate, Preference, Provenance, Reject, Sample
from ...taxonomy.chunks import Chunk
from ..filters import Drop
from ..flow import Failure, LeafRun, Model, Outcome, RowFailed, all_of
from ..pairs import choose
from ..settings import PreferenceSettings


async def preferences(
    run: LeafRun, settings: PreferenceSettings, samples: Sequence[Sample], chunks: Sequence[Chunk]
) -> list[Outcome]:
    """The pairs that are made of a leaf's accepted samples, in their order, and what makes none. Raises ModelError."""
    panel = _panel(run, settings)
    lent = [(sample, _passage(run, sample, chunks)) for sample in samples if sample.kind in settings.kinds]
    if run.leaf.kind == "knowledge":
        lent = [(sample, passage) for sample, passage in lent if passage]
    number = min(len(lent), settings.questions) if panel else 0
    spread = [lent[index * len(lent) // number] for index in range(number)]  # from all over the leaf
    return await run.rows(_pair(run, settings, panel, sample, passage) for sample, passage in spread)


def estimate(settings: PreferenceSettings, *, judged: bool = True) -> int:
    """About how many answers of servers a leaf's pairs take, if there are samples enough; the student's cost none.

    Without `judged` those of the judge do not count.
    """
    answers = settings.candidates * (2 if settings.mode == "endpoints" else 1)
    graded = answers + 1 + (settings.mode == "strong_weak")
    return settings.questions * (answers + graded * settings.votes * judged)


Side = Literal["", "reference", "strong", "weak"]


@dataclass(frozen=True)
class _Member:
    """One who answers so many times. `side` as in `Candidate`."""

    model: Model
    answers: int
    step: str = "preferences_answer"
    side: Side = ""


def _panel(run: LeafRun, settings: PreferenceSettings) -> list[_Member]:
    """Who answers, in order; nobody where a model that the mode needs is not there."""
    several, student = settings.candidates, run.others.get("student")
    if settings.mode == "candidates":
        return [_Member(run.teacher, several)]
    if settings.mode == "endpoints":
        return [_Member(run.others[part], several) for part in ("first", "second") if part in run.others]
    if student is None:
        return []
    return [_Member(run.teacher, several, side="strong"), _Member(student, 1, "preferences_weak", "weak")]


def _passage(run: LeafRun, sample: Sample, chunks: Sequence[Chunk]) -> str:
    """What a knowledge sample is about: its chunks, or its seed's context. A skill's context is in its question."""
    if run.leaf.kind != "knowledge":
        return ""
    source = sample.source
    places = [(source.document, source.span), *((place.document, place.span) for place in source.also)]
    found = [chunk.text for chunk in chunks if (chunk.document, chunk.span) in places]
    if found or source.seed_example is None:
        return "\n\n".join(found)
    return run.leaf.seed_examples[source.seed_example].context


async def _pair(
    run: LeafRun, settings: PreferenceSettings, panel: Sequence[_Member], sample: Sample, passage: str
) -> list[Outcome]:
    """One question: all answers at once, each graded as it comes, then the choice. Of equal answers one counts."""
    variables = {
        "title": run.leaf.title if passage else "",
        "chunk": passage,
        "task": run.leaf.task_description,
        "question": sample.question,
    }
    question = _Question(run, settings.votes, sample, variables)
    asked = [(member, index) for member in panel for index in range(member.answers)]
    answered = await all_of([_own(question), *(_candidate(question, member, index) for member, index in asked)])
    candidates: dict[str, Candidate] = {}
    for each in answered:
        if isinstance(each, Candidate):
            candidates.setdefault(each.answer, each)
    failures = [run.fail(each) for each in answered if isinstance(each, Failure)]
    return [_chosen(question, tuple(candidates.values()), settings.margin), *failures]


@dataclass(frozen=True)
class _Question:
    """A sample's question, put to several."""

    run: LeafRun
    votes: int
    sample: Sample
    shown: Mapping[str, Any]
    """The variables of the prompts for its answers."""

    @property
    def source(self) -> Provenance:
        """Where the sample came from, without how it was made."""
        made = {"teacher": self.run.source.teacher, "grades": {}, "requests": ()}
        return self.sample.source.model_copy(update=made)


async def _own(question: _Question) -> Candidate | Failure:
    """The sample's own answer, graded as the others are."""
    sample = question.sample
    return await _graded(question, sample.answer, sample.source.teacher, "reference", question.source)


async def _candidate(question: _Question, member: _Member, index: int) -> Candidate | Failure | None:
    """A graded answer; a Failure harms no other answer. None: the model had nothing to say."""
    try:
        reply = await question.run.ask(member.step, question.source, question.shown, index=index, model=member.model)
    except RowFailed as failed:
        return failed.failure
    return await _graded(question, reply.data, member.model.name, member.side, reply.source) if reply.data else None


async def _graded(question: _Question, answer: str, model: str, side: Side, source: Provenance) -> Candidate | Failure:
    run, shown = question.run, {**question.shown, "reference": question.sample.answer, "answer": answer}
    grading = (
        run.ask("preferences_grade", source, shown, index=vote, model=run.judge) for vote in range(question.votes)
    )
    try:
        grades = await all_of(grading)
    except RowFailed as failed:
        return failed.failure
    return Candidate(
        answer=answer,
        model=model,
        side=side,
        score=round(fmean(grade.data["grade"] for grade in grades), 2),
        requests=tuple(dict.fromkeys(key for grade in grades for key in grade.source.requests)),
    )


def _chosen(question: _Question, candidates: tuple[Candidate, ...], margin: float) -> Preference | Reject:
    """The pair, or the reject with all its candidates."""
    asked, keys = question.sample.question, dict.fromkeys(key for each in candidates for key in each.requests)
    source = question.source.model_copy(update={"requests": tuple(keys)})
    found = choose(candidates, margin)
    if not isinstance(found, Drop):
        if not (leak := _leak(question, found)):
            question.run.told("accepted")
            return Preference.new(asked, *found, candidates, source)
        found = leak
    question.run.told("rejected")
    best = max(candidates, key=lambda each: each.score).answer if candidates else ""
    refused = Sample.new("preference", asked, best, source)
    return Reject(sample=refused, step="preferences", reason=found.reason, score=found.score, candidates=candidates)


def _leak(question: _Question, pair: tuple[Candidate, Candidate]) -> Drop | None:
    """Why a pair may not be trained: one of its answers holds a held-out question."""
    turns = (Sample.new("preference", question.sample.question, each.answer, question.source) for each in pair)
    return next((drop for turn in turns if (drop := question.run.not_held_out(turn))), None)
