"""A cycle that was stopped at an awkward place, and the same call again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tilth.cycle.candidate
import tilth.cycle.releases
import tilth.cycle.run
from tilth.core.progress import SilentProgress
from tilth.cycle.releases import current_release
from tilth.cycle.run import CycleResult, run_cycle

from ..loop import Loop, skill_files


def stop(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt


def turn(loop: Loop) -> CycleResult:
    return run_cycle(loop.workspace, SilentProgress())


@pytest.fixture
def loop(trained: Loop, copy: Callable[[Loop], Loop]) -> Loop:
    return copy(trained)


@pytest.mark.slow  # each trains and examines a student of its own
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (tilth.cycle.run, "judge_candidate"),
        (tilth.cycle.candidate, "add_release"),
        (tilth.cycle.releases, "set_current"),
        (tilth.cycle.run, "write_report"),
        (tilth.cycle.journal, "finish"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_goes_on_to_the_same_release(loop: Loop, module: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, name, stop)
        with pytest.raises(KeyboardInterrupt):
            turn(loop)
    asked = len(loop.teacher.requests)
    result = turn(loop)
    assert (result.number, result.outcome, result.release) == (2, "released", 2)
    assert len(loop.teacher.requests) == asked
    release = current_release(loop.workspace)
    assert release
    assert (release.number, release.parent) == (2, 1)
    assert result.report
    assert "release 2" in result.report.read_text()
    assert not list(loop.state.glob("cycles/0002/train/*/model"))
    assert turn(loop).outcome == "nothing to do"


def test_a_contribution_after_the_stop_starts_from_the_release_that_was_made(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tilth.cycle.run, "write_report", stop)
        with pytest.raises(KeyboardInterrupt):
            turn(loop)
    loop.commit("compositional_skills/other", {"qna.yaml": skill_files()["qna.yaml"].replace("alpha", "omega")})
    (loop.root / "plan.yaml").write_text("phases: [{name: all, kinds: [skill], epochs: 1, learning_rate: 1.0e-5}]")
    assert turn(loop).number == 3
    assert tilth.cycle.journal.find_cycle(loop.workspace, 3).parent == 2
    done = tilth.cycle.journal.done(loop.workspace, 2)
    assert done
    assert (done.outcome, done.release) == ("released", 2)
