"""What is known of every leaf, by what it says and not by where it lies."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from tilth.core.progress import SilentProgress
from tilth.cycle.overview import leaf_states

from ..loop import MILL, SKILL, Loop


def test_a_leaf_that_moved_is_trained_and_has_its_score(turned_once: Loop, copy: Callable[[Loop], Loop]) -> None:
    loop = copy(turned_once)
    before = {state.summary.id: state for state in leaf_states(loop.workspace, [], SilentProgress())}
    subprocess.run(["git", "mv", MILL, f"{MILL}_2"], cwd=loop.root, check=True)
    after = {state.summary.id: state for state in leaf_states(loop.workspace, [], SilentProgress())}
    assert after.keys() == {f"{MILL}_2", SKILL}
    told = [(state.samples, state.trained, state.score) for state in (before[MILL], after[f"{MILL}_2"])]
    assert told[0] == told[1]
    assert (told[1][1], told[1][2] is None) == (True, False)
    page = loop.root / f"{MILL}_2/page.md"
    page.write_text(f"{page.read_text()}\nIt is closed on Mondays.\n")
    states = leaf_states(loop.workspace, [f"{MILL}_2"], SilentProgress())
    assert [state.trained for state in states] == [False]
