"""What the stages of a cycle took: time, noted while they run, and answers of models, as their records have them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import RootModel, ValidationError

from ..core.atomic import read_json, write_json
from ..core.config import Prices
from ..core.errors import DataError
from ..core.jsonl import read_records
from ..core.records import TokensUsed
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
    folder: Path, made: Sequence[Entry], trained: TrainResult, evaluation: Evaluation, config: Mapping[str, Any]
) -> tuple[StageReport, ...]:
    """Samples, training with its phases, evaluation. `made` are the entries of this cycle, `config` its settings.

    Raises DataError.
    """
    times, prices = _read(folder), _prices(config)
    requests = [read_manifest(entry.folder).requests for entry in made]
    phases = [phase for phase in trained.phases if phase.status == "trained"]
    tokens = [_tokens(folder / TRAIN / phase.folder / METRICS_NAME) for phase in phases]
    return (
        StageReport(
            name="samples",
            seconds=times.get("samples"),
            asked=sum(each.paid + each.cached for each in requests),
            paid=sum(each.paid for each in requests),
            tokens=sum(each.prompt_tokens + each.completion_tokens for each in requests),
            price=_price([each.by_model for each in requests if each.asked], prices),
        ),
        StageReport(name="training", seconds=times.get("training"), trained=sum(tokens)),
        *(
            StageReport(name=f"training: steps of {phase.phase}", seconds=phase.seconds, trained=count)
            for phase, count in zip(phases, tokens, strict=True)
        ),
        _evaluation(times.get("evaluation"), evaluation, prices),
    )


def _evaluation(seconds: float | None, evaluation: Evaluation, prices: Mapping[str, Prices]) -> StageReport:
    """The student's own answers take time only; the judge's are paid for."""
    if (judging := evaluation.judging) is None:
        return StageReport(name="evaluation", seconds=seconds)
    return StageReport(
        name="evaluation",
        seconds=seconds,
        asked=judging.requests,
        tokens=judging.tokens.prompt + judging.tokens.completion,
        price=_price([{evaluation.judge.model: judging.tokens}] if evaluation.judge else [], prices),
    )


def _prices(config: Mapping[str, Any]) -> dict[str, Prices]:
    """Model -> what it costs, as far as the cycle's settings knew it; empty where nothing has a price."""
    servers = [server for role in ("judge", "teacher") if (server := config.get(role))]
    prices = {server["model"]: Prices.model_validate(server.get("prices", {})) for server in servers}
    return prices if any(price != Prices() for price in prices.values()) else {}


def _price(used: Sequence[Mapping[str, TokensUsed]], prices: Mapping[str, Prices]) -> float | None:
    """What all of it costs; a model without a price costs nothing."""
    if not prices or not all(used):
        return None
    tokens = [item for by_model in used for item in by_model.items()]
    return sum(prices[model].of(each.prompt, each.completion) for model, each in tokens if model in prices)


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
