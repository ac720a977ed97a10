"""What a run leaves for the next cycle's replay: its buffer, written whole once the last phase has its model.

A phase that trains deletes it first: one that is there has its losses from the model that is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.config import Config
from ..core.jsonl import read_records, write_records
from ..core.progress import Progress
from ..llm.precision import compute_dtype, device
from .data import Item, Pool
from .forgetting import answer_losses
from .general import general_samples
from .load import load_model
from .methods.table import METHODS
from .mix import DATA_NAME
from .phase import PhaseJob
from .plan import Plan
from .replay_buffer import BUFFER_NAME, Trained, next_entries, read_entries

_AT_ONCE = 512


def write_buffer(  # noqa: PLR0913 (what it is made from)
    plan: Plan, pool: Pool, jobs: Sequence[PhaseJob], model: Path, *, tokenizer: Any, config: Config, progress: Progress
) -> None:
    """Write `replay.jsonl` beside the phases. Losses are measured where a phase weighs by them. Raises DataError."""
    there: dict[str, Item] = {item.id: item for item in (*pool.new, *pool.earlier, *general_samples(plan))}
    phases = [_trained(job, tokenizer, config) for job in jobs]
    trained = {item.id for phase in phases for item in phase.items}
    file, losses = jobs[0].folder.parent / BUFFER_NAME, dict[str, float]()
    if any(phase.replay.weight == "loss" for phase in plan.phases):
        known = read_entries(file)
        losses = {id_: entry.loss for id_, entry in known.items() if id_ in trained and entry.loss is not None}
        missing = [there[id_] for id_ in sorted(trained & there.keys() - losses.keys())]
        longest = max(job.phase.max_length for job in jobs)
        losses |= _measured(missing, model, tokenizer, config.student.system_prompt, longest, progress)
    write_records(file, next_entries(pool.past, there, phases, losses))


def _measured(
    items: Sequence[Item], model: Path, tokenizer: Any, system_prompt: str, longest: int, progress: Progress
) -> dict[str, float]:
    """The loss of each item by the model in a folder."""
    if not items:
        return {}
    losses: dict[str, float] = {}
    with progress.task("loss of each sample", total=len(items), unit="samples") as task:
        asked = load_model(model, dtype=compute_dtype()).to(device()).eval()
        for start in range(0, len(items), _AT_ONCE):
            some = items[start : start + _AT_ONCE]
            found = answer_losses(asked, tokenizer, some, system_prompt, longest)
            losses |= zip((item.id for item in some), found, strict=True)
            task.advance(len(some))
    return losses


def _trained(job: PhaseJob, tokenizer: Any, config: Config) -> Trained:
    method = METHODS[job.phase.method]
    items = list(read_records(job.folder / DATA_NAME, method.record))
    rows = method.rows(tokenizer, items, config.student.system_prompt)
    return Trained(job.phase.name, items, [row.tokens for row in rows])
