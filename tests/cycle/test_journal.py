"""Which earlier cycle a new one takes over from, and which records are read to find one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tilth.core.config import Config
from tilth.core.errors import DataError
from tilth.core.progress import SilentProgress
from tilth.core.workspace import Workspace
from tilth.cycle.journal import (
    TRAIN,
    Done,
    Inputs,
    Outcome,
    begin,
    cycle_folder,
    cycles,
    last_cycle,
    last_finished,
    trained_from,
    with_identity,
)
from tilth.cycle.releases import find_release, releases, set_current
from tilth.cycle.run import roll_back
from tilth.eval.report.data import LeafChanges

from ..made_releases import Made


def test_of_cycles_from_one_start_those_with_the_same_samples_come_first(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, Config())
    made = Made(workspace)
    first, second = made.release(1), made.release(6)
    for number, parent, samples in ((2, 1, "a"), (3, 1, "a"), (4, 1, "b"), (5, 1, "a"), (7, 6, "a")):
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
        if number != 5:  # which trained nothing
            (cycle_folder(workspace, number) / TRAIN).mkdir()
    folders = [
        trained_from(workspace, start, samples)
        for start, samples in ((first, "a"), (first, "b"), (first, "c"), (second, "b"))
    ]
    assert [folder and folder.parent.name for folder in folders] == ["0003", "0004", "0004", "0007"]
    (cycle_folder(workspace, 7) / TRAIN).rmdir()
    assert trained_from(workspace, second, "a") is None


def test_what_came_before_the_current_release_is_not_read(tmp_path: Path) -> None:
    """A cycle costs no more after a thousand others."""
    made = Made.at(tmp_path / "coast")
    for number in (1, 2, 3):
        made.release(number)
    made.cycle(4, 3, "refused")
    for number in (1, 2):
        (cycle_folder(made.workspace, number) / "cycle.json").write_text("{")
    (made.workspace.releases / "0001/release.json").write_text("{")
    current = find_release(made.workspace, 3)
    assert with_identity(made.workspace, "1", current) is None
    found = with_identity(made.workspace, "4", current)
    assert found
    assert found.number == 4
    set_current(made.workspace, 2)
    assert roll_back(made.workspace, 3, SilentProgress()).number == 3
    with pytest.raises(DataError, match="not valid JSON"):
        list(cycles(made.workspace))
    with pytest.raises(DataError, match="not valid JSON"):
        releases(made.workspace)


@pytest.mark.parametrize(
    ("outcome", "unanswered", "how", "stands"),
    [
        ("released", 0, {"release": True, "force": True}, True),
        ("judged", 0, {"release": True}, False),
        ("judged", 0, {"release": False}, True),
        ("refused", 0, {"release": True}, True),
        ("refused", 0, {"release": True, "force": True}, False),
        ("refused", 1, {"release": True}, False),
        ("refused", 1, {"release": False}, False),
    ],
)
def test_what_is_the_last_word_on_a_cycle(outcome: Outcome, unanswered: int, how: dict[str, bool], stands: bool):
    done = Done(outcome=outcome, release=0, finished_at=datetime.now(UTC), unanswered=unanswered)
    assert done.stands(**how) is stands


def test_numbers_of_five_digits_follow_those_of_four(tmp_path: Path) -> None:
    made = Made.at(tmp_path / "coast")
    for number in (9_998, 10_000, 9_999):
        made.release(number, parent=0)
    last = last_cycle(made.workspace)
    assert last
    assert (last.number, last_finished(made.workspace)) == (10_000, 10_000)
    assert [each.number for each in releases(made.workspace)] == [9_998, 9_999, 10_000]
