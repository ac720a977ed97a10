"""A plan from its first phase to its last: what is done already stays, the rest is trained in order.

`out/` gets a folder per phase (`01-knowledge-short/` …). The data of all phases is selected, counted and checked before
the first one trains. Once a phase has its model, the models before it are deleted; their results and metrics stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..core.config import Config
from ..core.errors import ModelError
from ..core.progress import Progress
from ..llm.quiet import quiet_transformers
from .masking import load_tokenizer
from .mix import Samples, Skipped, make_mixes
from .phase import MODEL_NAME, PhaseJob, run_phase, weights_sha256
from .plan import Plan
from .results import PhaseResult, TrainResult

_LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")


def run_plan(  # noqa: PLR0913 (what a training run is given; every one of them is needed)
    plan: Plan,
    *,
    new: Sequence[Path],
    earlier: Sequence[Path],
    student: Path,
    out: Path,
    config: Config,
    progress: Progress,
) -> TrainResult:
    """Train `student` (a Hugging Face folder) by the plan on samples.jsonl files; the same call again goes on.

    `new` are the samples of this cycle; `earlier` those of earlier ones, which are only replayed. Raises CheckFailed
    before any training where there is nothing to train or too much would be cut; ModelError, DataError;
    KeyboardInterrupt after SIGINT or SIGTERM, with all finished steps on disk.
    """
    _require_libraries()
    with quiet_transformers():
        folders = [out / f"{number:02}-{phase.name}" for number, phase in enumerate(plan.phases, start=1)]
        mixes = make_mixes(plan, Samples.read(new, earlier), load_tokenizer(student), folders, config)
        jobs = [
            PhaseJob(phase, mix, folder, config.seed)
            for phase, mix, folder in zip(plan.phases, mixes, folders, strict=True)
            if not isinstance(mix, Skipped)
        ]
        results = {result.phase: result for result in _run(jobs, student, config, progress)}
    for mix in mixes:
        if isinstance(mix, Skipped):
            results[mix.phase] = PhaseResult(phase=mix.phase, status="skipped", reason=mix.reason)
    return TrainResult(model=jobs[-1].folder / MODEL_NAME, phases=tuple(results[phase.name] for phase in plan.phases))


def _run(jobs: Sequence[PhaseJob], student: Path, config: Config, progress: Progress) -> list[PhaseResult]:
    parent, parent_sha256 = student, weights_sha256(student)
    results = _done(jobs, parent_sha256)
    for index, job in enumerate(jobs):
        if index < len(results):
            progress.say(f"phase {job.phase.name}: done already")
        else:
            results.append(run_phase(job, parent, parent_sha256, config, progress))
        if index:
            shutil.rmtree(jobs[index - 1].folder / MODEL_NAME, ignore_errors=True)
        parent, parent_sha256 = job.folder / MODEL_NAME, results[index].weights_sha256
    return results


def _done(jobs: Sequence[PhaseJob], student_sha256: str) -> list[PhaseResult]:
    """Results of the first phases that need not run again.

    Each fits its inputs, which name the weights of the one before it, and the last of them still has its model: what
    comes after starts from there.
    """
    results: list[PhaseResult] = []
    parent_sha256 = student_sha256
    for job in jobs:
        result = job.result(parent_sha256)
        if result is None:
            break
        results.append(result)
        parent_sha256 = result.weights_sha256
    while results and not (jobs[len(results) - 1].folder / MODEL_NAME).is_dir():
        results.pop()
    return results


def _require_libraries() -> None:
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise ModelError(f"training needs {', '.join(missing)}", fix="run `pip install 'tilth[train]'`")
