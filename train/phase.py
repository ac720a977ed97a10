"""One phase: from a parent model and a training file to a trained model and a result record, whatever interrupts it.

In the phase's folder: `data.jsonl` and `mix.json` (written before), `metrics.jsonl` (a line per optimizer step),
`checkpoints/` (while it trains), `model/` (by rename), `result.json` (last).
"""

from __future__ import annotations

import contextlib
import copy
import gc
import shutil
import signal
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

from ..core.atomic import new_folder, write_json
from ..core.config import Config
from ..core.errors import DataError, ModelError
from ..core.fingerprint import file_sha256, fingerprint
from ..core.progress import Progress, Task
from ..llm.precision import compute_dtype, device
from . import checkpoints
from .masking import load_tokenizer
from .metrics import StepLog
from .mix import Mix, read_rows
from .plan import Phase
from .results import PhaseResult, Step
from .trainer import Watch, make_trainer, training_arguments

MODEL_NAME, RESULT_NAME = "model", "result.json"
METRICS_NAME, _CHECKPOINTS_NAME = "metrics.jsonl", "checkpoints"
_FREE_DISK = "free some disk space and run the same command again"
_VERSIONS_OF = ("torch", "transformers", "trl", "peft", "accelerate")


@dataclass(frozen=True)
class PhaseJob:
    """A phase to be run: its settings, its data, and where its files go."""

    phase: Phase
    mix: Mix
    folder: Path
    seed: int

    def inputs(self, parent_sha256: str) -> str:
        """A fingerprint of all that decides the weights: equal inputs make equal weights (on the same hardware)."""
        settings = self.phase.model_dump(mode="json")
        return fingerprint([settings, self.mix.data_sha256, self.mix.tokens_sha256, parent_sha256, self.seed])

    def result(self, parent_sha256: str) -> PhaseResult | None:
        """What an earlier run on the same inputs left, or None."""
        with contextlib.suppress(OSError, ValueError):
            result = PhaseResult.model_validate_json((self.folder / RESULT_NAME).read_text())
            return result if result.inputs == self.inputs(parent_sha256) else None
        return None


def weights_sha256(model: Path) -> str:
    """One hash for all safetensors files of a model folder. Raises ModelError when there is none."""
    files = sorted(model.glob("*.safetensors"))
    if not files:
        raise ModelError("there are no safetensors weights", where=str(model), fix="name a folder that has them")
    return fingerprint([[file.name, file_sha256(file)] for file in files], length=64)


def run_phase(job: PhaseJob, parent: Path, parent_sha256: str, config: Config, progress: Progress) -> PhaseResult:
    """Train the model in `parent`, or go on with it, and return the result that now stands in the phase's folder.

    `parent_sha256` is the `weights_sha256` of the parent. Raises KeyboardInterrupt after SIGINT or SIGTERM, with a
    checkpoint or the result on disk; ModelError, DataError, CheckFailed.
    """
    checkpoint_folder = _clear(job, job.inputs(parent_sha256))
    checkpoint = checkpoints.newest_whole(checkpoint_folder)
    done = checkpoints.step_of(checkpoint) if checkpoint else 0
    with _errors_told(job), progress.task(job.phase.name, total=job.mix.steps, unit="steps") as task:
        log = StepLog(job.folder / METRICS_NAME, keep=done)
        watch = Watch(_reporter(log, task), config.train.checkpoint_every_s)
        task.advance(done)
        _train(job, parent, checkpoint_folder, checkpoint, config, watch)
        result = _result(job, parent_sha256, log.steps)
        write_json(job.folder / RESULT_NAME, result.model_dump(mode="json"))
        shutil.rmtree(job.folder / _CHECKPOINTS_NAME)
    if watch.stop_asked:
        raise KeyboardInterrupt
    return result


def load_model(folder: Path) -> Any:
    """The model of a folder with float32 weights: AdamW's updates vanish in the rounding of bfloat16 ones."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    except (OSError, ValueError) as error:
        fix = "name a folder with a whole Hugging Face model"
        raise ModelError(f"the model cannot be loaded ({error})", where=str(folder), fix=fix) from error


def _train(
    job: PhaseJob, parent: Path, checkpoint_folder: Path, checkpoint: Path | None, config: Config, watch: Watch
) -> None:
    """Train to the last step and save the model, or raise KeyboardInterrupt after a checkpoint."""
    tokenizer = load_tokenizer(parent)
    rows = read_rows(job.folder, tokenizer, config.student.system_prompt)
    model = load_model(parent)
    untouched = copy.deepcopy((model.config, model.generation_config))
    arguments = training_arguments(job.phase, checkpoint_folder, job.seed, num_parameters=model.num_parameters())
    trainer = make_trainer(model, tokenizer, rows, job.phase, arguments, watch)
    with _signals_ask(watch):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step < trainer.state.max_steps:
        raise KeyboardInterrupt
    if job.phase.adapter == "lora":
        trainer.model.merge_and_unload()  # into `model`, which it wraps
    # The library sets what training needs (no cache, a padding token); the model leaves as plain as it came.
    model.config, model.generation_config = untouched
    with new_folder(job.folder / MODEL_NAME) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    del trainer, model
    _give_back_memory()


def _clear(job: PhaseJob, inputs: str) -> Path:
    """Delete what other inputs or a kill left in the phase's folder; return where this job's checkpoints go."""
    (job.folder / RESULT_NAME).unlink(missing_ok=True)
    own = job.folder / _CHECKPOINTS_NAME / inputs
    leftovers = [*job.folder.glob(f"*{MODEL_NAME}*"), *(job.folder / _CHECKPOINTS_NAME).glob("*")]
    for path in leftovers:
        if path != own:
            shutil.rmtree(path, ignore_errors=True)
    own.mkdir(parents=True, exist_ok=True)
    return own


def _reporter(log: StepLog, task: Task) -> Callable[[Step], None]:
    def report(step: Step) -> None:
        log.add(step)
        task.note(f"loss {step.loss:.3f}")
        task.advance(1)

    return report


def _result(job: PhaseJob, parent_sha256: str, steps: list[Step]) -> PhaseResult:
    last_epoch = steps[-(job.mix.steps // job.phase.epochs) :]
    seconds, tokens = sum(step.seconds for step in steps), sum(step.tokens for step in steps)
    return PhaseResult(
        phase=job.phase.name,
        status="trained",
        folder=job.folder.name,
        inputs=job.inputs(parent_sha256),
        settings=job.phase,
        mix=job.mix,
        seed=job.seed,
        steps=len(steps),
        final_loss=sum(step.loss * step.trained_tokens for step in last_epoch)
        / sum(step.trained_tokens for step in last_epoch),
        seconds=round(seconds, 3),
        tokens_per_s=round(tokens / seconds, 1),
        parent_sha256=parent_sha256,
        weights_sha256=weights_sha256(job.folder / MODEL_NAME),
        dtype=str(compute_dtype()).removeprefix("torch."),
        device=device(),
        versions={name: metadata.version(name) for name in _VERSIONS_OF},
    )


@contextlib.contextmanager
def _signals_ask(watch: Watch) -> Generator[None]:
    """Inside the block SIGINT and SIGTERM ask for a stop after the step; a second one acts as it did outside."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it is interrupted
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        watch.stop_asked = True
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _errors_told(job: PhaseJob) -> Generator[None]:
    """Turn what the libraries raise for a full disk or too little memory into errors that say what to do."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError as error:
        fix = f"lower micro_batch_size (now {job.phase.micro_batch_size}) or max_length"
        raise ModelError("the device's memory is full", where=f"phase {job.phase.name!r}", fix=fix) from error
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read or write ({error})", where=str(job.folder), fix=_FREE_DISK) from error
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error):  # how torch.save says that a write failed
            raise
        raise DataError("cannot write a checkpoint", where=str(job.folder), fix=_FREE_DISK) from error


def _give_back_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
