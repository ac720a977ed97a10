"""Many machines: the same flows as Ray tasks over leaves, for a teacher that one process cannot keep busy.

A worker has its own gateway, with its share of the requests in flight, and its own ledger, a shard. What a leaf made
and was answered goes to the one process that writes the workspace as soon as the leaf is done. The same answers give
the same bytes as one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import shutil
import signal
import socket
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..core.config import Config, ModelServer
from ..core.errors import ConfigError, ModelError, TilthError
from ..core.progress import SilentProgress, SilentTask, Task
from ..llm.ask import Gateway
from ..llm.ledger import Entry, Ledger
from ..llm.local_gateway import LocalModel
from ..llm.turns import Turns
from .engine import Job, Made, run_jobs
from .flow import Model
from .others import Students, other_models, students_needed
from .recipe import Recipe

LOCAL = "local"
"""The address that means: a cluster of this machine's cores, for as long as the command runs."""
_KNOCK_S = 10.0
_AHEAD = 2
"""Leaves that a worker has at once: while one ends, the next keeps its share of the wire busy."""


def run_on_ray(  # noqa: PLR0913  what a run in this process is given, and where to work
    jobs: Iterable[Callable[[], Job]],
    address: str,
    *,
    recipes: Sequence[Recipe],
    students: Students | None,
    config: Config,
    ledger: Ledger,
    task: Task,
    save: Callable[[Made], None],
) -> None:
    """Run the flows of all jobs on the cluster at `address` and `save` each leaf as soon as it is done.

    Raises ConfigError where a model has no address, what a flow raises, and ModelError when a worker is lost.
    """
    servers = _servers(config, recipes)
    if where := next((role for role, server in servers if not server.base_url), ""):
        what = "--ray needs models with an address"
        raise ConfigError(what, where=f"{where}.base_url", fix="set it, or leave --ray out")
    shards = _shards(ledger)
    students = _fetched(students, recipes) if students else None
    keys = {name: os.environ.get(name, "") for name in {server.api_key_env for _, server in servers}}
    with _cluster(address) as ray:
        num_workers = _num_workers(int(ray.cluster_resources().get("CPU", 1)), [server for _, server in servers])
        setup = _Setup(config, recipes, students, ledger.path, _place(ledger.path), num_workers, keys)
        actor = ray.remote(num_cpus=1)(_Worker)
        workers = [actor.remote(setup, shards / f"{number}.db") for number in range(num_workers)]
        try:
            _Deal(ray, workers, ledger, task, save).all(jobs)
        finally:
            for worker in workers:
                ray.kill(worker)
    collect(ledger)


def collect(ledger: Ledger) -> None:
    """Take what is in the shards into the ledger, those of a killed run too, and remove them."""
    shards = _shards(ledger)
    for shard in sorted(shards.glob("*.db")):
        with Ledger(shard) as part:
            ledger.merge(part.entries())
            for (key,) in part.rows("SELECT key FROM in_vain"):
                ledger.note_in_vain(key)
    shutil.rmtree(shards, ignore_errors=True)


def _shards(ledger: Ledger) -> Path:
    """Where the workers' ledgers are, as far as they see this disk."""
    return ledger.path.with_name(f"{ledger.path.name}.shards")


def _servers(config: Config, recipes: Iterable[Recipe]) -> list[tuple[str, ModelServer]]:
    """All models behind an address that flows may ask, with their places in the configuration."""
    pairs = next((recipe.preferences.models for recipe in recipes if recipe.preferences), ())
    named = [
        ("teacher", config.teacher),
        ("judge", config.judge),
        *(("preferences.models", server) for server in pairs),
    ]
    return [(role, server) for role, server in named if server]


def _fetched(students: Students, recipes: Iterable[Recipe]) -> Students:
    """Those that the flows ask, with their folders on this machine's disk: nothing of this process goes along."""
    asked = {"base": students.base, "student": students.current}
    there = {part: _in_folder(asked[part]()) for part in students_needed(recipes)}
    return Students(lambda: there["base"], lambda: there["student"])


def _in_folder(model: LocalModel) -> LocalModel:
    return LocalModel(model.name, functools.partial(_seen, model.folder()), model.system_prompt)


def _seen(folder: Path) -> Path:
    if not folder.is_dir():
        what = "a Ray worker does not see the student's folder"
        raise ModelError(what, where=str(folder), fix="put it on a disk that all machines share, or use --ray local")
    return folder


class _Deal:
    """Gives each worker the next leaf when it has room, and keeps what comes back."""

    def __init__(
        self, ray: Any, workers: Sequence[Any], ledger: Ledger, task: Task, save: Callable[[Made], None]
    ) -> None:
        self._ray, self._ledger, self._task, self._save = ray, ledger, task, save
        self._idle = [worker for _ in range(_AHEAD) for worker in workers]
        self._running: dict[Any, Any] = {}
        sees = self._got([worker.sees_the_ledger.remote() for worker in workers])
        self._sees = dict(zip(workers, sees, strict=True))

    def all(self, jobs: Iterable[Callable[[], Job]]) -> None:
        """Until all leaves are made."""
        for read in jobs:
            while not self._idle:
                self._receive()
            job, worker = read(), self._idle.pop(0)
            self._give(worker, job, () if self._sees[worker] else self._ledger.entries(job.leaf.id))
        while self._running:
            self._receive()

    def _give(self, worker: Any, job: Job, known: Iterable[Entry]) -> None:
        self._running[worker.make.remote(job, list(known))] = worker

    def _receive(self) -> None:
        """Wait for one leaf and keep it.

        Two workers may have been answered the same request differently, for two leaves. The first answer stays, and the
        second leaf is made again with it: samples rest on what the ledger has.
        """
        [done], _ = self._ray.wait(list(self._running), num_returns=1)
        worker = self._running.pop(done)
        made, entries = self._got(done)
        if self._ledger.merge(entries).differing:
            self._give(worker, made.job, filter(None, map(self._ledger.get, made.tally.keys)))
            return
        self._save(made)
        self._task.advance(made.tally.answers)
        self._idle.append(worker)

    def _got(self, reference: Any) -> Any:
        """What a worker returned, or raised."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(cause := error.cause, TilthError):
                raise cause from None
            raise
        except self._ray.exceptions.RayError as error:
            what = f"a Ray worker was lost ({str(error).splitlines()[0]})"
            raise ModelError(what, fix="run the same command again: what was answered is kept") from error


@dataclass(frozen=True)
class _Setup:
    """What every worker is given."""

    config: Config
    recipes: Sequence[Recipe]
    students: Students | None
    ledger: Path
    """The workspace's, and where that is."""
    place: str
    num_workers: int
    keys: Mapping[str, str]


class _Models(NamedTuple):
    teacher: Gateway
    judge: Gateway
    others: Mapping[str, Model]


class _Worker:
    """Makes leaves, several at a time, with one gateway for each model and one shard."""

    def __init__(self, setup: _Setup, shard: Path) -> None:
        os.environ.update({name: key for name, key in setup.keys.items() if key})
        self._setup = setup
        self._is_here = _place(setup.ledger) == setup.place
        self._ledger = _Shard(shard, setup.ledger if self._is_here else shard.with_suffix(".known"))
        self._stack = contextlib.AsyncExitStack()
        self._models: asyncio.Task[_Models] | None = None

    async def sees_the_ledger(self) -> bool:
        """Whether it looks answers up in the workspace's ledger; else it must be told what that has."""
        return self._is_here

    async def make(self, job: Job, known: Sequence[Entry]) -> tuple[Made, list[Entry]]:
        """What the flow makes of a leaf, and what this worker was answered for it, besides what was `known` before."""
        if not self._is_here:
            self._ledger.above.merge(known)
        if self._models is None:
            self._models = asyncio.create_task(self._open())
        teacher, judge, others = await self._models
        made: list[Made] = []
        await run_jobs([lambda: job], teacher=teacher, judge=judge, task=SilentTask(), save=made.append, others=others)
        return made[0], self._ledger.own(made[0].tally.keys - {entry.key for entry in known})

    async def _open(self) -> _Models:
        config, recipes, progress = self._setup.config, self._setup.recipes, SilentProgress()

        def gateway(server: ModelServer, role: str = "teacher") -> Gateway:
            share = _share(server, self._setup.num_workers)
            return Gateway(share, self._ledger, progress, seed=config.seed, role=role)

        opened = self._stack.enter_async_context
        teacher = await opened(gateway(config.teacher))
        judge = await opened(gateway(config.judge, "judge")) if config.judge else teacher
        others = other_models(recipes, self._setup.students, gateway, self._ledger, progress, Turns())
        return _Models(teacher, judge, await opened(others))


class _Shard(Ledger):
    """A worker's own ledger below the workspace's, or a copy of what that has: there an answer is looked up first."""

    def __init__(self, path: Path, above: Path) -> None:
        super().__init__(path)
        self.above = Ledger(above)

    def get(self, key: str) -> Entry | None:
        """The entry of a key in either."""
        return self.above.get(key) or super().get(key)

    def was_in_vain(self, key: str) -> bool:
        """Whether that was noted of a request in either."""
        return self.above.was_in_vain(key) or super().was_in_vain(key)

    def own(self, keys: Iterable[str]) -> list[Entry]:
        """What the shard itself has of these, also where the workspace's ledger has it by now."""
        return [entry for key in sorted(keys) if (entry := Ledger.get(self, key))]


def _place(file: Path) -> str:
    """One for each file of each running machine: SQLite's log does not work across machines that share a disk."""
    if not file.exists():
        return ""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text()} {file.stat().st_dev} {file.stat().st_ino}"


_LIMITS = ("concurrency", "requests_per_minute", "tokens_per_minute")
"""Of a model. 0: it has none."""


def _num_workers(cores: int, servers: Iterable[ModelServer]) -> int:
    """One for each core, but no more than all can have a share of each limit of every model."""
    limits = [getattr(server, name) for server in servers for name in _LIMITS]
    return max(1, min(cores, *filter(None, limits)))


def _share(server: ModelServer, num_workers: int) -> ModelServer:
    """A model as one of so many workers may ask it: together they send no more than one process would."""
    return server.model_copy(update={name: getattr(server, name) // num_workers for name in _LIMITS})


@contextlib.contextmanager
def _cluster(address: str) -> Generator[Any]:
    """Ray, connected, as long as the block runs. Raises ConfigError when it is not installed or there is no cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--ray needs the package ray", fix="run `pip install 'tilth[ray]'`") from error
    local = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    where: dict[str, Any] = local if address == LOCAL else {"address": address}
    try:
        if address != LOCAL:
            _knock(address)
        logging.getLogger("ray").setLevel(logging.ERROR)  # what it would tell, such as how clusters are guarded
        on_sigterm = signal.getsignal(signal.SIGTERM)
        ray.init(**where, log_to_driver=False, configure_logging=False)
    except (OSError, ValueError, RuntimeError) as error:
        what = f"there is no Ray cluster ({str(error).splitlines()[0]})"
        raise ConfigError(what, where=address, fix="start one with `ray start --head`, or use --ray local") from error
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray takes it for itself
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself tries for minutes. ValueError for what is no address."""
    place = urlsplit(address if "://" in address else f"ray://{address}")
    if not place.port:
        raise ValueError("an address is HOST:PORT")
    with socket.create_connection((place.hostname, place.port), _KNOCK_S):
        pass
