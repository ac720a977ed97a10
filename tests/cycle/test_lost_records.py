"""Records of older cycles that are gone, as after a restore of what is precious only: the loop goes on without them."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from tilth.cycle.journal import next_number

from ..loop import Loop, Spawner


def test_a_cycle_ends_without_the_records_of_the_one_before(
    copy: Callable[[Loop], Loop], trained: Loop, spawner: Spawner
) -> None:
    loop = copy(trained)
    shutil.rmtree(loop.state / "cycles" / "0001")
    ran = spawner.run(loop.root, "cycle")
    assert ran.code == 0, ran.err
    assert loop.release(2)["parent"] == 1
    assert (loop.state / "cycles" / "0002" / "report.html").is_file()


def test_a_new_cycle_takes_no_number_that_a_release_names(copy: Callable[[Loop], Loop], turned_twice: Loop) -> None:
    loop = copy(turned_twice)
    shutil.rmtree(loop.state / "cycles")
    assert next_number(loop.workspace) == 3
