"""A plan from its first phase to its last: what is done already stays, the rest is trained in order.

`out/` gets a folder per phase (`01-knowledge-short/` …). The data of all phases is selected, counted and checked before
the first one trains. Each keeps its model, so that a plan with another last phase trains that one only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..core.config import Config
from ..core.errors import ModelError
from ..core.progress import Progress
from ..llm.precision import device
from ..llm.quiet import quiet_transformers
from . import determinism
from .adapters import check_four_bits, check_reference
from .data import Pool, TrainingInputs
from .disk import check_disk
from .distributed import for_phase
from .fits import check_memory
from .launch import check_adapters, check_machine, launching
from .load import count_parameters, is_in_mlp, read_class, tensor_sizes, weights_sha256
from .masking import load_tokenizer
from .memory import Shape, Sharing, estimate, gigabytes, longest_batch, read_shape
from .mix import Ready, Skipped, Student, in_words, make_mixes
from .phase import Models, PhaseJob, discard_checkpoints, run_phase
from .plan import Plan
from .remembering import write_buffer
from .replay import own_words
from .results import PhaseResult, TrainResult
from .reuse import done
from .selection import check_askable
from .trainer import HeldOut
from .varlen import keeps_pieces_apart

_LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")


def run_plan(
    plan: Plan,
    inputs: TrainingInputs,
    *,
    out: Path,
    config: Config,
    progress: Progress,
    held_out: HeldOut | None = None,
) -> TrainResult:
    """Train a student by the plan on the data engine's files; the same call again goes on.

    `held_out` is asked by phases that select by it. `out/` gets the replay buffer that this run leaves for the next,
    last of all.

    Raises CheckFailed before any training where there is nothing to train, too much would be cut, or the disk or the
    memory is too small; ConfigError, ModelError, DataError; KeyboardInterrupt after SIGINT or SIGTERM, with all
    finished steps on disk.
    """
    check_plan(plan, config)
    check_askable(plan, there=held_out is not None, config=config)
    determinism.prepare(os.environ, device())
    if device() == "cpu":  # trl imports deepspeed where it is installed, and that would tell what it had to guess
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    with quiet_transformers():
        folders = phase_folders(plan, out)
        tokenizer, pool, mixes = prepare(plan, inputs, folders, out, config, progress)
        jobs = [
            PhaseJob(mix, folder, config.seed)
            for mix, folder in zip(mixes, folders, strict=True)
            if isinstance(mix, Ready)
        ]
        results, model = _run(jobs, inputs.student, config, progress, held_out)
        write_buffer(plan, pool, jobs, model, tokenizer=tokenizer, config=config, progress=progress)
    by_phase = {result.phase: result for result in results}
    for mix in mixes:
        if isinstance(mix, Skipped):
            by_phase[mix.phase] = PhaseResult(phase=mix.phase, status="skipped", reason=mix.reason)
    return TrainResult(model=model, phases=tuple(by_phase[phase.name] for phase in plan.phases))


def check_plan(plan: Plan, config: Config) -> None:
    """Raise ConfigError or ModelError where this machine cannot train the plan as the settings say."""
    _require_libraries(plan)
    check_machine(config.train)
    check_adapters(plan, config)


def prepare(
    plan: Plan,
    inputs: TrainingInputs,
    folders: Sequence[Path],
    out: Path,
    config: Config,
    progress: Progress | None = None,
) -> tuple[Any, Pool, list[Ready | Skipped]]:
    """The tokenizer, all that there is to train on, and what each phase takes of it, written into its folder.

    `out` is where the run has its files; without `progress` no model is asked. Raises CheckFailed, ModelError,
    DataError.
    """
    check_student(plan, inputs.student)
    pool, student = Pool.read(inputs), read_student(inputs.student)
    own = own_words(inputs, student.tokenizer, config, out, progress)
    return student.tokenizer, pool, make_mixes(plan, pool, student, folders, config, own)


def phase_folders(plan: Plan, out: Path) -> list[Path]:
    """Where the phases of a plan that is run into `out` have their files."""
    return [out / f"{number:02}-{phase.name}" for number, phase in enumerate(plan.phases, start=1)]


def read_student(folder: Path) -> Student:
    """What of the model in a folder decides how its data is prepared. Raises ModelError."""
    tokenizer = load_tokenizer(folder)
    text = read_class(folder)[1].get_text_config()
    positions = getattr(text, "max_position_embeddings", None) or tokenizer.model_max_length
    return Student(tokenizer, count_parameters(folder), min(positions, tokenizer.model_max_length))


def check_student(plan: Plan, student: Path) -> None:
    """Raise ModelError where documents would be packed for a model in which the texts of a row see one another.

    And where a phase trains MLPs of a model that has none by that name, or would be held to an adapter that it goes on
    with.
    """
    named = [phase.name for phase in plan.phases if phase.method == "pretrain"]
    if named and not keeps_pieces_apart(*read_class(student)):
        what = "`method: pretrain` packs documents, and attention of this model cannot be kept inside each"
        raise ModelError(what, where=f"phase {named[0]!r}", fix="leave the phase out, or train another model")
    named = [phase.name for phase in plan.phases if phase.trainable == "mlp"]
    if named and not any(map(is_in_mlp, tensor_sizes(student))):
        fix = "write a plan of your own without `trainable: mlp`, or train an adapter"
        raise ModelError("no MLP is found in the student by its name", where=f"phase {named[0]!r}", fix=fix)
    check_reference(next(phase for phase in plan.phases if phase.method != "reward"), student)


def _run(
    jobs: Sequence[PhaseJob], student: Path, config: Config, progress: Progress, held_out: HeldOut | None
) -> tuple[list[PhaseResult], Path]:
    """The results of all phases, and the folder of the last model."""
    models = Models(student, weights_sha256(student))
    results = done(jobs, models)
    to_come = jobs[len(results) :]
    shape = read_shape(student)
    for job in jobs[: len(results)]:
        shape = shape.after(job.phase)
    check_room([(job.ready, job.folder) for job in to_come], shape, config)
    with launching(config.train) as train:
        for index, job in enumerate(jobs):
            if index < len(results):
                progress.say(f"phase {job.phase.name}: done already")
                discard_checkpoints(job)
            else:
                own = for_phase(config, job.phase)
                memory = estimate(shape, job.phase, longest_batch(job.phase, job.mix, shape), Sharing.of(own.train))
                progress.say(f"{in_words(job.ready)}; about {gigabytes(memory.total)} of memory")
                results.append(run_phase(job, models, own, progress, train, held_out))
                shape = shape.after(job.phase)
            models = models.after(job, results[index])
    return results, models.parent


def check_room(phases: Sequence[tuple[Ready, Path]], shape: Shape, config: Config) -> None:
    """Raise CheckFailed where phases to come, each with its folder, will not fit onto the disk or into main memory.

    `shape` is that of the model which the first of them starts from.
    """
    settings = config.train
    check_disk(
        [(ready.phase, folder) for ready, folder in phases],
        shape,
        keep_checkpoints=settings.keep_checkpoints,
        distributed=settings.distributed,
    )
    for ready, _ in phases:
        check_memory(ready.phase, ready.mix, shape, for_phase(config, ready.phase).train)
        shape = shape.after(ready.phase)


def _require_libraries(plan: Plan) -> None:
    """Raise ModelError where a package is missing that the plan needs, or is not for this machine."""
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise ModelError(f"training needs {', '.join(missing)}", fix="run `pip install 'tilth[train]'`")
    if not any(phase.adapter == "qlora" for phase in plan.phases):
        return
    if find_spec("bitsandbytes") is None:
        fix = "run `pip install bitsandbytes`, where this machine has a wheel of it, or set `adapter: lora`"
        raise ModelError("`adapter: qlora` needs the package bitsandbytes", fix=fix)
    check_four_bits()
