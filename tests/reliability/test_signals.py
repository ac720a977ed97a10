"""Ctrl-C, SIGTERM and a closed terminal, at each stage: one line, exit code 130, and the same command goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from ..loop import Loop, Spawner

STOPPED = """
import importlib, os, time
module = importlib.import_module({module!r})
real = module.{name}
def stop(*arguments, **named):
    os.kill(os.getpid(), {number})
    time.sleep(0.2)
    return real(*arguments, **named)
module.{name} = stop
"""
"""A signal arrives when a function is called, and what it does goes on if nothing stops it."""

STAGES = (
    ("tilth.cycle.run", "read_basis"),
    ("tilth.cycle.run", "bring_up_to_date"),
    ("tilth.cycle.run", "hold_out"),
    ("tilth.train.run", "make_mixes"),
    ("tilth.cycle.candidate", "evaluate"),
    ("tilth.cycle.candidate", "add_release"),
    ("tilth.cycle.run", "write_report"),
)
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


def check_stopped(spawner: Spawner, loop: Loop, verb: str, module: str, name: str, number: int) -> None:
    ran = spawner.run(loop.root, verb, before=STOPPED.format(module=module, name=name, number=int(number)))
    assert (ran.code, ran.out) == (130, ""), ran.err
    assert ran.err.splitlines()[-1] == "tilth: stopped; the same command goes on from here"
    assert "Traceback" not in ran.err


@pytest.mark.slow
def test_a_cycle_stopped_at_each_stage_by_each_signal_comes_to_its_release(
    spawner: Spawner, trained: Loop, copy: Callable[[Loop], Loop]
) -> None:
    loop = copy(trained)
    before = len(loop.teacher.requests)
    for module, name in STAGES:
        for number in SIGNALS:
            check_stopped(spawner, loop, "cycle", module, name, number)
    ran = spawner.run(loop.root, "cycle")
    assert (ran.code, "this is release 2" in ran.out) == (0, True), ran.err
    assert len(loop.teacher.requests) == before


@pytest.mark.parametrize("number", SIGNALS)
def test_generate_is_stopped_by_each_signal(
    spawner: Spawner, untouched: Loop, copy: Callable[[Loop], Loop], number: int
) -> None:
    loop = copy(untouched)
    check_stopped(spawner, loop, "generate", "tilth.sdg.generate", "write_entry", number)
    before = len(loop.teacher.requests)
    assert spawner.run(loop.root, "generate").code == 0
    asked = loop.teacher.requests[before:]
    assert len(asked) == len(set(asked))


@pytest.mark.slow
def test_training_is_stopped_by_a_terminal_that_is_closed_after_its_step(
    spawner: Spawner, untouched: Loop, turned_once: Loop, copy: Callable[[Loop], Loop]
) -> None:
    loop = copy(untouched)
    before = """
import os, tilth.train.phase as phase
real = phase.add_step
def step(file, done):
    real(file, done)
    if done.step == 5:
        os.kill(os.getpid(), 1)
phase.add_step = step
"""
    for _ in range(2):  # in each phase
        ran = spawner.run(loop.root, "cycle", before=before)
        assert ran.code == 130, ran.err
    assert spawner.run(loop.root, "cycle").code == 0
    assert loop.release(1)["weights_sha256"] == turned_once.release(1)["weights_sha256"]


def test_nohup_is_heeded(spawner: Spawner, untouched: Loop, copy: Callable[[Loop], Loop]) -> None:
    ignored = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    hung_up = STOPPED.format(module="tilth.cli.tree", name="open_workspace", number=int(signal.SIGHUP))
    ran = spawner.run(copy(untouched).root, "tree", before=ignored + hung_up)
    assert (ran.code, ran.err) == (0, "")
