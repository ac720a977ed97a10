"""Models answer the held-out questions, closed book and, if asked, with the document at hand; what they said is scored.

Short answers are matched, options compared by likelihood, forms checked, and all else is graded by the judge. What was
answered or judged before is not asked again, so an evaluation that was stopped goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from ..core.choices import with_options
from ..core.config import Config
from ..core.records import Question
from ..llm.models import Folder, Model
from .answering import Answering, Asked, Said, answers_of, served_as
from .choice import shuffled
from .evaluation import Answer, Duel, Evaluation, Settings
from .forms import check_forms
from .judging import Grade, Judged, ToCompare, ToGrade, judge, judge_of, winner
from .model_fingerprint import hashes_file, model_fingerprint
from .open_book import with_passages
from .scores import names_right_option, score, score_judged, score_right

FORM_TOKENS = 80
"""Longest answer to a question of form. They ask for less, or show what they are by then: the embedded student's
outcomes are the same with 96 (docs/log.md)."""


def evaluate(
    models: Mapping[str, Path | Model],
    questions: Sequence[Question],
    by: Answering,
    *,
    passages: Mapping[str, Sequence[str]] | None = None,
    duel: tuple[str, str] | None = None,
) -> Evaluation:
    """Score models by name, each in a folder or served, on the same questions.

    What was answered or judged before is not asked for, and where no answer is missing torch is not imported.
    `passages` are those of the leaves that have a document: with them models answer open book as well. The judged
    answers of the two models of `duel` are compared with each other too.

    Raises ModelError when there is no model or it does not answer, DataError when the cache is broken.
    """
    known = {name: _as_model(name, model, by.config) for name, model in models.items()}
    settings = _settings(by.config, known.values())
    closed = [_ask(question, settings) for question in questions]
    at_hand = _at_hand(questions, passages or {})
    opened = [_ask(each, settings, [*at_hand[each.id]]) for each in questions if each.leaf in (passages or {})]
    fingerprints = {name: _fingerprint(model, by.cache) for name, model in known.items()}
    said = {name: answers_of(name, model, fingerprints[name], [*closed, *opened], by) for name, model in known.items()}
    pairs = list(_pairs(closed, said[duel[0]], said[duel[1]])) if duel else []
    graded = [each for told in said.values() for each in _to_grade([*closed, *opened], told)]
    judged = judge(graded, pairs, config=by.config, ledger=by.ledger, progress=by.progress)
    return Evaluation(
        settings=settings,
        judge=judge_of(by.config) if any(each.scoring == "judge" for each in questions) else None,
        models=fingerprints,
        questions=tuple(questions),
        answers={name: _scored(closed, told[: len(closed)], judged) for name, told in said.items()},
        open_book={name: _scored(opened, told[len(closed) :], judged) for name, told in said.items()} if opened else {},
        duels=tuple(_duels(pairs, judged, *duel)) if duel else (),
        judging=judged.judging,
    )


def _at_hand(questions: Sequence[Question], passages: Mapping[str, Sequence[str]]) -> Mapping[str, Mapping[str, None]]:
    """Question id -> the passages of the leaves that ask it, in order, none twice."""
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for question in questions:
        found[question.id] |= dict.fromkeys(passages.get(question.leaf, ()))
    return found


def _as_model(name: str, model: Path | Model, config: Config) -> Model:
    return Folder(name, model, config.student.system_prompt) if isinstance(model, Path) else model


def _settings(config: Config, models: Collection[Model]) -> Settings:
    """Servers do not tell likelihoods, and all models of an evaluation are asked alike."""
    return Settings(
        system_prompt=config.student.system_prompt,
        max_new_tokens=config.eval.max_new_tokens,
        max_new_tokens_judged=config.eval.max_new_tokens_judged,
        choice="likelihood" if all(isinstance(model, Folder) for model in models) else "letter",
    )


def _fingerprint(model: Model, cache: Path) -> str:
    if isinstance(model, Folder):
        return model_fingerprint(model.path, hashes_file(cache))
    return served_as(model)


def _ask(question: Question, settings: Settings, passages: Sequence[str] = ()) -> Asked:
    prompt = with_passages(question.question, passages) if passages else question.question
    match question.scoring:
        case "choice" if settings.choice == "likelihood":
            return Asked(question, prompt, 0)
        case "choice":
            return Asked(question, with_options(prompt, shuffled(question)), settings.max_new_tokens)
        case "match":
            return Asked(question, prompt, settings.max_new_tokens)
        case "form":
            return Asked(question, prompt, FORM_TOKENS)
        case "judge":
            return Asked(question, prompt, settings.max_new_tokens_judged)


def _to_grade(asked: Sequence[Asked], said: Sequence[Said]) -> Iterator[ToGrade]:
    """Nobody needs to be asked about an answer of no text."""
    for each, told in zip(asked, said, strict=True):
        if each.question.scoring == "judge" and told.text:
            yield ToGrade(each.question, told.text)


def _pairs(asked: Sequence[Asked], first: Sequence[Said], second: Sequence[Said]) -> Iterator[ToCompare]:
    for each, one, other in zip(asked, first, second, strict=False):
        if each.question.scoring == "judge":
            yield ToCompare(each.question, one.text, other.text)


def _scored(asked: Sequence[Asked], said: Sequence[Said], judged: Judged) -> dict[str, Answer]:
    return {each.question.id: _answer(each, told, judged) for each, told in zip(asked, said, strict=True)}


def _answer(asked: Asked, said: Said, judged: Judged) -> Answer:
    question, text = asked.question, said.text
    if question.scoring == "judge":
        found = judged.grades[question.id, text] if text else Grade(1, said.problem or "it answered nothing")
        scored = score_judged(text, question.answers, found.grade)
        return Answer(text=text, grade=found.grade, reason=found.reason, **scored.model_dump())
    if question.scoring == "form":
        lacking = check_forms(text, question.forms)
        reason = said.problem or (f"lacks {', '.join(lacking)}" if lacking else "")
        return Answer(text=text, reason=reason, **score_right(right=not lacking).model_dump())
    if question.scoring == "choice":
        right = text == question.answers[0] if asked.tries_options else names_right_option(text, question)
        return Answer(text=text, reason=said.problem, **score_right(right=right).model_dump())
    return Answer(text=text, reason=said.problem, **score(text, question.answers).model_dump())


def _duels(pairs: Sequence[ToCompare], judged: Judged, first: str, second: str) -> Iterator[Duel]:
    for pair in pairs:
        orders = judged.orders[pair.key]
        yield Duel(question_id=pair.question.id, first=first, second=second, winner=winner(orders), orders=orders)
