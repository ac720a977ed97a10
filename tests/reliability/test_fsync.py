"""What power loss would leave: every byte is on the disk before a name says that it is there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..loop import Loop, Spawner

TRACED = """
import os, sys
synced, late = set(), []
real_fsync = os.fsync

def fsync(descriptor):
    real_fsync(descriptor)
    stat = os.fstat(descriptor)
    synced.add((stat.st_dev, stat.st_ino))

os.fsync = fsync

def files(path):
    if os.path.isdir(path):
        return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    return [path]

def watch(event, told):
    if event == "os.rename" and ".tilth" in str(told[0]) and not os.path.basename(told[1]).startswith("."):
        for path in files(str(told[0])):
            stat = os.stat(path)
            if (stat.st_dev, stat.st_ino) not in synced:
                with open(TOLD, "a") as file:
                    file.write(f"{path} -> {told[1]}\\n")

sys.addaudithook(watch)
"""


@pytest.mark.slow  # a whole cycle
def test_what_is_renamed_was_on_the_disk_before(
    spawner: Spawner, untouched: Loop, copy: Callable[[Loop], Loop]
) -> None:
    loop = copy(untouched)
    plan = "phases: [{name: all, kinds: [skill], epochs: 1, learning_rate: 1.0e-5}]"
    (loop.root / "plan.yaml").write_text(plan)
    told = loop.root.parent / "told"
    told.write_text("")
    before = f"TOLD = {str(told)!r}\n" + TRACED
    ran = spawner.run(loop.root, "cycle", "--force", "--set", "train.checkpoint_every_s=0.01", before=before)
    assert (ran.code, "this is release 1" in ran.out) == (0, True), ran.err
    assert told.read_text() == ""
