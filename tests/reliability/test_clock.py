"""A clock that is set back, between two commands and during one: nothing asks a clock what is newest."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from tilth.cycle.journal import done, find_cycle
from tilth.cycle.releases import current_release, releases

from ..loop import Loop, Spawner

BACKWARDS = """
import sys, time
from datetime import datetime, timedelta

class Backwards(datetime):
    ago = timedelta(days=1000)

    @classmethod
    def now(cls, tz=None):
        cls.ago += timedelta(hours=1)
        return datetime.now(tz) - cls.ago

real = time.time
time.time = lambda: real() - 3e8
for name, module in list(sys.modules.items()):
    if name.startswith("tilth.") and hasattr(module, "datetime"):
        module.datetime = Backwards
"""
"""Each look at the clock is an hour before the last one, and all are years before the files."""


@pytest.mark.slow  # examines a student
def test_a_cycle_goes_on_and_its_release_is_the_newest(
    spawner: Spawner, trained: Loop, copy: Callable[[Loop], Loop]
) -> None:
    loop = copy(trained)
    for path in loop.root.rglob("*"):
        if path.is_file():
            os.utime(path, (4e9, 4e9))
    before = len(loop.teacher.requests)
    ran = spawner.run(loop.root, "cycle", before=BACKWARDS)
    assert ran.code == 0, ran.err
    assert ran.err.count("done already") == 2
    assert len(loop.teacher.requests) == before
    release = current_release(loop.workspace)
    assert release
    assert (release.number, release.parent) == (2, 1)
    first, second = releases(loop.workspace)
    assert second.created_at < first.created_at  # the clock was read, and set back
    record = done(loop.workspace, 2)
    assert record
    assert record.finished_at < find_cycle(loop.workspace, 2).started_at
    listed = spawner.run(loop.root, "releases", before=BACKWARDS).out.splitlines()
    assert "current" in next(line for line in listed if line.split()[:1] == ["2"])
    assert spawner.run(loop.root, "cycle", before=BACKWARDS).out.startswith("nothing to do")
