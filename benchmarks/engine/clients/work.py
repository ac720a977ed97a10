"""What every client is given to do, and how it tells what came of it. Standard library only: peers import it too.

A client is a small program, run with the Python that its engine is installed in, in a new process for every
measurement: `PYTHON with_ENGINE.py '{"work": "rows", ...}'`. It writes what came out to the file that the job names.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ITEM = r"<item>(.*?)</item>"
KEEP = r"<keep>(.*?)</keep>"
_CIRCUMSTANCES = "Write for a reader who is new to the subject, in plain words and short sentences, and say why. " * 5


@dataclass(frozen=True)
class Job:
    """`rows`: one request a row. `steps`: a request a row lists items, one an item judges it, one finishes the kept."""

    work: str
    num_rows: int
    concurrency: int
    """Requests in flight at most."""
    kept: bool = False
    """Whether `state` will be there when the same job is run again; if not, an engine may save itself the trouble."""
    state: str = ""
    """A folder for what the engine keeps."""
    url: str = ""
    out: str = ""
    changed: int = -1
    """The row that is another one than the last time."""
    poison: int = -1
    """The row that the teacher refuses."""
    poison_word: str = ""

    def prompts(self) -> list[str]:
        """The first prompt of every row."""
        return [self._prompt(number) for number in range(self.num_rows)]

    def _prompt(self, number: int) -> str:
        mark = " once more" if number == self.changed else ""
        mark += f" {self.poison_word}" if number == self.poison else ""
        return f"List what there is to say about subject {number}{mark}. {_CIRCUMSTANCES}".strip()


JUDGE = f"Should this be kept? {{item}} {_CIRCUMSTANCES}".strip()
FINISH = f"Make this whole: {{item}} {_CIRCUMSTANCES}".strip()
"""Prompts of the second and third step. The braces are Python's; `jinja` makes them Jinja's."""


def jinja(template: str) -> str:
    """The template as Jinja wants it."""
    return template.replace("{item}", "{{ item }}")


def items(answer: str) -> list[str]:
    """What the first step's answer lists."""
    return re.findall(ITEM, answer)


def is_kept(answer: str) -> bool:
    """Whether the second step's answer says yes."""
    return re.findall(KEEP, answer) == ["yes"]


def main(works: Mapping[str, Callable[[Job], int]]) -> None:
    """Do the job; each work returns how many rows came out of it at the end. Start-up and imports are not counted."""
    job = Job(**json.loads(sys.argv[1]))
    Path(job.state).mkdir(parents=True, exist_ok=True)
    started_s, started_cpu_s = time.perf_counter(), _cpu_s()
    rows, error = 0, ""
    try:
        rows = works[job.work](job)
    except Exception as raised:  # noqa: BLE001  how an engine fails is a result
        error = f"{type(raised).__name__}: {raised}"[:300]
    result = {
        "rows": rows,
        "error": error,
        "seconds": time.perf_counter() - started_s,
        "cpu_s": _cpu_s() - started_cpu_s,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    Path(job.out).write_text(json.dumps(result), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # some engines leave threads behind that never end


def _cpu_s() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])
