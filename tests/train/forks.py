"""Plans run in children that are forked from a process which has loaded the libraries: each begins at once.

The processes that such a run starts are forked from it too. A run is killed from outside once it has come to a step,
whatever it does then; or one of its processes kills itself at some event: before it opens, renames or removes a file of
its phase, with half of one written, in a pass forward or back, around an update.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

_FIRST = "01-p"
"""The folder of the phase in which processes are killed."""
_LOOKED_AT = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


class Forks:
    """The process that forks the runs."""

    def __init__(self, student: Path, *, in_float32: bool = False) -> None:
        self._student = student
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(student), "float32" if in_float32 else "as the machine has it"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
        )
        assert self._process.stdin
        assert self._process.stdout
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def run(
        self,
        folder: Path,
        phases: list[dict[str, Any]],
        train: dict[str, Any] | None = None,
        *,
        recompute: bool = False,
        after: int = 0,
        event: int = 0,
        rank: int = 0,
        step: int = 0,
    ) -> int:
        """Train on the folder's `new.jsonl` and `pairs.jsonl`, to the end or to a kill; how the run ended.

        What it says, on all machines, goes to `said`. In its first phase process `rank` dies at the `event` of that
        number `after` so many steps (of a run that has come that far already: of those that it begins with), or the
        whole run some time after a `step`.
        """
        order = {"folder": str(folder), "student": str(self._student), "phases": phases, "train": train or {}}
        order |= {"recompute": recompute, "after": after, "event": event, "rank": rank}
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()
        child = int(self._answers.readline())
        if step:
            _wait_for_step(child, folder, step)
            for pid in (child, *_children(child)):
                with contextlib.suppress(ProcessLookupError):  # its parent's end was its own
                    os.kill(pid, signal.SIGKILL)
        return int(self._answers.readline())

    def close(self) -> None:
        """End it."""
        self._orders.close()
        self._process.wait()
        self._answers.close()


def _wait_for_step(process: int, folder: Path, step: int) -> None:
    log = folder / "out" / _FIRST / "metrics.jsonl"
    while not log.exists() or log.read_text().count("\n") < step:
        assert Path(f"/proc/{process}").exists(), "it has ended by itself"
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.1))


def _children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


# In the process that forks, and in its children ----------------------------------------------------------------------


def _load(student: Path) -> None:
    names = ["torch", "peft", "trl.trainer.dpo_trainer", "trl.trainer.reward_trainer", "trl.trainer.sft_trainer"]
    names += ["trl.trainer.grpo_trainer", "tilth.train.run", "tilth.train.worker"]
    for name in names + (["deepspeed"] if find_spec("deepspeed") else []):
        import_module(name)
    from tilth.llm.quiet import quiet_transformers
    from tilth.train.flops import peak_flops
    from tilth.train.load import load_model

    with quiet_transformers():
        load_model(student)  # the first takes longest
    peak_flops()
    os.fsync = lambda _: None  # what a killed process has written is not lost, only what a machine has
    gc.freeze()


def _run(order: dict[str, Any]) -> None:
    from tilth.core.config import Config, Train
    from tilth.core.progress import SilentProgress
    from tilth.train import processes, trainer
    from tilth.train.data import Files, TrainingInputs
    from tilth.train.launch import join_run
    from tilth.train.plan import Phase, Plan
    from tilth.train.run import run_plan

    folder, own = Path(order["folder"]), Train(**{"checkpoint_every_s": 1e-9, **order["train"]})

    class Said(SilentProgress):
        def say(self, text: str) -> None:
            with (folder / "said").open("a") as file:
                file.write(text + "\n")

    subprocesses: Any = SimpleNamespace(Popen=lambda *_, **given: _Worker(order, **given), PIPE=None)
    processes.subprocess = subprocesses
    if order["recompute"]:
        trainer._CHECKPOINT_ACTIVATIONS_FROM = 1
    if own.alone:
        _die_when(order, rank=0)
    other = os.fork() if own.nodes == 2 else -1
    if not other:
        join_run(own, 1, Said())
        return
    new = Files([folder / "new.jsonl"], [folder / "pairs.jsonl"])
    plan = Plan(phases=tuple(map(Phase.model_validate, order["phases"])))
    student, out, config = Path(order["student"]), folder / "out", Config(train=own)
    run_plan(plan, TrainingInputs(student, new), out=out, config=config, progress=Said())
    if other > 0:
        assert not os.waitpid(other, 0)[1]


class _Worker:
    """In place of a `Popen`."""

    def __init__(self, order: dict[str, Any], *, stderr: Any, env: dict[str, str], **_: Any) -> None:
        (their_in, our_in), (our_out, their_out) = os.pipe(), os.pipe()
        self._pid, self._status = os.fork(), None
        if not self._pid:
            for place, file in enumerate((their_in, their_out, stderr.fileno())):
                os.dup2(file, place)
            os.closerange(3, 1024)
            _work(order, env, Path(stderr.name).with_name("job.json"))
        os.close(their_in)
        os.close(their_out)
        self.stdin, self.stdout = os.fdopen(our_in, "wb"), os.fdopen(our_out, "rb")

    def wait(self) -> int:
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._status

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self._status is None:
            os.kill(self._pid, number)


def _work(order: dict[str, Any], env: dict[str, str], job: Path) -> NoReturn:
    from tilth.train import worker

    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if job.parent.name == _FIRST:
        _die_when(order, rank=int(env["RANK"]))
    sys.argv = ["worker", str(job)]
    worker.main()
    raise AssertionError


def _die_when(order: dict[str, Any], rank: int) -> None:
    """Log what this process does, in `events-RANK`, a line with the steps that are done; end with it at the event."""
    folder = Path(order["folder"])
    metrics, log = folder / "out" / _FIRST / "metrics.jsonl", folder / f"events-{rank}"
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    done = metrics.read_text().count("\n") if metrics.exists() else 0
    count = 0

    def happens(what: str, before_the_end: Callable[[], None] = lambda: None) -> None:
        nonlocal count
        count += 1
        os.write(file, f"{done} {what}\n".encode())
        if order["event"] and rank == order["rank"] and (done, count) >= (order["after"], order["event"]):
            before_the_end()
            os.kill(os.getpid(), signal.SIGKILL)

    def step_is_done(number: int) -> None:
        nonlocal count, done
        if number > done:
            done, count = number, 0

    _tell_of_steps(step_is_done)
    _tell_of_computing(happens)
    _tell_of_writing(happens)

    def watch_files(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _LOOKED_AT and f"/{_FIRST}/" in str(arguments[0]):
            happens(f"{event} {arguments[0]}")

    sys.addaudithook(watch_files)


def _tell_of_steps(tell: Callable[[int], None]) -> None:
    from tilth.train.trainer import PhaseTraining

    log = PhaseTraining.log

    def told(trainer: Any, logs: dict[str, float], *more: Any) -> None:
        tell(trainer.state.global_step if "loss" in logs else 0)
        log(trainer, logs, *more)

    PhaseTraining.log = told


def _tell_of_computing(tell: Callable[[str], None]) -> None:
    import torch
    from torch.nn.modules.module import register_module_forward_pre_hook
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    def passing(module: Any, _inputs: Any) -> None:
        if type(module).__name__.endswith("DecoderLayer"):
            tell("forward")

    backward = torch.Tensor.backward

    def back(*given: Any, **named: Any) -> None:
        tell("backward")
        backward(*given, **named)
        tell("backward is over")

    torch.Tensor.backward = back
    register_module_forward_pre_hook(passing)
    register_optimizer_step_pre_hook(lambda *_: tell("update"))
    register_optimizer_step_post_hook(lambda *_: tell("update is over"))


def _tell_of_writing(tell: Callable[[str, Callable[[], None]], None]) -> None:
    """Of files that are written by other code than Python's."""
    import torch
    from safetensors import torch as tensors

    def halved(write: Callable[..., Any]) -> Callable[..., Any]:
        def written(what: Any, file: Any, *given: Any, **named: Any) -> None:
            write(what, file, *given, **named)
            if isinstance(file, str | Path):
                tell(f"half of {file}", lambda: os.truncate(file, Path(file).stat().st_size // 2))

        return written

    torch.save, tensors.serialize_file = halved(torch.save), halved(tensors.serialize_file)


def _serve() -> None:
    if sys.argv[2] == "float32":
        import torch
        from tilth.llm import precision

        precision.compute_dtype = lambda: torch.float32
    _load(Path(sys.argv[1]))
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            try:
                _run(json.loads(line))
            except BaseException:  # noqa: BLE001  told by the exit code
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.write(1, f"{child}\n".encode())
        os.write(1, f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n".encode())


if __name__ == "__main__":
    _serve()
