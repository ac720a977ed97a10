"""Which earlier cycle a new one takes over from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tilth.core.config import Config
from tilth.core.workspace import Workspace
from tilth.cycle.journal import TRAIN, Inputs, begin, cycle_folder, trained_from
from tilth.eval.report.data import LeafChanges


def test_of_cycles_from_one_start_those_with_the_same_samples_come_first(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, Config())
    for number, parent, samples in ((1, 1, "a"), (2, 1, "a"), (3, 1, "b"), (4, 1, "a"), (5, 2, "a")):
        inputs = Inputs(
            number=number,
            identity=str(number),
            decided_by={"samples": samples},
            commit="",
            parent=parent,
            changes=LeafChanges(),
            new=(),
            config={},
            started_at=datetime.now(UTC),
        )
        begin(workspace, inputs)
        if number != 4:  # which trained nothing
            (cycle_folder(workspace, number) / TRAIN).mkdir()
    folders = [trained_from(workspace, start, samples) for start, samples in ((1, "a"), (1, "b"), (1, "c"), (2, "b"))]
    assert [folder and folder.parent.name for folder in folders] == ["0002", "0003", "0003", "0005"]
    assert trained_from(workspace, 0, "a") is None
