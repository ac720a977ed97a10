"""Who is measured, and how a client is run: tilth with this Python, each peer with the one that it is installed in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .clients.work import Job
from .teacher import Settings, Stats, Teacher

CLIENTS = Path(__file__).parent / "clients"
PEERS = ("sdg_hub", "distilabel", "bespokelabs-curator", "data-designer")
"""Their names on the package index."""
OFFLINE_AND_SILENT = {
    "DATA_DESIGNER_HOME": "{home}/data-designer",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "HOME": "{home}",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "NEMO_TELEMETRY_ENABLED": "false",
    "NO_PROXY": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
    "OPENAI_API_KEY": "none",
    "PATH": os.defpath,
    "TELEMETRY_ENABLED": "false",
}
"""The environment of every client: nothing of the user's, no telemetry, no look-ups on the network."""


@dataclass(frozen=True)
class Engine:
    """`name` is that of its distribution."""

    name: str
    python: str

    def version(self) -> str:
        """What is installed."""
        code = f"import importlib.metadata; print(importlib.metadata.version({self.name!r}))"
        return subprocess.run([self.python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


TILTH = Engine("tilth", sys.executable)


@dataclass(frozen=True)
class Outcome:
    """What a client told of its job, and what the teacher saw of it. `error`: how the engine failed, empty if not."""

    rows: int
    error: str
    seconds: float
    """From the call of the engine to its return: without the start of Python and imports."""
    cpu_s: float
    peak_mib: float
    stats: Stats


def run(
    engine: Engine,
    teacher: Teacher,
    job: Job,
    settings: Settings,
    *,
    timeout_s: float = 300,
    until: Callable[[Stats], bool] | None = None,
) -> Outcome:
    """Run one job against the teacher as `settings` say; the job's `url`, `state` and `out` are filled in here.

    `until`: kill -9 at the first look at the teacher, every 5 ms, for which it is true. A job without a `state` gets
    an empty one.
    """
    teacher.set(settings)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        out = Path(folder) / "out.json"
        told = replace(job, url=teacher.url, out=str(out), state=job.state or f"{folder}/state")
        error = _run(_command(engine, told), Path(folder), teacher, timeout_s, until)
        if out.exists():
            return Outcome(**json.loads(out.read_text()), stats=teacher.stats())
    return Outcome(rows=0, error=error, seconds=0.0, cpu_s=0.0, peak_mib=0.0, stats=teacher.stats())


def _command(engine: Engine, job: Job) -> list[str]:
    return [
        str(Path(engine.python).absolute()),
        str(CLIENTS / f"with_{engine.name.replace('-', '_')}.py"),
        json.dumps(asdict(job)),
    ]


def _run(
    command: list[str], home: Path, teacher: Teacher, timeout_s: float, until: Callable[[Stats], bool] | None
) -> str:
    """Run the command to its end, its time-out or its kill, with all that it started. Returns how it failed."""
    environment = {name: value.format(home=home) for name, value in OFFLINE_AND_SILENT.items()}
    with (home / "log").open("w+") as log:
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            error = _wait(process, teacher, timeout_s, until)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the group is there; some leave children behind
            process.wait()
        if error or not process.returncode:
            return error
        log.seek(0)
        return (log.read().strip().splitlines() or ["no word"])[-1][:300]


def _wait(
    process: subprocess.Popen[bytes], teacher: Teacher, timeout_s: float, until: Callable[[Stats], bool] | None
) -> str:
    deadline_s = time.monotonic() + timeout_s
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if until and until(teacher.stats()):
            return "killed"
        if time.monotonic() > deadline_s:
            return f"not done after {timeout_s:g} s"
        time.sleep(0.005 if until else 0.05)
    return ""
