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
from tilth.train.replay_buffer import BUFFER_NAME, Past, read_entries
from tilth.train.results import TrainResult
from tilth.train.run import run_plan

from .outcome import Cycle
from .variants import Variant


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
    folder = course.folder / variant.name.replace(", ", "-").replace(" ", "-")
    config = course.config.model_copy(update={"seed": variant.seed})
    entries = [entry.folder for entry in course.entries]
    model, buffer = course.student, folder / "none"
    for number in range(1, 2 if variant.joint else len(entries) + 1):
        out, known = folder / str(number), 0 if variant.joint else number - 1
        course.progress.say(f"{variant.name}: cycle {number}")
        began = time.monotonic()
        result = run_plan(
            variant.load(),
            new=training_files(entries if variant.joint else entries[known:number]),
            earlier=training_files(entries[:known]),
            student=model,
            out=out,
            config=config,
            progress=course.progress,
            past=Past(read_entries(buffer), number),
        )
        model, buffer = result.model, out / BUFFER_NAME
        yield model, _cost(out / "cost.json", result, time.monotonic() - began)


def _cost(file: Path, result: TrainResult, wall_s: float) -> Cycle:
    """Written once, by the run that trained: later ones only look. One that was stopped is counted by its steps."""
    if not file.exists():
        phases = [phase for phase in result.phases if phase.status == "trained"]
        totals = [(phase.settings.epochs, phase.mix.total) for phase in phases if phase.settings and phase.mix]
        cycle = Cycle(
            samples=sum(total.samples for _, total in totals),
            tokens=sum(epochs * total.tokens for epochs, total in totals),
            trained_tokens=sum(epochs * total.trained_tokens for epochs, total in totals),
            steps=sum(phase.steps for phase in phases),
            wall_s=round(max(wall_s, sum(phase.seconds for phase in phases)), 1),
        )
        write_json(file, cycle.model_dump(mode="json"))
    return Cycle.model_validate(read_json(file))
