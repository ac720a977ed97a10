"""Models answer the held-out questions, closed book: each question alone, greedily, and what was answered is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.config import Config
from ..core.progress import Progress
from ..core.records import Message, Question
from ..llm.local import generate
from .answer_cache import AnswerCache
from .evaluation import Answer, Evaluation, Settings
from .model_fingerprint import model_fingerprint
from .scores import score, score_choice

_BATCHES_PER_SAVE = 8
"""Batches between two writes of the cache. Each write is one call of `generate`, which loads the model anew (about a
second for 135M weights); a kill costs at most this many batches."""


def evaluate(
    models: Mapping[str, Path], questions: Sequence[Question], *, config: Config, cache: Path, progress: Progress
) -> Evaluation:
    """Score models, each a name and its folder, on the same questions.

    `cache` is a folder; what a model answered before is read from there, and when nothing is missing torch is not
    imported. Raises ModelError when a folder holds no model, DataError when the cache is broken.
    """
    settings = Settings(
        system_prompt=config.student.system_prompt,
        max_new_tokens=config.eval.max_new_tokens,
        max_new_tokens_judged=config.eval.max_new_tokens_judged,
        choice="letter",
    )
    fingerprints = {name: model_fingerprint(folder, cache / "files.json") for name, folder in models.items()}
    answers: dict[str, dict[str, Answer]] = {}
    for name, folder in models.items():
        known = AnswerCache(cache, fingerprints[name], settings.model_dump(include={"system_prompt", "max_new_tokens"}))
        missing = list(dict.fromkeys(item.asked for item in questions if item.asked not in known))
        progress.say(f"{name}: {len(missing)} of {len(questions)} held-out questions to answer")
        _answer(missing, folder, known, settings=settings, batch_size=config.eval.batch_size, progress=progress)
        answers[name] = {item.id: _scored(known[item.asked], item) for item in questions}
    return Evaluation(settings=settings, models=fingerprints, questions=tuple(questions), answers=answers)


def _answer(
    missing: Sequence[str],
    folder: Path,
    known: AnswerCache,
    *,
    settings: Settings,
    batch_size: int,
    progress: Progress,
) -> None:
    step = batch_size * _BATCHES_PER_SAVE
    for start in range(0, len(missing), step):
        asked = missing[start : start + step]
        texts = generate(
            folder,
            [_conversation(question, settings.system_prompt) for question in asked],
            max_new_tokens=settings.max_new_tokens,
            batch_size=batch_size,
            progress=progress,
        )
        known.add(dict(zip(asked, texts, strict=True)))


def _conversation(question: str, system_prompt: str) -> list[Message]:
    system = [Message(role="system", content=system_prompt)] if system_prompt else []
    return [*system, Message(role="user", content=question)]


def _scored(text: str, question: Question) -> Answer:
    scored = score_choice(text, question) if question.options else score(text, question.answers)
    return Answer(text=text, **scored.model_dump())
