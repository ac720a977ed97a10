"""One phase: from a parent model and a training file to a trained model and a result record, whatever interrupts it.

In the phase's folder: `data.jsonl` and `mix.json` (written before), `metrics.jsonl` (a line per optimizer step),
`checkpoints/` (while it trains), `model/` (by rename), `result.json` (last).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import shutil
import signal
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

from ..core.atomic import fsync, remove, write_json
from ..core.config import Config
from ..core.errors import DataError, ModelError
from ..core.fingerprint import fingerprint
from ..core.jsonl import read_records, write_records
from ..core.progress import Progress, Task
from ..llm.precision import compute_dtype, device
from . import checkpoints, distributed
from .auto import Resolved
from .averaging import average, averaged_in_words
from .determinism import deterministic
from .evaluations import EpochEnds, read_evaluations
from .forgetting import Drift
from .load import weights_sha256
from .masking import load_tokenizer
from .methods.row import Row
from .methods.setup import Setup
from .methods.table import METHODS
from .metrics import Step, add_step, read_steps
from .mix import DATA_NAME, VALIDATION_NAME, Mix, Ready, read_rows
from .plan import DRAWS_BY_MICRO_BATCH, by_content
from .rehearsal import rehearse_first
from .replay_buffer import BUFFER_NAME
from .report_to import Report, Run, reporting
from .results import PhaseResult
from .selection import best, chosen_in_words
from .trainer import HeldOut, Watch

MODEL_NAME, RESULT_NAME = "model", "result.json"
METRICS_NAME, EVALUATIONS_NAME, _CHECKPOINTS_NAME = "metrics.jsonl", "evaluations.jsonl", "checkpoints"
_FREE_DISK = "free some disk space and run the same command again"
_CODE = 3
"""To be raised with a change by which equal inputs come to other weights: what was trained before is then stale."""
_VERSIONS_OF = ("torch", "transformers", "trl", "peft", "accelerate")


@dataclass(frozen=True)
class Models:
    """The models that a phase works with, each with its `weights_sha256`."""

    parent: Path
    """The one that it starts from."""
    parent_sha256: str
    rewards: Mapping[str, tuple[Path, str]] = field(default_factory=dict[str, tuple[Path, str]])
    """The reward models of earlier phases, by the phase's name."""
    origin: Path | None = None
    """The model that the plan starts from, where the phase starts from another."""

    def after(self, job: PhaseJob, result: PhaseResult) -> Models:
        """What the next phase works with."""
        made = job.folder / MODEL_NAME, result.weights_sha256
        if result.makes == "reward_model":
            return replace(self, rewards={**self.rewards, job.phase.name: made})
        return replace(self, parent=made[0], parent_sha256=made[1], origin=self.origin or self.parent)

    def are_whole(self) -> bool:
        """Whether all have the weights that they were left with."""
        return all(_has(*model) for model in ((self.parent, self.parent_sha256), *self.rewards.values()))


def _has(folder: Path, sha256: str) -> bool:
    with contextlib.suppress(ModelError):
        return folder.is_dir() and weights_sha256(folder) == sha256
    return False


@dataclass(frozen=True)
class PhaseJob:
    """A phase to be run: its settings, its data, and where its files go."""

    ready: Ready
    folder: Path
    seed: int

    @property
    def phase(self) -> Resolved:
        """Its settings."""
        return self.ready.phase

    @property
    def mix(self) -> Mix:
        """What its data is made of."""
        return self.ready.mix

    def inputs(self, models: Models) -> str:
        """A fingerprint of all that decides the weights: equal inputs make equal weights, but for rounding.

        How the work is dealt out is no part of it: a phase that is done stays so with more processes. Where answers are
        drawn by the micro-batch its size is. Nor is where functions and models lie: what they hold is in the mix.
        """
        settings = by_content(self.phase, lambda _: "")
        if self.phase.method not in DRAWS_BY_MICRO_BATCH:
            del settings["micro_batch_size"]
        hashes = [models.parent_sha256, sorted((name, sha256) for name, (_, sha256) in models.rewards.items())]
        mix = self.mix
        data = [mix.data_sha256, mix.tokens_sha256, mix.outside_sha256, mix.validation_sha256]
        return fingerprint([_CODE, settings, data, hashes, self.seed])

    def result(self, models: Models) -> PhaseResult | None:
        """What an earlier run on the same inputs left, or None."""
        left = self.left()
        return left if left and left.inputs == self.inputs(models) else None

    def left(self) -> PhaseResult | None:
        """What an earlier run left, whatever its inputs were, or None."""
        with contextlib.suppress(OSError, ValueError):
            return PhaseResult.model_validate_json((self.folder / RESULT_NAME).read_text())
        return None


TrainModel = Callable[[PhaseJob, Models, Path, Path | None, Config, Watch], None]
"""Trains a phase's model into its folder, from a checkpoint if there is one; checkpoints go to the first folder."""


def run_phase(
    job: PhaseJob,
    models: Models,
    config: Config,
    progress: Progress,
    train: TrainModel | None = None,
    held_out: HeldOut | None = None,
) -> PhaseResult:
    """Train the phase's model, or go on with it, and return the result that now stands in the phase's folder.

    `train` is `train_model`, unless other processes do it. Raises KeyboardInterrupt after SIGINT or SIGTERM, with a
    checkpoint or the result on disk; ModelError, DataError, CheckFailed.
    """
    with errors_told(job):
        checkpoint_folder = _clear(job, job.inputs(models), config, progress)
        checkpoint, metrics = _newest_checkpoint(job, checkpoint_folder), job.folder / METRICS_NAME
    done = checkpoints.step_of(checkpoint)
    with (
        errors_told(job),
        reporting(config.train.report_to, _board_run(job, models, done), progress.say) as report,
        progress.task(job.phase.name, total=job.mix.steps, unit="steps") as task,
    ):
        watch = Watch(
            _reporter(task, report),
            config.train.checkpoint_every_s,
            say=progress.say,
            on_evaluation=report,
            held_out=held_out,
        )
        task.advance(done)
        (train or train_model)(job, models, checkpoint_folder, checkpoint, config, watch)
        fsync(metrics)
        for model in job.folder.glob(f"{MODEL_NAME}*") if job.phase.average else ():
            average(model, models.parent, job.phase.average)
        result = _result(job, models, read_steps(metrics))
        write_json(job.folder / RESULT_NAME, result.model_dump(mode="json"))
        task.grow(result.steps - job.mix.steps)
        if chosen := chosen_in_words(read_evaluations(job.folder / EVALUATIONS_NAME), job.phase):
            progress.say(chosen)
        if job.phase.average:
            progress.say(averaged_in_words(job.phase))
        discard_checkpoints(job)
    if watch.stop_asked:
        raise KeyboardInterrupt
    return result


def train_model(
    job: PhaseJob, models: Models, checkpoint_folder: Path, checkpoint: Path | None, config: Config, watch: Watch
) -> None:
    """In this process: train to the last step and save the model, or raise KeyboardInterrupt after a checkpoint."""
    tokenizer = load_tokenizer(models.parent)
    setup = Setup(
        phase=job.phase,
        parent=models.parent,
        models={name: folder for name, (folder, _) in models.rewards.items()},
        origin=models.origin,
        tokenizer=tokenizer,
        rows=read_rows(job.phase, job.folder / DATA_NAME, tokenizer, config.student.system_prompt),
        checkpoints=checkpoint_folder,
        seed=job.seed,
        config=config,
        watch=watch,
        validation=_held_back_rows(job, tokenizer, config),
    )
    drift = Drift(setup, job.folder / DATA_NAME)
    trainer = METHODS[job.phase.method].trainer(setup)
    trainer.epochs_of = [item.epochs for item in read_records(job.folder / DATA_NAME, METHODS[job.phase.method].record)]
    drift.ask_parent(trainer)
    if distributed.is_first():
        _log_steps(watch, job.folder / METRICS_NAME)
    watch.on_epoch = ends = EpochEnds(setup, job.folder / METRICS_NAME, job.folder / EVALUATIONS_NAME, [drift])
    watch.keep_checkpoints, watch.keep_adapter = config.train.keep_checkpoints, not job.phase.lora.merge
    if not ends.are_over(checkpoints.step_of(checkpoint)):
        rehearse_first(trainer, setup, job.mix)
        with signals_ask(watch), deterministic(device()):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        step = trainer.state.global_step
        if step < trainer.state.max_steps and not ends.are_over(step):
            raise KeyboardInterrupt
    ends.write_model(trainer, job.folder / MODEL_NAME)
    del trainer
    _give_back_memory()


def _clear(job: PhaseJob, inputs: str, config: Config, progress: Progress) -> Path:
    """Delete what other inputs or a kill left of the phase, and the run's buffer; return where its checkpoints go.

    A checkpoint is one of so many processes, each with its own random state and perhaps its share of the weights, and
    of a micro-batch: another would round, and draw dropout, otherwise. That such ones go is said.
    """
    (job.folder / RESULT_NAME).unlink(missing_ok=True)
    (job.folder.parent / BUFFER_NAME).unlink(missing_ok=True)
    shared = job.phase.micro_batch_size, config.train.total_processes, config.train.distributed
    own = job.folder / _CHECKPOINTS_NAME / "-".join(map(str, (inputs, *shared)))
    leftovers = [*job.folder.glob(f"*{MODEL_NAME}*"), *(job.folder / _CHECKPOINTS_NAME).glob("*")]
    for path in leftovers:
        if path != own:
            if path.name.startswith(inputs) and (step := checkpoints.newest_step(path)):
                progress.say(f"phase {job.phase.name} begins anew: {_of_others(path, step)}")
            remove(path)
    if not own.exists():
        (job.folder / EVALUATIONS_NAME).unlink(missing_ok=True)
    own.mkdir(parents=True, exist_ok=True)
    return own


def _of_others(folder: Path, step: int) -> str:
    """To what the checkpoints in a folder of `_clear`'s belong, in words."""
    micro_batch_size, processes, distributed = folder.name.split("-")[-3:]
    return (
        f"its checkpoint of step {step} is of micro_batch_size {micro_batch_size}, "
        f"{processes} process{'es' * (processes != '1')} and `distributed: {distributed}`"
    )


def _newest_checkpoint(job: PhaseJob, folder: Path) -> Path | None:
    """The checkpoint to go on from, if there is one; the lines of later steps go, which are done again."""
    steps = read_steps(job.folder / METRICS_NAME)
    checkpoint = checkpoints.newest_whole(folder, len(steps))
    write_records(job.folder / METRICS_NAME, steps[: checkpoints.step_of(checkpoint)])
    return checkpoint


def discard_checkpoints(job: PhaseJob) -> None:
    """What training needed, its result does not. Renamed first: half of it is never taken for the whole."""
    folder = job.folder / _CHECKPOINTS_NAME
    for own in folder.glob("[!.]*"):
        own.rename(own.with_name(f".{own.name}"))
    shutil.rmtree(folder, ignore_errors=True)


def _held_back_rows(job: PhaseJob, tokenizer: Any, config: Config) -> list[Row]:
    """Short ones first: they are measured in this order, and rows of a length need no padding."""
    file = job.folder / VALIDATION_NAME
    rows = read_rows(job.phase, file, tokenizer, config.student.system_prompt) if file.exists() else ()
    return sorted(rows, key=lambda row: row.length)


def _board_run(job: PhaseJob, models: Models, done: int) -> Run:
    settings = {**job.phase.model_dump(mode="json"), "samples": job.mix.total.samples, "seed": job.seed}
    name = f"{job.folder.parent.parent.name}/{job.folder.name}"  # the cycle and the phase
    return Run(name, job.inputs(models), job.folder, settings, done)


def _log_steps(watch: Watch, file: Path) -> None:
    """Write each step to the file before anybody is told of it."""
    tell = watch.on_step

    def log(step: Step) -> None:
        add_step(file, step)
        tell(step)

    watch.on_step, watch.before_checkpoint = log, lambda: fsync(file)


def _reporter(task: Task, to_boards: Report) -> Callable[[Step], None]:
    def report(step: Step) -> None:
        to_boards(step)
        earned = f"reward {step.more['reward']:.3f}, " if "reward" in step.more else ""
        task.note(f"{earned}loss {step.loss:.3f}")
        task.advance(1)

    return report


def _result(job: PhaseJob, models: Models, steps: list[Step]) -> PhaseResult:
    last_epoch = steps[-(job.mix.steps // job.phase.epochs) :]
    found = best(read_evaluations(job.folder / EVALUATIONS_NAME), job.phase.select)
    seconds, tokens = sum(step.seconds for step in steps), sum(step.tokens for step in steps)
    return PhaseResult(
        phase=job.phase.name,
        status="trained",
        folder=job.folder.name,
        inputs=job.inputs(models),
        makes=METHODS[job.phase.method].makes,
        settings=job.phase,
        auto=job.ready.auto,
        mix=job.mix,
        seed=job.seed,
        steps=len(steps),
        epoch=found.epoch if found else round(steps[-1].epoch),
        final_loss=sum(step.loss * step.trained_tokens for step in last_epoch)
        / sum(step.trained_tokens for step in last_epoch),
        seconds=round(seconds, 3),
        tokens_per_s=round(tokens / seconds, 1),
        parent_sha256=models.parent_sha256,
        weights_sha256=weights_sha256(job.folder / MODEL_NAME),
        dtype=str(compute_dtype()).removeprefix("torch."),
        device=device(),
        versions={name: metadata.version(name) for name in _VERSIONS_OF},
    )


@contextlib.contextmanager
def signals_ask(watch: Watch) -> Generator[None]:
    """Inside the block SIGINT, SIGTERM and SIGHUP ask for a stop after the step; a second acts as it did outside."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it is interrupted
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        watch.stop_asked = True
        signal.signal(number, before[number])

    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before: dict[int, Any] = {number: handler for number, handler in found.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def errors_told(job: PhaseJob) -> Generator[None]:
    """Turn what the libraries raise for a full disk or too little memory into errors that say what to do."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _memory_full("the device's", job) from error
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read or write ({error})", where=str(job.folder), fix=_FREE_DISK) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):  # how torch says that main memory is full
            raise _memory_full("the machine's", job) from error
        if "PytorchStreamWriter" not in str(error):  # how torch.save says that a write failed
            raise
        raise DataError("cannot write a checkpoint", where=str(job.folder), fix=_FREE_DISK) from error


def _memory_full(whose: str, job: PhaseJob) -> ModelError:
    fix = f"lower micro_batch_size (now {job.phase.micro_batch_size}) or max_length; the phase then begins anew"
    return ModelError(f"{whose} memory is full", where=f"phase {job.phase.name!r}", fix=fix)


def _give_back_memory() -> None:
    """To the machine: of a phase on 135M parameters 1.5 GB stayed in the C library's heap, free but kept."""
    import torch

    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
