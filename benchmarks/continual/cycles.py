"""A variant's cycles, one contribution after the other, each trained from the model of the one before it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tilth.core.atomic import read_json, write_json
from tilth.core.config import Config
from tilth.core.progress import Progress
from tilth.cycle.basis import training_files
from tilth.sdg.store import Entry
from tilth.train.data import TrainingInputs
from tilth.train.replay_buffer import BUFFER_NAME, Past, read_entries
from tilth.train.results import TrainResult
from tilth.train.run import run_plan
from tilth.train.self_generated import GENERAL_ANSWERS_NAME

from .outcome import Cycle
from .variants import Variant

DONE = "cost.json"
"""Written last into a cycle's folder: it is not trained again."""


@dataclass(frozen=True)
class Course:
    """What all variants have in common."""

    entries: Sequence[Entry]
    """The samples of each leaf, in the order of the contributions."""
    student: Path
    config: Config
    folder: Path
    progress: Progress


def cycles(variant: Variant, course: Course) -> Iterator[tuple[Path, Cycle]]:
    """The model after each cycle and what it cost; what is not trained yet is trained."""
    buffer = course.folder / "none"
    model = course.student
    for number in range(1, 2 if variant.joint else len(course.entries) + 1):
        out = course.folder / _folder(variant, number)
        course.progress.say(f"{variant.name}: cycle {number}")
        if not (out / DONE).exists():
            _train(variant, course, number, model, Past(read_entries(buffer), number, number - 1))
        model, buffer = max(out.glob("*/model")), out / BUFFER_NAME
        yield model, Cycle.model_validate(read_json(out / DONE))


def _folder(variant: Variant, number: int) -> str:
    name = variant.first_cycle_of if number == 1 else variant.name
    return f"{name.replace(', ', '-').replace(' ', '-')}/{number}"


def _train(variant: Variant, course: Course, number: int, model: Path, past: Past) -> None:
    entries, known = [entry.folder for entry in course.entries], 0 if variant.joint else number - 1
    out, began = course.folder / _folder(variant, number), time.monotonic()
    result = run_plan(
        variant.load(),
        TrainingInputs(
            student=model,
            new=training_files(entries if variant.joint else entries[known:number]),
            earlier=training_files(entries[:known]),
            past=past,
            base=(course.student, course.folder / GENERAL_ANSWERS_NAME),
        ),
        out=out,
        config=course.config.model_copy(update={"seed": variant.seed}),
        progress=course.progress,
    )
    write_json(out / DONE, _cost(result, time.monotonic() - began).model_dump(mode="json"))


def _cost(result: TrainResult, wall_s: float) -> Cycle:
    """A run that was stopped on the way is counted by the time of its steps."""
    phases = [phase for phase in result.phases if phase.status == "trained"]
    totals = [(phase.settings.epochs, phase.mix.an_epoch) for phase in phases if phase.settings and phase.mix]
    return Cycle(
        samples=sum(total.samples for _, total in totals),
        tokens=sum(epochs * total.tokens for epochs, total in totals),
        trained_tokens=sum(epochs * total.trained_tokens for epochs, total in totals),
        steps=sum(phase.steps for phase in phases),
        wall_s=round(max(wall_s, sum(phase.seconds for phase in phases)), 1),
    )
