"""Several processes that train a plan's phases together: started, watched and stopped, on one machine or on several.

For each phase the processes of `worker.py` are started anew; what they are to do stands in the phase's `job.json`. They
find one another at a store of PyTorch's (a small server in the process that runs the plan), as they would under
torchrun, a new one for each phase; on several machines another tells the others (`join_run`) which phase is on.

Their numbers come back as lines on their standard output, their messages go to `process-N.log` beside the job. One that
dies ends the others. None outlives its parent: their standard input ends with it.

A phase that learns from answers of its own is trained by the process that runs the plan, while other machines wait for
the next one: its batches are made on the way.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..core.atomic import write_text
from ..core.config import Config, Train
from ..core.errors import ConfigError, ModelError, TilthError
from ..core.progress import Progress
from ..llm.precision import device
from .distributed import for_phase
from .phase import Models, PhaseJob, TrainModel, signals_ask, train_model
from .plan import Plan
from .processes import Place, Processes
from .report_to import require_boards
from .trainer import Watch
from .worker import Work, read_work

JOB_NAME = "job.json"
_GONE_S = 60.0
"""After so long without a sign of life a machine is taken for gone."""
_SIGN_S = 5.0
_DISK_S = 30.0
"""How long a shared disk may take to show a new file."""
_FAILED = "failed"
"""In the store: what ended the run, on whichever machine."""
_DONE, _STOPPED = "done", "stopped"
"""In place of the next phase, where there is none."""


@contextlib.contextmanager
def launching(settings: Train) -> Generator[TrainModel | None]:
    """Inside the block: how phases are trained by several processes; None where this one does it.

    Raises ConfigError.
    """
    if settings.alone:
        yield None
        return
    store = _open_store(settings, at_rendezvous=True)
    numbers = itertools.count(1)

    def train(
        job: PhaseJob, models: Models, checkpoints: Path, checkpoint: Path | None, config: Config, watch: Watch
    ) -> None:
        if config.train.alone:
            watch.say(f"phase {job.phase.name}: {job.phase.method} trains in one process")
            train_model(job, models, checkpoints, checkpoint, config, watch)
            return
        number = next(numbers)
        work = Work(job, models, checkpoints, checkpoint, config, secrets.token_hex(16))
        file = job.folder / JOB_NAME
        write_text(file, work.dump())
        meeting = _open_store(settings)
        store.set(f"work/{number}", json.dumps([str(file), work.token, meeting.port]))
        others = _Others(store, number, settings.nodes, watch.say)
        try:
            with signals_ask(watch):
                Processes(Place(settings, 0, meeting.host, meeting.port), file, work).run(watch, others.look)
                others.wait()
        except KeyboardInterrupt:
            file.unlink()
            raise
        file.unlink()

    ending = _STOPPED
    try:
        yield train
        ending = _DONE
    except Exception as error:
        said = str(error) if isinstance(error, TilthError) else f"{type(error).__name__}: {error}"
        store.set(_FAILED, said.partition("\n")[0])
        raise
    finally:
        _dismiss(store, next(numbers), settings.nodes, ending)


def join_run(settings: Train, node: int, progress: Progress) -> None:
    """Be machine `node` (from 1) of a run that the first machine leads, until it ends.

    Raises ConfigError where the settings know of no such machine; ModelError when the first machine is gone, or
    something failed here or there; KeyboardInterrupt when stopped, here or there.
    """
    if node >= settings.nodes:
        what = f"there is no machine {node}: train.nodes is {settings.nodes}, and the first machine is 0"
        raise ConfigError(what, where="--node-rank", fix="give every machine the same --nodes and a number below it")
    host, port = _address(settings.rendezvous)
    store = _find(host, port, progress)
    with _first_machine_there():
        if store.add(f"joined/{node}", 1) > 1:
            what = f"machine {node + 1} was in this run before"
            store.set(_FAILED, what)
            raise ModelError(what, fix="start the run again on all machines; it goes on from its last checkpoint")
    with _signs_given(host, port, node):
        _work_on(store, settings, node, host, progress)


def _work_on(store: Any, settings: Train, node: int, host: str, progress: Progress) -> None:
    """Do machine `node`'s part of every phase, until the run ends. Raises as `join_run`."""
    for number in itertools.count(1):
        told = _next_work(store, number, node)
        if told is None:
            return
        try:
            work = _seen(told.file, told.token)
            progress.say(f"phase {work.job.phase.name}: machine {node + 1} of {settings.nodes}")
            stop_asked = _share(Place(work.config.train, node, host, told.port), told.file, work, store)
        except TilthError as error:
            with contextlib.suppress(RuntimeError):  # the first machine is gone, and that is the error
                store.set(_FAILED, f"machine {node + 1}: {error}")
            raise
        with _first_machine_there():
            store.set(f"ended/{number}/{node}", "1")
        if stop_asked:
            raise KeyboardInterrupt


def _share(place: Place, file: Path, work: Work, store: Any) -> bool:
    """Do this machine's part of a phase; whether it was asked to stop when there was no step left to do."""
    watch = Watch(lambda _step: None, work.config.train.checkpoint_every_s)
    with signals_ask(watch):
        Processes(place, file, work).run(watch, lambda: _failed(store))
    return watch.stop_asked


def check_adapters(plan: Plan, config: Config) -> None:
    """Raise ConfigError where weights that are held in 4 bits would be shared out."""
    for phase in plan.phases:
        if phase.adapter == "qlora" and (kind := for_phase(config, phase).train.distributed) != "none":
            what = f"`adapter: qlora` cannot be trained with `train.distributed: {kind}`"
            raise ConfigError(what, where=f"phase {phase.name!r}", fix="set `distributed: none` or `adapter: lora`")


def check_machine(settings: Train) -> None:
    """Raises ModelError or ConfigError where this machine lacks a package or a GPU that the settings ask for."""
    require_boards(settings.report_to)
    if settings.distributed.startswith("zero") and find_spec("deepspeed") is None:
        what = f"`train.distributed: {settings.distributed}` needs the package deepspeed"
        raise ModelError(what, fix="run `pip install 'tilth[deepspeed]'`, or use `distributed: fsdp`")
    if settings.processes > 1 and device() == "cuda":
        import torch

        if settings.processes > (gpus := torch.cuda.device_count()):
            what = f"train.processes is {settings.processes}, but this machine has {gpus} GPU(s)"
            raise ConfigError(what, fix=f"set it to {gpus} at most")


def _address(rendezvous: str) -> tuple[str, int]:
    host, _, port = rendezvous.rpartition(":")
    return host, int(port)


def _open_store(settings: Train, *, at_rendezvous: bool = False) -> Any:
    """A store at the rendezvous or at a free port; for this machine only where it is alone. Raises ConfigError."""
    try:
        if settings.nodes == 1:
            listener = socket.create_server(("127.0.0.1", 0))
            host, port = listener.getsockname()
            return _store(host, port, is_master=True, master_listen_fd=listener.detach())
        host, port = _address(settings.rendezvous)
        return _store(host, port if at_rendezvous else 0, is_master=True)
    except (OSError, RuntimeError) as error:
        what = f"cannot listen at {settings.rendezvous} ({str(error).splitlines()[0]})"
        fix = "name a host and a free port of the first machine"
        raise ConfigError(what, where="train.rendezvous", fix=fix) from error


def _store(host: str, port: int, **how: Any) -> Any:
    from torch import distributed

    kind: Any = distributed
    return kind.TCPStore(host, port, wait_for_workers=False, **how)


class _Others:
    """The other machines of a phase, seen from the first. One that has not come yet is waited for, which is said."""

    def __init__(self, store: Any, number: int, nodes: int, say: Callable[[str], None]) -> None:
        self._store, self._number, self._nodes, self._say = store, number, range(1, nodes), say
        self._signs = {node: (0, time.monotonic()) for node in self._nodes}
        self._missed: set[int] = set()

    def look(self) -> str:
        """What went wrong on one of them; empty where nothing did."""
        for node in self._nodes:
            sign, now = self._store.add(f"alive/{node}", 0), time.monotonic()
            last, seen = self._signs[node]
            if sign != last:
                self._signs[node] = sign, now
            elif sign and now - seen > _GONE_S:
                return f"machine {node + 1} has given no sign of life for {_GONE_S:.0f} s"
            elif not sign and now - seen > _SIGN_S and node not in self._missed:
                self._missed.add(node)
                self._say(f"waiting for machine {node + 1}, which has not come: start it with --node-rank {node}")
        return _failed(self._store) if self._nodes else ""

    def wait(self) -> None:
        """Return when all of them are done with the phase. Raises ModelError."""
        while not all(self._store.check([f"ended/{self._number}/{node}"]) for node in self._nodes):
            if what := self.look():
                raise ModelError(what, fix="look at its process-N.log files")
            time.sleep(0.1)


def _failed(store: Any) -> str:
    try:
        return store.get(_FAILED).decode() if store.check([_FAILED]) else ""
    except RuntimeError:
        return "the first machine is gone"


def _dismiss(store: Any, number: int, nodes: int, ending: str) -> None:
    """Tell the other machines how the run has ended, and give them a moment to hear it."""
    store.set(f"work/{number}", ending)
    until = time.monotonic() + _SIGN_S
    while time.monotonic() < until and not all(store.check([f"bye/{node}"]) for node in range(1, nodes)):
        time.sleep(0.1)


def _find(host: str, port: int, progress: Progress) -> Any:
    """The first machine's store, as soon as it is there; that may take as long as its samples do."""
    with progress.task(f"waiting for {host}:{port}", total=None, unit="s") as task:
        while True:
            try:
                socket.create_connection((host, port), timeout=_SIGN_S).close()
                return _store(host, port, is_master=False)
            except (OSError, RuntimeError):  # it is not there yet, or gone between the two
                time.sleep(1)
                task.advance(1)


@contextlib.contextmanager
def _signs_given(host: str, port: int, node: int) -> Generator[None]:
    """Inside the block the first machine is given signs of life, and not behind it: then its store may be gone."""
    over = threading.Event()
    threading.Thread(target=_give_signs, args=(host, port, node, over), name="signs of life", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _give_signs(host: str, port: int, node: int, over: threading.Event) -> None:
    with contextlib.suppress(RuntimeError):
        store = _store(host, port, is_master=False)
        while store.add(f"alive/{node}", 1) and not over.wait(_SIGN_S):
            pass


@dataclass(frozen=True)
class _Told:
    """What the first machine tells the others of a phase."""

    file: Path
    token: str
    port: int
    """Where its processes meet."""


def _next_work(store: Any, number: int, node: int) -> _Told | None:
    """What machine `node` is told of phase `number`; None when the run is over.

    Raises ModelError when it has failed or the first machine is gone, KeyboardInterrupt when it was stopped there.
    """
    key = f"work/{number}"
    with _first_machine_there():
        while not store.check([key]):
            time.sleep(0.2)
        if what := _failed(store):
            raise ModelError(what)
        told = store.get(key).decode()
        if told not in {_DONE, _STOPPED}:
            file, token, port = json.loads(told)
            return _Told(Path(file), token, port)
        store.set(f"bye/{node}", "1")
    if told == _STOPPED:
        raise KeyboardInterrupt
    return None


@contextlib.contextmanager
def _first_machine_there() -> Generator[None]:
    """Inside the block a store that cannot be reached is a ModelError."""
    try:
        yield
    except RuntimeError as error:
        raise ModelError("the first machine is gone", fix="look there for the reason") from error


def _seen(file: Path, token: str) -> Work:
    """The work in a file that the first machine wrote. Raises ModelError when this one does not see it."""
    until = time.monotonic() + _DISK_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ValueError):
            if (work := read_work(file)).token == token:
                return work
        time.sleep(0.5)
    raise ModelError(
        "this machine does not see what the first one wrote",
        where=str(file),
        fix="put the workspace on a disk that all machines share, at the same path",
    )
