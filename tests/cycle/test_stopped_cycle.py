"""A cycle that was killed at an awkward place, and the same call again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tilth.cycle.journal import done, find_cycle
from tilth.cycle.releases import current_release

from ..loop import Loop, Spawner, skill_files

KILLED = "import os, {module} as module; module.{name} = lambda *args, **kwargs: os.kill(os.getpid(), 9)"


@pytest.fixture
def loop(trained: Loop, copy: Callable[[Loop], Loop]) -> Loop:
    return copy(trained)


@pytest.mark.slow  # each trains and examines a student of its own
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("tilth.cycle.run", "judge_candidate"),
        ("tilth.cycle.candidate", "add_release"),
        ("tilth.cycle.releases", "set_current"),
        ("tilth.cycle.run", "write_report"),
        ("tilth.cycle.journal", "finish"),
    ],
)
def test_it_goes_on_to_the_same_release(spawner: Spawner, loop: Loop, module: str, name: str) -> None:
    assert spawner.run(loop.root, "cycle", before=KILLED.format(module=module, name=name)).code == -9
    asked = len(loop.teacher.requests)
    told = spawner.run(loop.root, "cycle", "--json").json
    assert (told["cycle"], told["outcome"], told["release"]) == (2, "released", 2)
    assert len(loop.teacher.requests) == asked
    release = current_release(loop.workspace)
    assert release
    assert (release.number, release.parent) == (2, 1)
    assert "release 2" in (loop.state / "cycles/0002/report.html").read_text()
    assert not list(loop.state.glob("cycles/0002/train/*/model"))
    assert spawner.run(loop.root, "cycle").out.startswith("nothing to do")


@pytest.mark.slow  # examines a student
def test_a_roll_back_after_the_stop_is_not_undone(spawner: Spawner, loop: Loop) -> None:
    killed = KILLED.format(module="tilth.cycle.run", name="write_report")
    assert spawner.run(loop.root, "cycle", before=killed).code == -9
    assert spawner.run(loop.root, "releases", "rollback", "1").code == 0
    record = done(loop.workspace, 2)
    assert record
    assert record.release == 2
    assert spawner.run(loop.root, "cycle", "--json").json["cycle"] == 2
    release = current_release(loop.workspace)
    assert release
    assert release.number == 1


def test_a_contribution_after_the_stop_starts_from_the_release_that_was_made(spawner: Spawner, loop: Loop) -> None:
    killed = KILLED.format(module="tilth.cycle.run", name="write_report")
    assert spawner.run(loop.root, "cycle", before=killed).code == -9
    assert not done(loop.workspace, 2)
    loop.commit("compositional_skills/other", {"qna.yaml": skill_files()["qna.yaml"].replace("alpha", "omega")})
    (loop.root / "plan.yaml").write_text("phases: [{name: all, kinds: [skill], epochs: 1, learning_rate: 1.0e-5}]")
    assert spawner.run(loop.root, "cycle", "--json").json["cycle"] == 3
    assert find_cycle(loop.workspace, 3).parent == 2
    record = done(loop.workspace, 2)
    assert record
    assert (record.outcome, record.release) == ("released", 2)
    assert "release 2" in (loop.state / "cycles/0002/report.html").read_text()
