"""`tilth cycle` stopped by signals and kills: one line, exit code 130, and the same command goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from ..loop import Loop, Spawner

IN_FLIGHT = 4
"""The concurrency that the workspace's `tilth.yaml` sets."""


@pytest.fixture
def loop(untouched: Loop, copy: Callable[[Loop], Loop]) -> Generator[Loop]:
    """A workspace with nothing done, its checkpoints frequent, its teacher a little slow."""
    loop = copy(untouched)
    (loop.root / "tilth.yaml").write_text(
        (loop.root / "tilth.yaml").read_text().replace("plan: ", "checkpoint_every_s: 0.1\n  plan: ")
    )
    loop.teacher.slow_s = 0.05
    yield loop
    loop.teacher.slow_s = 0.0


def until(reached: Callable[[], bool]) -> None:
    """Wait for a moment of the running command."""
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.005)


def steps(loop: Loop) -> int:
    """How many optimizer steps are on record."""
    return sum(len(path.read_text().splitlines()) for path in loop.state.glob("cycles/0001/train/*/metrics.jsonl"))


def samples(loop: Loop) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in loop.state.glob("store/*/samples.jsonl")}


def stop_once(spawner: Spawner, loop: Loop, number: int, reached: Callable[[], bool]) -> None:
    """Run the cycle, send it a signal at a moment, and check how it ends."""
    running = spawner.start(loop.root, "cycle")
    until(reached)
    running.send(number)
    ran = running.wait()
    assert "Traceback" not in ran.err
    assert "never retrieved" not in ran.err
    if number == signal.SIGKILL:
        assert ran.code == -number
        return
    assert (ran.code, ran.out) == (130, "")
    said = [line for line in ran.err.splitlines() if line.startswith("tilth: ")]
    assert said == [ran.err.splitlines()[-1]] == ["tilth: stopped; the same command goes on from here"]


@pytest.mark.slow
def test_stopped_again_and_again_it_comes_to_the_same_release(
    spawner: Spawner, loop: Loop, turned_once: Loop, tmp_path: Path
) -> None:
    asked, signals = len(loop.teacher.requests), (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
    for count, number in enumerate(signals, start=1):
        goal = asked + 15 * count
        stop_once(spawner, loop, number, lambda goal=goal: len(loop.teacher.requests) >= goal)
        assert not (loop.state / "cycles/0001/train").exists()
    loop.teacher.slow_s = 0.0
    for number in signals:
        goal = steps(loop) + 12
        stop_once(spawner, loop, number, lambda goal=goal: steps(loop) >= goal)
        assert not (loop.state / "cycles/0001/train.json").exists()
    paid = loop.teacher.requests[asked:]
    assert len(set(paid)) <= len(paid) <= len(set(paid)) + IN_FLIGHT * len(signals)
    ran = spawner.run(loop.root, "cycle")
    assert (ran.code, loop.teacher.requests[asked:]) == (0, paid)
    assert samples(loop) == samples(turned_once)
    assert loop.release(1)["weights_sha256"] == turned_once.release(1)["weights_sha256"]
    assert not [path for path in loop.state.rglob("*") if ".tmp" in path.name or "checkpoint" in path.name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_answers(spawner: Spawner, trained: Loop, copy: Callable[[Loop], Loop], number: int) -> None:
    loop = copy(trained)
    before = f"import os, tilth.llm.local as local; local._answer = lambda *a: os.kill(os.getpid(), {int(number)})"
    ran = spawner.run(loop.root, "cycle", before=before)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err.splitlines()[-1] == "tilth: stopped; the same command goes on from here"
    assert "Traceback" not in ran.err


def test_a_stop_that_comes_while_an_object_is_cleaned_up_is_not_lost(spawner: Spawner, loop: Loop) -> None:
    """Python drops what is raised there."""
    before = """
import signal, time, weakref
import tilth.cli.tree as verb
class Held: pass
def interrupted(_): signal.raise_signal(signal.SIGINT)
def read(*_, **__):
    held = Held()
    seen = weakref.ref(held, interrupted)
    del held
    time.sleep(20)
verb.open_workspace = read
"""
    ran = spawner.run(loop.root, "tree", before=before)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err == "tilth: stopped; the same command goes on from here\n"
