"""What is known of every leaf, by what it says and not by where it lies."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tilth.core.atomic import read_json, write_json
from tilth.core.progress import SilentProgress
from tilth.cycle.overview import leaf_states, scores_over_releases

from ..loop import MILL, SKILL, Loop
from ..made_releases import Made


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


def test_what_was_asked_under_other_settings_stands_beside_no_other_score(tmp_path: Path) -> None:
    made = Made.at(tmp_path / "coast")
    first, second, third = (made.release(number, scores={"knowledge/mill": 3 + number}) for number in (1, 2, 3))
    for older, younger in ((first, first), (first, second), (second, third)):
        made.compared(older, younger)
    named = [score.model for score in scores_over_releases(made.workspace, "knowledge/mill")]
    assert named == ["base", "release 1", "release 2", "release 3"]
    path = made.workspace.state / "cycles/0003/eval.json"
    told = read_json(path)
    write_json(path, told | {"settings": told["settings"] | {"max_new_tokens": 99}})
    left = [score.model for score in scores_over_releases(made.workspace, "knowledge/mill")]
    assert left == ["base", "release 2", "release 3"]


def test_the_scores_of_a_release_whose_cycle_is_lost_are_left_out(tmp_path: Path) -> None:
    made = Made.at(tmp_path / "coast")
    first, second = (made.release(number, scores={"knowledge/mill": 3 + number}) for number in (1, 2))
    for older, younger in ((first, first), (first, second)):
        made.compared(older, younger)
    shutil.rmtree(made.workspace.state / "cycles/0002")
    assert [score.model for score in scores_over_releases(made.workspace, "knowledge/mill")] == ["base", "release 1"]
