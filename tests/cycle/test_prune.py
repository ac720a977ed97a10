"""What prune deletes, what it never does, and what is left when it is killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tilth import Workspace as Garden
from tilth.core.atomic import write_text
from tilth.core.errors import TilthError
from tilth.core.progress import SilentProgress
from tilth.cycle.past import read_past
from tilth.cycle.prune import freed_bytes, prunable, prune
from tilth.cycle.releases import disk_bytes, find_release, is_pruned, pin, releases, set_current
from tilth.cycle.verify import verify

from ..loop import Loop, Spawner
from ..made_releases import WEIGHTS_BYTES, Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Five releases, the last of which is current."""
    made = Made.at(tmp_path / "coast")
    for number in range(1, 6):
        made.release(number)
    return made


def names(made: Made, keep: int | None) -> list[str]:
    return [each.name for each in prunable(made.workspace, keep)]


def pruned(made: Made) -> list[int]:
    return [each.number for each in releases(made.workspace) if is_pruned(made.workspace, each.number)]


def test_the_newest_stay_and_so_do_the_current_and_the_pinned(made: Made) -> None:
    assert names(made, None) == []
    assert names(made, 5) == names(made, 9) == []
    assert names(made, 3) == ["model of release 1", "model of release 2"]
    pin(made.workspace, 1)
    set_current(made.workspace, 3)
    assert names(made, 1) == ["model of release 2", "model of release 4"]


@pytest.mark.parametrize("keep", [0, -1])
def test_at_least_one_is_kept(made: Made, keep: int) -> None:
    with pytest.raises(TilthError, match=f"^{keep} releases cannot be kept; keep 1 or more"):
        Garden(made.workspace).prune(keep)
    assert pruned(made) == []


def test_a_pruned_release_keeps_its_record_and_cards(made: Made) -> None:
    found = prunable(made.workspace, 3)
    assert 2 * WEIGHTS_BYTES < freed_bytes(found) < 2 * WEIGHTS_BYTES + 100
    before = disk_bytes(made.workspace, 1)
    prune(made.workspace, found)
    assert pruned(made) == [1, 2]
    assert before - disk_bytes(made.workspace, 1) > WEIGHTS_BYTES - 100
    folder = made.workspace.releases / "0001"
    kept = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert kept == {"release.json", "pruned.json", "model/README.md", "dataset/README.md"}
    assert find_release(made.workspace, 1).files
    assert (made.workspace.replay / "0001.jsonl").is_file()
    assert names(made, 3) == []


def test_cycles_that_made_no_release_lose_what_they_trained_but_the_newest(made: Made) -> None:
    made.cycle(6, 5, "refused")
    assert names(made, None) == []
    made.cycle(7, 5, "open")
    assert names(made, None) == ["models of cycle 6 (refused)"]
    made.cycle(8, 5, "refused")
    found = prunable(made.workspace, None)
    assert [each.name for each in found] == ["models of cycle 6 (refused)", "models of cycle 7 (abandoned)"]
    assert freed_bytes(found) == 4 * WEIGHTS_BYTES + 4
    prune(made.workspace, found)
    folder = made.workspace.cycles / "0006"
    assert sorted(path.name for path in folder.rglob("*")) == [
        "01-all",
        "cycle.json",
        "done.json",
        "metrics.jsonl",
        "train",
    ]
    assert (made.workspace.cycles / "0008/train/01-all/model/config.json").is_file()
    assert names(made, None) == []


def test_the_parent_of_a_cycle_that_may_yet_be_released_stays(made: Made) -> None:
    set_current(made.workspace, 2)
    made.cycle(6, 2, "refused")
    set_current(made.workspace, 5)
    assert names(made, 1) == ["model of release 1", "model of release 3", "model of release 4"]
    made.cycle(7, 5, "open")
    assert names(made, 1) == ["models of cycle 6 (refused)", *(f"model of release {number}" for number in range(1, 5))]


def test_a_candidate_that_passed_stays_until_the_next_release(made: Made) -> None:
    made.cycle(6, 5, "judged")
    made.cycle(7, 5, "refused")
    assert names(made, None) == []
    made.release(8, parent=5)
    assert names(made, None) == ["models of cycle 6 (judged)", "models of cycle 7 (refused)"]


def test_what_a_release_shares_with_a_cycle_frees_nothing(made: Made) -> None:
    made.cycle(6, 5, "refused")
    made.cycle(7, 5, "refused")
    weights = made.workspace.cycles / "0006/train/01-all/model/model.safetensors"
    weights.unlink()
    weights.hardlink_to(made.workspace.releases / "0005/model/model.safetensors")
    found = prunable(made.workspace, None)
    assert freed_bytes(found) == WEIGHTS_BYTES + 2
    prune(made.workspace, found)
    assert not verify(made.workspace, [5], SilentProgress())[0].faults


def test_what_finished_cycles_trained_on_goes_but_of_the_newest(made: Made) -> None:
    made.cycle(6, 5, "refused")
    made.cycle(7, 5, "judged")
    made.release(8, parent=5)
    for number in range(1, 9):
        train = made.workspace.cycles / f"{number:04}/train"
        write_text(train / "01-all/data.jsonl", "d" * 1000)
        write_text(train / "01-all/validation.jsonl", "v" * 100)
        write_text(train / "replay.jsonl", f'{{"id": "{number}"}}\n')
    (made.workspace.replay / "0002.jsonl").write_text("cut")
    set_current(made.workspace, 3)
    found = prunable(made.workspace, None)
    assert [each.name for each in found] == [
        *(f"training data of cycle {number}" for number in range(1, 6)),
        "models of cycle 6 (refused)",
        "training data of cycle 6",
    ]
    prune(made.workspace, found)
    left = [path.relative_to(made.workspace.cycles) for path in made.workspace.cycles.rglob("*.jsonl")]
    assert sorted(str(path) for path in left if path.name != "metrics.jsonl") == [
        *("0002/train/replay.jsonl", "0003/train/replay.jsonl", "0006/train/replay.jsonl"),
        *("0007/train/01-all/data.jsonl", "0007/train/01-all/validation.jsonl", "0007/train/replay.jsonl"),
        *("0008/train/01-all/data.jsonl", "0008/train/01-all/validation.jsonl", "0008/train/replay.jsonl"),
    ]
    assert names(made, None) == []


def test_the_reports_and_the_loop_go_on_without_it(copy: Callable[[Loop], Loop], turned_twice: Loop) -> None:
    loop = copy(turned_twice)
    garden, current = Garden(loop.workspace), read_past(loop.workspace, find_release(loop.workspace, 1), 3)
    page = garden.report(1).read_text()
    assert [each.name for each in garden.prune()] == ["training data of cycle 1"]
    assert not list(loop.state.glob("cycles/0001/train/**/*data.jsonl"))
    assert not (loop.state / "cycles/0001/train/replay.jsonl").exists()
    assert garden.report(1).read_text() == page
    assert not [fault for each in garden.verify() for fault in each.faults]
    assert garden.cycle().outcome == "nothing to do"
    garden.rollback(1)
    assert read_past(loop.workspace, garden.current_release(), 3) == current
    assert garden.cycle().number == 2


KILLED = """
import os, pathlib, shutil, sys
from tilth.core.config import Config
from tilth.core.workspace import Workspace
from tilth.cycle import prune
workspace, calls = Workspace(pathlib.Path(sys.argv[1]), Config()), []
def dies(whole):
    def call(path, *args):
        if "config.json" in str(path) or ".pruned-checkpoints" in str(path):  # something of each is gone by then
            calls.append(path)
        if len(calls) == int(sys.argv[2]):
            os.kill(os.getpid(), 9)
        return whole(path, *args)
    return call
pathlib.Path.unlink, shutil.rmtree = dies(pathlib.Path.unlink), dies(shutil.rmtree)
prune.prune(workspace, prune.prunable(workspace, 3))
"""


@pytest.mark.parametrize("call", [1, 2, 3])
def test_killed_in_the_middle_it_leaves_nothing_half(made: Made, spawner: Spawner, call: int) -> None:
    """In a cycle, in the first release, in the second."""
    made.cycle(6, 5, "refused")
    made.cycle(7, 5, "refused")
    for number in (1, 2):
        (made.workspace.releases / f"000{number}/model/adapter.json").touch()  # goes before config.json
    root = made.workspace.root
    assert spawner.run(root, str(root), str(call), before=KILLED).code == -9
    for release in releases(made.workspace):
        left = (made.workspace.releases / f"{release.number:04}/model/adapter.json").exists()
        assert is_pruned(made.workspace, release.number) == (not left and release.number < 3)
    assert not (made.workspace.cycles / "0006/train/01-all/checkpoints").exists()
    rest = names(made, 3)
    assert rest[0] == ("models of cycle 6 (refused)" if call == 1 else f"rest of the model of release {call - 1}")
    prune(made.workspace, prunable(made.workspace, 3))
    assert (pruned(made), names(made, 3)) == ([1, 2], [])
    assert not list(made.workspace.state.rglob(".pruned*"))
    assert not [fault for each in verify(made.workspace, [], SilentProgress()) for fault in each.faults]
