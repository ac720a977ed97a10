"""`metrics.jsonl`: a line per optimizer step, written as the step ends."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import DataError
from ..core.jsonl import read_records, write_records
from .results import Step


class StepLog:
    """The steps of a phase, in memory and on disk. The first `keep` of an interrupted run stay, the rest goes."""

    def __init__(self, path: Path, *, keep: int) -> None:
        self._path = path
        self.steps = _read(path, keep) if keep else []
        write_records(path, self.steps)

    def add(self, step: Step) -> None:
        """One more step. Raises OSError."""
        self.steps.append(step)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(step.model_dump_json() + "\n")


def _read(path: Path, keep: int) -> list[Step]:
    """The steps 1 to `keep`, as far as they are there: a kill may have torn a line, but none before a checkpoint."""
    steps: list[Step] = []
    try:
        for step in read_records(path, Step):
            if step.step > keep:
                break
            steps.append(step)
    except DataError:
        return steps
    return steps
