"""kill -9 at every boundary between the stages of a cycle, one after the other: nothing is paid or trained twice.

Inside of stages: tests/cli/test_interrupted.py (generate, training), tests/train/test_kills.py (each step), and here
the others.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tilth.llm.ledger import Ledger
from tilth.llm.ledger_report import count

from ..loop import Loop, Spawner

BOUNDARIES = (
    ("tilth.cycle.run", "_open", 1),  # changes are known
    ("tilth.cycle.run", "_generate", 1),
    ("tilth.cycle.run", "hold_out", 1),  # generated
    ("tilth.cycle.hold_out", "contamination", 1),  # inside the look for held-out questions
    ("tilth.train.run", "make_mixes", 1),
    ("tilth.train.mix", "write_json", 1),  # inside the mixes: data.jsonl is there, mix.json is not
    ("tilth.train.run", "run_phase", 1),  # mixed
    ("tilth.train.run", "run_phase", 2),  # the first phase is trained, and by now its result is read
    ("tilth.train.run", "write_buffer", 1),
    ("tilth.cycle.run", "judge_candidate", 1),  # trained
    ("tilth.cycle.candidate", "find", 1),  # evaluated
    ("tilth.cycle.candidate", "judge", 1),  # inside the gate
    ("tilth.cycle.run", "release_candidate", 1),  # judged
    ("tilth.cycle.candidate", "add_release", 1),
    ("tilth.cycle.releases", "set_current", 1),  # the release is there
    ("tilth.cycle.run", "write_report", 1),
    ("tilth.cycle.report", "render", 1),  # inside the report
    ("tilth.cycle.journal", "finish", 1),  # reported
)
"""A function, which of its calls, and with it the process, ends."""

COUNTING = """
import tilth.llm.local as local, tilth.train.phase as phase

def counted(module, name, number):
    real = getattr(module, name)
    def call(*arguments, **named):
        done = real(*arguments, **named)
        with open(COUNTS, "a") as file:
            file.write(f"{name}\\n" * number(arguments))
        return done
    setattr(module, name, call)

counted(phase, "add_step", lambda arguments: 1)
counted(local, "_answer", lambda arguments: len(arguments[2]))
"""

KILL = """
import importlib, os
module, calls = importlib.import_module(MODULE), []
real = getattr(module, NAME)

def killed(*arguments, **named):
    calls.append(1)
    if len(calls) == WHICH:
        os.kill(os.getpid(), 9)
    return real(*arguments, **named)

setattr(module, NAME, killed)
"""


def kill(module: str, name: str, which: int) -> str:
    return f"MODULE, NAME, WHICH = {module!r}, {name!r}, {which}\n" + KILL


def counting(file: Path) -> str:
    return f"COUNTS = {str(file)!r}\n" + COUNTING


def steps_of(loop: Loop) -> int:
    """The optimizer steps of its first cycle, by the records."""
    results = loop.state.glob("cycles/0001/train/*/result.json")
    return sum(json.loads(path.read_text())["steps"] for path in results)


def answers_of(loop: Loop) -> int:
    """How many answers models of its own have given."""
    return sum(len(path.read_text().splitlines()) for path in loop.state.glob("answers/*.jsonl"))


@pytest.mark.slow
def test_killed_between_any_two_stages_nothing_is_done_twice(
    spawner: Spawner, untouched: Loop, turned_once: Loop, tmp_path: Path
) -> None:
    loop, counts, before = untouched.copy(tmp_path / "taxonomy"), tmp_path / "counts", len(untouched.teacher.requests)
    for module, name, which in BOUNDARIES:
        ran = spawner.run(loop.root, "cycle", before=counting(counts) + kill(module, name, which))
        assert ran.code == -9, (module, name, ran.err)
    ran = spawner.run(loop.root, "cycle", before=counting(counts))
    assert (ran.code, "this is release 1" in ran.out) == (0, True), ran.err
    with Ledger(turned_once.state / "ledger.db", reading=True) as ledger:
        assert len(loop.teacher.requests) - before == count(ledger)
    counted = counts.read_text().splitlines()
    assert counted.count("add_step") == steps_of(turned_once) == steps_of(loop)
    assert counted.count("_answer") == answers_of(turned_once) == answers_of(loop)
    assert loop.release(1)["weights_sha256"] == turned_once.release(1)["weights_sha256"]
    assert spawner.run(loop.root, "releases", "verify").code == 0
    assert not [path for path in loop.state.rglob("*") if ".tmp" in path.name]


@pytest.mark.slow
def test_killed_inside_evaluation_only_the_batch_on_its_way_is_asked_again(
    spawner: Spawner, trained: Loop, tmp_path: Path
) -> None:
    loop, counts = trained.copy(tmp_path / "taxonomy"), tmp_path / "counts"
    batches = ("--set", "eval.batch_size=2")
    for which in (2, 4):
        before = counting(counts) + kill("tilth.llm.local", "_answer", which)
        assert spawner.run(loop.root, "cycle", *batches, before=before).code == -9
    had = answers_of(trained)
    assert spawner.run(loop.root, "cycle", *batches, before=counting(counts)).code == 0
    asked = counts.read_text().splitlines().count("_answer")
    assert asked == answers_of(loop) - had  # the one that was killed had not answered


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name", "which"), [("tilth.cycle.releases", "copy_folder", 1), ("os", "link", 3)])
def test_killed_inside_the_release_there_is_none_and_then_a_whole_one(
    spawner: Spawner, trained: Loop, tmp_path: Path, module: str, name: str, which: int
) -> None:
    loop = trained.copy(tmp_path / "taxonomy")
    assert spawner.run(loop.root, "cycle", before=kill(module, name, which)).code == -9
    assert not (loop.state / "releases/0002").exists()
    ran = spawner.run(loop.root, "cycle")
    assert (ran.code, ran.err.count("done already")) == (0, 2)
    assert spawner.run(loop.root, "releases", "verify").code == 0
    assert not [path for path in loop.state.rglob("*") if ".tmp" in path.name]
