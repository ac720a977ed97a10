"""Many machines: the same flows as Ray tasks over leaves, for a teacher that one process cannot keep busy.

A worker has its own gateway, with its share of the requests in flight, and its own ledger, a shard. What a leaf made
and was answered goes to the one process that writes the workspace as soon as the leaf is done. The same answers give
the same bytes as one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..core.config import Config
from ..core.errors import ConfigError, ModelError, TilthError
from ..core.progress import SilentProgress, SilentTask, Task
from ..llm.ask import Gateway
from ..llm.ledger import Entry, Ledger
from .engine import Job, Made, run_jobs

LOCAL = "local"
"""The address that means: a cluster of this machine's cores, for as long as the command runs."""
_KNOCK_S = 10.0
_AHEAD = 2
"""Leaves that a worker has at once: while one ends, the next keeps its share of the wire busy."""


def run_on_ray(
    jobs: Iterable[Callable[[], Job]],
    address: str,
    *,
    config: Config,
    ledger: Ledger,
    task: Task,
    save: Callable[[Made], None],
) -> None:
    """Run the flows of all jobs on the cluster at `address` and `save` each leaf as soon as it is done.

    Raises ConfigError where the set-up is for one process, what a flow raises, and ModelError when a worker is lost.
    """
    if not config.teacher.base_url or (config.judge and not config.judge.base_url):
        what = "--ray needs models with an address"
        raise ConfigError(what, where="teacher.base_url", fix="set it, or leave --ray out")
    shards = _shards(ledger)
    with _cluster(address) as ray:
        num_workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        actor = ray.remote(num_cpus=1)(_Worker)
        keys = {name: os.environ.get(name, "") for name in _key_names(config)}
        share = _share(config, num_workers)
        workers = [actor.remote(share, str(shards / f"{number}.db"), keys) for number in range(num_workers)]
        try:
            _deal(ray, workers, jobs, ledger, task, save)
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
    shutil.rmtree(shards, ignore_errors=True)


def _shards(ledger: Ledger) -> Path:
    """Where the workers' ledgers are, as far as they see this disk."""
    return ledger.path.with_name(f"{ledger.path.name}.shards")


def _deal(
    ray: Any,
    workers: Sequence[Any],
    jobs: Iterable[Callable[[], Job]],
    ledger: Ledger,
    task: Task,
    save: Callable[[Made], None],
) -> None:
    """Give each worker the next leaf when it has room, and keep what comes back."""
    running: dict[Any, Any] = {}
    idle = [worker for worker in workers for _ in range(_AHEAD)]
    for read in jobs:
        if not idle:
            idle.append(_received(ray, running, ledger, task, save))
        job, worker = read(), idle.pop(0)
        running[worker.make.remote(job, list(ledger.entries(job.leaf.id)))] = worker
    while running:
        _received(ray, running, ledger, task, save)


def _received(ray: Any, running: dict[Any, Any], ledger: Ledger, task: Task, save: Callable[[Made], None]) -> Any:
    """Wait for one leaf and keep it; returns its worker, which has room now."""
    [done], _ = ray.wait(list(running), num_returns=1)
    worker = running.pop(done)
    try:
        made, entries = ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(cause := error.cause, TilthError):
            raise cause from None
        raise
    except ray.exceptions.RayError as error:
        what = f"a Ray worker was lost ({str(error).splitlines()[0]})"
        raise ModelError(what, fix="run the same command again: what was answered is kept") from error
    ledger.merge(entries)
    save(made)
    task.advance(made.tally.asked.total())
    return worker


class _Worker:
    """Makes leaves, several at a time, with one gateway and one shard."""

    def __init__(self, config: Config, shard: str, keys: dict[str, str]) -> None:
        os.environ.update({name: key for name, key in keys.items() if key})
        self._config = config
        self._ledger = Ledger(Path(shard))
        self._stack = contextlib.AsyncExitStack()
        self._gateways: asyncio.Task[tuple[Gateway, Gateway]] | None = None

    async def make(self, job: Job, known: Sequence[Entry]) -> tuple[Made, list[Entry]]:
        """What the flow makes of a leaf, and what it was answered. `known`: what the ledger has of the leaf."""
        self._ledger.merge(known)
        if self._gateways is None:
            self._gateways = asyncio.create_task(self._open())
        teacher, judge = await self._gateways
        made: list[Made] = []
        await run_jobs([lambda: job], teacher=teacher, judge=judge, task=SilentTask(), save=made.append)
        keys = made[0].tally.keys - {entry.key for entry in known}
        return made[0], [entry for key in sorted(keys) if (entry := self._ledger.get(key))]

    async def _open(self) -> tuple[Gateway, Gateway]:
        config, progress = self._config, SilentProgress()
        teacher = await self._stack.enter_async_context(
            Gateway(config.teacher, self._ledger, progress, seed=config.seed)
        )
        if config.judge is None:
            return teacher, teacher
        judge = Gateway(config.judge, self._ledger, progress, seed=config.seed, role="judge")
        return teacher, await self._stack.enter_async_context(judge)


def _share(config: Config, num_workers: int) -> Config:
    """The configuration of one of so many workers: together they send no more than one process would."""

    def less(server: Any) -> Any:
        if server is None:
            return None
        limits = ("concurrency", "requests_per_minute", "tokens_per_minute")
        shares = {name: -(-getattr(server, name) // num_workers) for name in limits}
        return server.model_copy(update=shares)

    return config.model_copy(update={"teacher": less(config.teacher), "judge": less(config.judge)})


def _key_names(config: Config) -> set[str]:
    return {server.api_key_env for server in (config.teacher, config.judge) if server}


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
        on_sigterm = signal.getsignal(signal.SIGTERM)
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
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
