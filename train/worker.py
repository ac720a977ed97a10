"""One of the processes that train a phase together: `python -m tilth.train.worker JOB.json`, started by `launch`.

What it is to do stands in the file, resolved; which process it is, in torch's environment variables. It tells the
parent on standard output, in lines of JSON, what it does (the first process) and how it ended (each); whatever else is
written there goes to the log. It ends when its standard input does: then the parent is gone, however it went.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import TypeAdapter

from ..core.config import Config
from ..core.errors import TilthError
from ..llm.gguf_server import wait_for_parent_to_end
from ..llm.quiet import quiet_transformers
from . import distributed
from .phase import Models, PhaseJob, errors_told, train_model
from .trainer import Watch


@dataclass(frozen=True)
class Work:
    """What the processes of one phase are to do (`job.json`)."""

    job: PhaseJob
    models: Models
    checkpoints: Path
    checkpoint: Path | None
    config: Config
    token: str
    """Known to who wrote the file: another machine sees by it that both have the same disk."""

    def dump(self) -> str:
        """As JSON."""
        return _WORK.dump_json(self, indent=2).decode()


_WORK = TypeAdapter(Work)


def read_work(path: Path) -> Work:
    """What `dump` wrote. Raises OSError and ValueError."""
    return _WORK.validate_json(path.read_bytes())


def main() -> None:
    """Train, and tell the parent how it ended."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    end_with_parent()

    def tell(**message: Any) -> None:
        told.write(json.dumps(message) + "\n")
        told.flush()

    tell(ended=_outcome(Path(sys.argv[1]), tell))
    os._exit(0)  # at once: what the libraries do at their end may wait for a process that is gone


def _outcome(path: Path, tell: Callable[..., None]) -> dict[str, str]:
    """`how` it ended: done, stopped or error; the parts of an error."""
    work = read_work(path)
    distributed.join(work.config.train)
    watch = _watch(work.config, tell)
    try:
        with quiet_transformers(), errors_told(work.job):
            train_model(work.job, work.models, work.checkpoints, work.checkpoint, work.config, watch)
    except KeyboardInterrupt:
        return {"how": "stopped"}
    except TilthError as error:
        return {"how": type(error).__name__, "what": error.what, "where": error.where, "fix": error.fix}
    except Exception as error:  # noqa: BLE001 (it is told to the parent, which ends the others)
        traceback.print_exc()
        return {"how": "error", "what": f"{type(error).__name__}: {error}".partition("\n")[0][:400]}
    return {"how": "done"}


def _watch(config: Config, tell: Callable[..., None]) -> Watch:
    """One that tells the parent. SIGTERM asks it for a stop, whenever it comes; Ctrl-C is the parent's to pass on."""
    every_s = config.train.checkpoint_every_s
    if distributed.is_first():
        watch = Watch(lambda step: tell(step=step.model_dump(mode="json")), every_s, say=lambda text: tell(say=text))
        watch.on_evaluation = lambda evaluation: tell(evaluation=evaluation.model_dump(mode="json"))
    else:
        watch = Watch(lambda _step: None, every_s)

    def ask(_number: int, _frame: FrameType | None) -> None:
        watch.stop_asked = True

    signal.signal(signal.SIGTERM, ask)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return watch


def end_with_parent() -> None:
    """From here on this process ends when its parent does."""
    parent = os.getppid()

    def watch() -> None:
        wait_for_parent_to_end(parent)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
