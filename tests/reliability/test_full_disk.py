"""A disk that fills up, at every kind of write: one line, nothing half written, and the same command goes on.

The disk is a real one of its own (tmpfs), and full from the moment on that a certain file is opened.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ..loop import Loop, Spawner
from ..made_releases import Made
from .disk import can_mount, filling

pytestmark = pytest.mark.skipif(not can_mount(), reason="no disk can be mounted here")

IN_FLIGHT = 4
PLACES = (
    "*/.cycle.json.tilth.tmp",
    "*/ledger.db",
    "*/.samples.jsonl.tilth.tmp",
    "*/.manifest.json.tilth.tmp",
    "*/.entries.json.tilth.tmp",
    "*/.contamination.json.tilth.tmp",
    "*/.data.jsonl.tilth.tmp",
    "*/.mix.json.tilth.tmp",
    "*/metrics.jsonl",
    "*/optimizer.pt",
    "*/.evaluations.jsonl.tilth.tmp",
    "*/.model.tilth.tmp",
    "*/.result.json.tilth.tmp",
    "*/.replay.jsonl.tilth.tmp",
    "*/.train.json.tilth.tmp",
    "*/answers/.files.json.tilth.tmp",
    "*/answers/*.jsonl",
    "*/.eval.json.tilth.tmp",
    "*/.judgement.json.tilth.tmp",
    "*/.0001.jsonl.tilth.tmp",
    "*/releases/.0001.tilth.tmp",
    "*/.release.json.tilth.tmp",
    "*/.current.json.tilth.tmp",
    "*/.report.html.tilth.tmp",
    "*/.done.json.tilth.tmp",
)
"""In the order in which a cycle comes to them."""

QUICK = "phases: [{name: all, kinds: [skill], epochs: 1, learning_rate: 1.0e-5}]"


def fill(spawner: Spawner, loop: Loop, place: str, *command: str) -> None:
    """Run a command whose disk fills up there, and check how it ends."""
    ran = spawner.run(loop.root, *command, before=filling(loop.state, place))
    assert ran.code == 2, (place, ran.code, ran.err)
    assert "Traceback" not in ran.err, ran.err
    assert [line for line in ran.err.splitlines() if line.startswith("tilth: ")] == ran.err.splitlines()[-1:]
    assert "space" in ran.err.splitlines()[-1], (place, ran.err)
    assert f"tilth: {loop.state}/" in ran.err, (place, ran.err)
    assert "times.json" not in ran.err, (place, ran.err)  # which is written last, whatever failed before


@pytest.mark.parametrize("place", PLACES[1:4])
def test_generate_goes_on_when_there_is_room_again(
    spawner: Spawner, untouched: Loop, turned_once: Loop, tmp_path: Path, place: str
) -> None:
    loop = untouched.copy(tmp_path / "taxonomy")
    before = len(loop.teacher.requests)
    fill(spawner, loop, place, "generate")
    assert not list(loop.state.glob("store/*/manifest.json")) or place != PLACES[1]
    assert spawner.run(loop.root, "generate").code == 0
    asked = loop.teacher.requests[before:]
    assert len(asked) <= len(set(asked)) + IN_FLIGHT
    assert {path.parent.name: path.read_bytes() for path in loop.state.glob("store/*/samples.jsonl")} == {
        path.parent.name: path.read_bytes() for path in turned_once.state.glob("store/*/samples.jsonl")
    }


@pytest.mark.slow
def test_a_cycle_goes_on_from_every_write_that_failed(spawner: Spawner, untouched: Loop, tmp_path: Path) -> None:
    loop = untouched.copy(tmp_path / "taxonomy")
    (loop.root / "plan.yaml").write_text(QUICK)
    before = len(loop.teacher.requests)
    for place in PLACES:
        fill(spawner, loop, place, "cycle", "--force", "--set", "train.checkpoint_every_s=0.01")
    ran = spawner.run(loop.root, "cycle", "--force", "--json")
    assert (ran.code, ran.json["outcome"], ran.json["release"]) == (0, "released", 1), ran.err
    asked = loop.teacher.requests[before:]
    assert len(asked) <= len(set(asked)) + IN_FLIGHT
    assert spawner.run(loop.root, "releases", "verify").code == 0
    assert not [path for path in loop.state.rglob("*") if ".tmp" in path.name]


@pytest.mark.parametrize("cycles", [(), (4, 5)], ids=["releases alone", "cycles too"])
def test_prune_makes_room_where_there_is_none(spawner: Spawner, tmp_path: Path, cycles: tuple[int, ...]) -> None:
    made = Made.at(tmp_path / "coast")
    for number in (1, 2, 3):
        made.release(number)
    for number in cycles:
        made.cycle(number, 3, "refused")
    full = filling(made.workspace.state, "*/lock")
    ran = spawner.run(made.workspace.root, "releases", "prune", "--keep", "1", "--yes", before=full)
    assert (ran.code, ran.err) == (0, "")
    deleted = [line.removeprefix("deleted: ") for line in ran.out.splitlines()[:-1]]
    old = ["models of cycle 4 (refused)"] if cycles else []
    assert deleted == [*old, "model of release 1", "model of release 2"]
    assert spawner.run(made.workspace.root, "releases", "verify").code == 0
