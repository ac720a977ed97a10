"""How the parent of several training processes behaves, tried on children that do not train."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Train
from tilth.core.errors import CheckFailed, ModelError, TilthError
from tilth.train import processes
from tilth.train.metrics import Step
from tilth.train.processes import Place, Processes
from tilth.train.selection import Evaluation
from tilth.train.trainer import Watch

STEP = {
    "step": 1, "epoch": 0.5, "loss": 2.0, "learning_rate": 1e-3, "grad_norm": 1.0, "tokens": 10, "trained_tokens": 5,
    "seconds": 0.1,
}  # fmt: skip
_HEAD = f"""
import json, os, signal, sys, time
rank = int(os.environ["RANK"])
tell = lambda **message: print(json.dumps(message), flush=True)
STEP = {STEP!r}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Step]]:
    """Runs two children of a program, and gives the steps that the parent heard of."""

    def run(program: str, elsewhere: Callable[[], str] = lambda: "", on_step: Any = None) -> list[Step]:
        command = (sys.executable, "-c", _HEAD + textwrap.dedent(program))
        monkeypatch.setattr(processes, "_COMMAND", command)
        steps: list[Step] = []
        watch = Watch(steps.append, 1e9)
        if on_step:
            watch.on_step = lambda step: on_step(watch, step)
        work: Any = SimpleNamespace(job=SimpleNamespace(phase=SimpleNamespace(name="p")))
        Processes(Place(Train(processes=2), 0, "127.0.0.1", 1), tmp_path / "job.json", work).run(watch, elsewhere)
        return steps

    return run


def test_what_the_first_process_tells_reaches_the_watch(run: Callable[..., list[Step]], tmp_path: Path) -> None:
    assert [step.loss for step in run("rank or tell(step=STEP)\ntell(ended={'how': 'done'})")] == [2.0]
    assert list(tmp_path.iterdir()) == []


def test_what_an_epoch_was_measured_to_be_reaches_the_watch(run: Callable[..., list[Step]]) -> None:
    heard: list[Any] = []

    def listen(watch: Watch, _step: Step) -> None:
        watch.on_evaluation = heard.append

    measured = Evaluation(epoch=1, step=1, validation={"loss": 1.5})
    told = f"tell(step=STEP); tell(evaluation={measured.model_dump(mode='json')!r})"
    run(f"if rank == 0: {told}\ntell(ended={{'how': 'done'}})", on_step=listen)
    assert heard == [measured]


def test_each_process_is_told_who_it_is(run: Callable[..., list[Step]]) -> None:
    program = """
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
        assert [os.environ[name] for name in names] == [str(rank), str(rank), "2", "2", "127.0.0.1"]
        assert sys.argv[1].endswith("job.json")
        tell(ended={'how': 'done'})
    """
    run(program)


@pytest.mark.slow
def test_an_error_of_one_ends_the_others_and_is_raised_as_it_was(run: Callable[..., list[Step]]) -> None:
    program = """
        if rank == 0:
            time.sleep(60)
        tell(ended={'how': 'CheckFailed', 'what': 'the loss became nan', 'where': 'here', 'fix': 'lower it'})
    """
    with pytest.raises(CheckFailed) as raised:
        run(program)
    assert str(raised.value) == "here: the loss became nan; lower it"


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", r"training process 1 was killed \(SIGKILL\); is the memory full\?"),
        (
            "sys.exit('no such thing')",
            r"training process 1 failed \(no such thing\); its messages are in .*process-1\.log",
        ),
    ],
)
@pytest.mark.slow
def test_a_process_that_dies_is_one_line_even_when_the_others_complain_of_it_first(
    last: str, expected: str, run: Callable[..., list[Step]]
) -> None:
    program = f"""
        if rank == 0:
            tell(ended={{'how': 'error', 'what': 'RuntimeError: connection closed by peer'}})
            sys.exit()
        time.sleep(0.2)
        {last}
    """
    if "exit" in last:
        program = program.replace("if rank == 0:", "if rank == 0:\n            time.sleep(60)")
    with pytest.raises(ModelError, match=f"^phase 'p': {expected}"):
        run(program)


@pytest.mark.slow
def test_half_a_line_of_a_process_that_is_killed_is_no_message(run: Callable[..., list[Step]]) -> None:
    program = """
        if rank == 0:
            os.write(1, b'not JSON' + os.linesep.encode() + b'{"step": {"st')
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    """
    with pytest.raises(ModelError, match=r"training process 0 was killed \(SIGKILL\)"):
        run(program)


def test_a_stop_reaches_all_and_they_may_finish_their_step(run: Callable[..., list[Step]], tmp_path: Path) -> None:
    program = f"""
        def stop(*_):
            open({str(tmp_path)!r} + f"/saved-{{rank}}", "w").close()
            tell(ended={{'how': 'stopped'}})
            os._exit(0)
        signal.signal(signal.SIGTERM, stop)
        open({str(tmp_path)!r} + f"/ready-{{rank}}", "w").close()
        while not os.path.exists({str(tmp_path)!r} + f"/ready-{{1 - rank}}"):
            time.sleep(0.01)
        rank or tell(step=STEP)
        time.sleep(60)
    """

    def stop(watch: Watch, _step: Step) -> None:
        watch.stop_asked = True

    with pytest.raises(KeyboardInterrupt):
        run(program, on_step=stop)
    assert {path.name for path in tmp_path.glob("saved-*")} == {"saved-0", "saved-1"}


@pytest.mark.slow
def test_what_failed_on_another_machine_ends_this_one(run: Callable[..., list[Step]]) -> None:
    with pytest.raises(TilthError, match=r"^phase 'p': machine 2: the disk is full$"):
        run("time.sleep(60)", elsewhere=lambda: "machine 2: the disk is full")


_PARENT = """
import sys
from pathlib import Path
from types import SimpleNamespace
from tilth.core.config import Train
from tilth.train import processes
from tilth.train.trainer import Watch
processes._COMMAND = (sys.executable, "-c", sys.argv[1])
work = SimpleNamespace(job=SimpleNamespace(phase=SimpleNamespace(name="p")))
place = processes.Place(Train(processes=2), 0, "127.0.0.1", 1)
processes.Processes(place, Path(sys.argv[2]) / "job.json", work).run(Watch(print, 1e9), lambda: "")
"""
_CHILD = """
import os, sys, threading, time
from tilth.train.worker import end_with_parent
end_with_parent()
open(os.path.join(os.path.dirname(sys.argv[1]), f"pid-{os.getpid()}"), "w").close()
time.sleep(60)
"""


@pytest.mark.slow
def test_no_process_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, _CHILD, str(tmp_path)])
    while len(pids := [int(path.name[4:]) for path in tmp_path.glob("pid-*")]) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while any(runs(pid) for pid in pids):  # they end, or this test does not
        time.sleep(0.05)


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
