"""What the stages of a cycle took: time, noted while they run, and answers of models, as their records have them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import RootModel, ValidationError

from ..core.atomic import read_json, write_json
from ..core.errors import DataError
from ..core.jsonl import read_records
from ..eval.evaluation import Evaluation
from ..eval.report.data import StageReport
from ..sdg.store import Entry, read_manifest
from ..train.metrics import Step
from ..train.phase import METRICS_NAME
from ..train.results import TrainResult
from .journal import TRAIN

TIMES = "times.json"
"""Stage -> seconds, in the cycle's folder."""

Stage = Literal["samples", "training", "evaluation"]


class _Times(RootModel[dict[str, float]]):
    pass


@contextlib.contextmanager
def timed(folder: Path, stage: Stage) -> Generator[None]:
    """Add the time that the block takes to that of the stage, though it is stopped by an error or Ctrl-C.

    `folder` is the cycle's. What a killed process took is not known.
    """
    started = time.monotonic()
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # what stopped the block is to be told: on a full disk this fails, too
            _add(folder, stage, started)
        raise
    _add(folder, stage, started)


def stage_reports(
    folder: Path, made: Sequence[Entry], trained: TrainResult, evaluation: Evaluation
) -> tuple[StageReport, ...]:
    """Samples, training with its phases, evaluation. `made` are the entries of this cycle. Raises DataError."""
    times, requests = _read(folder), [read_manifest(entry.folder).requests for entry in made]
    phases = [phase for phase in trained.phases if phase.status == "trained"]
    tokens = [_tokens(folder / TRAIN / phase.folder / METRICS_NAME) for phase in phases]
    return (
        StageReport(
            name="samples",
            seconds=times.get("samples"),
            asked=sum(each.paid + each.cached for each in requests),
            paid=sum(each.paid for each in requests),
            tokens=sum(each.prompt_tokens + each.completion_tokens for each in requests),
        ),
        StageReport(name="training", seconds=times.get("training"), trained=sum(tokens)),
        *(
            StageReport(name=f"training: steps of {phase.phase}", seconds=phase.seconds, trained=count)
            for phase, count in zip(phases, tokens, strict=True)
        ),
        StageReport(name="evaluation", seconds=times.get("evaluation"), asked=_judged(evaluation)),
    )


def _add(folder: Path, stage: Stage, started: float) -> None:
    times = _read(folder)
    write_json(folder / TIMES, times | {stage: round(times.get(stage, 0.0) + time.monotonic() - started, 1)})


def _read(folder: Path) -> dict[str, float]:
    """Empty where the file is missing or broken: nothing hangs on it."""
    try:
        return _Times.model_validate(read_json(folder / TIMES)).root
    except (DataError, ValidationError):
        return {}


def _tokens(metrics: Path) -> int:
    """That bore loss, over all steps."""
    return sum(step.trained_tokens for step in read_records(metrics, Step))


def _judged(evaluation: Evaluation) -> int:
    """How often a judge was asked: once for each answer of some text, twice for a pair."""
    judged = {question.id for question in evaluation.questions if question.scoring == "judge"}
    given = [*evaluation.answers.values(), *evaluation.open_book.values()]
    answers = {(id_, answer.text) for by_id in given for id_, answer in by_id.items() if id_ in judged and answer.text}
    return len(answers) + 2 * len(evaluation.duels)
