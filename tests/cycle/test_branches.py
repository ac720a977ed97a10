"""Branches side by side: where the models of their cycles are found, and what stands beside them."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from tilth.core.atomic import read_json, write_json
from tilth.core.errors import TilthError
from tilth.core.progress import SilentProgress
from tilth.cycle.branches import evaluate_together
from tilth.cycle.releases import set_current

from ..loop import FERRY, Loop, Spawner

Copy = Callable[[Loop], Loop]


def test_a_branch_is_found_where_the_workspace_was_moved_to_and_said_to_be_pruned(
    turned_twice: Loop, copy: Copy
) -> None:
    loop = copy(turned_twice)
    done, model = loop.state / "cycles/0002/done.json", loop.state / "cycles/0002/train/02-all/model"
    write_json(done, read_json(done) | {"outcome": "judged", "release": 0})
    shutil.copytree(loop.state / "releases/0002/model", model)
    evaluated = read_json(loop.state / "cycles/0002/eval.json")
    again = [question | {"leaf": "knowledge/again"} for question in evaluated["questions"] if question["leaf"] == FERRY]
    write_json(loop.state / "cycles/0002/eval.json", evaluated | {"questions": [*evaluated["questions"], *again]})
    shown = evaluate_together(loop.workspace, {"ferry": 2}, SilentProgress())
    assert list(shown.models) == ["release 1", "ferry"]
    assert len(shown.of_leaf("knowledge/again")) == len(shown.of_leaf(FERRY)) == 6  # two leaves may ask the same
    shutil.rmtree(model)
    with pytest.raises(
        TilthError, match=r"the models of cycle 2 were pruned; remove .*/cycles/0002, .* trains it again"
    ):
        evaluate_together(loop.workspace, {"ferry": 2}, SilentProgress())


def test_a_released_branch_stands_beside_the_current_release(turned_twice: Loop, copy: Copy, spawner: Spawner) -> None:
    loop = copy(turned_twice)
    set_current(loop.workspace, 1)
    ran = spawner.run(loop.root, "cycle", "--ref", "HEAD", "--ref", "HEAD~1")
    assert ran.code == 0, ran.err
    head = next(line for line in reversed(ran.out.splitlines()) if line.startswith("leaf"))
    assert head.split()[:4] == ["leaf", "release", "1", "HEAD"]
