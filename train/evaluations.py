"""What happens at the end of each epoch: the model is measured, told about, and kept aside while it is among the best.

Nothing of it reaches the training: the model is put back into training mode and every random generator into its state.
An epoch is measured once: its line in `evaluations.jsonl` is written after its model is kept aside, so a run that was
killed on the way and trains the epoch again, to the same weights, finds it done.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.atomic import copy_folder, new_folder, remove
from ..core.errors import DataError
from ..core.jsonl import read_records, write_records
from . import checkpoints, distributed
from .methods.setup import Setup
from .metrics import Step
from .plan import LOSS_ON_ROWS
from .selection import Evaluation, ends_early, in_words, kept
from .trainer import check_finite

Look = Callable[[Any], Mapping[str, float]]
"""Other numbers, from the trainer, whose model it leaves as it is."""
_BEST = "best-"
_FEWEST_MEASURED, _MOST_MEASURED = 8, 64


def read_evaluations(log: Path) -> list[Evaluation]:
    """The epochs that were measured so far. Raises DataError."""
    return list(read_records(log, Evaluation)) if log.exists() else []


class EpochEnds:
    """The ends of a phase's epochs. `metrics` are its steps, `log` is its `evaluations.jsonl`; `looks` measure more.

    The best models are kept beside the checkpoints. Where several processes train, all measure, the first one writes.
    """

    def __init__(self, setup: Setup, metrics: Path, log: Path, looks: Sequence[Look] = ()) -> None:
        self._looks = looks
        self._phase, self._setup, self._metrics, self._log = setup.phase, setup, metrics, log
        self._evaluations = read_evaluations(log)
        self._delete_worse()

    def __call__(self, trainer: Any) -> bool:
        """Measure the epoch that is over, unless that was done; whether training ends with it."""
        epoch, step = round(trainer.state.epoch), trainer.state.global_step
        found = next((evaluation for evaluation in self._evaluations if evaluation.epoch == epoch), None)
        if found is None:
            with _undisturbed(trainer.model):
                found = self._evaluate(trainer, epoch, step)
        self._setup.watch.on_evaluation(found)
        return self.are_over(step)

    def are_over(self, step: int) -> bool:
        """Whether training that has come to `step` ends early."""
        return ends_early([each for each in self._evaluations if each.step <= step], self._phase.select)

    def write_model(self, trainer: Any, folder: Path) -> None:
        """Write the phase's model: the best where it selects, with what else it keeps beside it, else the last.

        Raises DataError where one that was kept is no longer what was written.
        """
        found = kept(self._evaluations, self._phase.select)
        if not found:
            self._write(trainer, folder)
        for place, evaluation in enumerate(found if distributed.is_first() else ()):
            name = f"{folder.name}-epoch-{evaluation.epoch}" if place else folder.name
            with new_folder(folder.with_name(name)) as copy:
                self._take(evaluation.epoch, copy)

    def _evaluate(self, trainer: Any, epoch: int, step: int) -> Evaluation:
        started, select, held_out = time.monotonic(), self._phase.select, self._setup.watch.held_out
        training, validation = self._measured(trainer)
        for measured in (training, validation):
            check_finite(measured.get("loss", 0.0), step)
        more = {name: number for look in self._looks for name, number in look(trainer).items()}
        found = Evaluation(epoch=epoch, step=step, training=training, validation=validation, more=more)
        if select.by == "held_out" and held_out:
            self._keep(trainer, epoch)
            found = found.model_copy(update={"held_out": held_out(self._aside(epoch))})
        self._evaluations.append(found.model_copy(update={"seconds": round(time.monotonic() - started, 3)}))
        is_kept = self._evaluations[-1] in kept(self._evaluations, select)
        if any(distributed.any_of(is_kept)) and select.by == "validation_loss":
            self._keep(trainer, epoch)
        if distributed.is_first():
            write_records(self._log, self._evaluations)
        self._delete_worse()
        self._setup.watch.say(in_words(self._evaluations, self._phase))
        return self._evaluations[-1]

    def _measured(self, trainer: Any) -> tuple[dict[str, float], dict[str, float]]:
        """What is measured on trained rows, and on those held back."""
        if self._phase.method not in LOSS_ON_ROWS:
            return _means_of_steps(self._metrics, trainer.state), {}
        validation = trainer.eval_dataset or ()
        chosen = _sample(trainer.lengths, len(validation), f"{self._setup.seed}/{self._phase.name}/measured")
        trained = [trainer.train_dataset[index] for index in chosen]
        return _measure(trainer, trained), _measure(trainer, list(validation))

    def _write(self, trainer: Any, folder: Path) -> None:
        if distributed.is_first():
            with new_folder(folder) as aside:
                trainer.save_result(aside)
                self._setup.tokenizer.save_pretrained(aside)
        else:
            trainer.save_result(None)

    def _keep(self, trainer: Any, epoch: int) -> None:
        self._write(trainer, self._aside(epoch))
        if distributed.is_first():
            checkpoints.write_manifest(self._aside(epoch))

    def _take(self, epoch: int, folder: Path) -> None:
        aside = self._aside(epoch)
        copy_folder(aside, folder)
        if not checkpoints.is_whole(folder):
            fix = "delete that folder's parent and run the same command again: the phase is trained anew"
            raise DataError(f"the model of epoch {epoch} was damaged on the disk", where=str(aside), fix=fix)
        (folder / checkpoints.MANIFEST).unlink()

    def _aside(self, epoch: int) -> Path:
        return self._setup.checkpoints / f"{_BEST}{epoch}"

    def _delete_worse(self) -> None:
        folder = self._setup.checkpoints
        good = {self._aside(evaluation.epoch) for evaluation in kept(self._evaluations, self._phase.select)}
        for path in (*folder.glob(f"{_BEST}*"), *folder.glob(f".{_BEST}*")) if distributed.is_first() else ():
            if path not in good:
                remove(path)


def _sample(lengths: Sequence[int], wanted: int, seed: str) -> list[int]:
    """Which of the trained rows are measured, short ones first: as many as are held back, or a tenth where none are."""
    count = wanted or max(_FEWEST_MEASURED, min(len(lengths) // 10, _MOST_MEASURED))
    rng = random.Random(seed)  # noqa: S311 (a reproducible choice, not a secret)
    return sorted(rng.sample(range(len(lengths)), min(count, len(lengths))), key=lambda index: lengths[index])


def _measure(trainer: Any, examples: Sequence[Any]) -> dict[str, float]:
    """The means over the examples of what the method measures."""
    import torch

    sums, weights = defaultdict[str, float](float), 0
    size = trainer.args.per_device_train_batch_size
    for start in range(0, len(examples), size):
        batch = trainer._prepare_inputs(trainer.data_collator(examples[start : start + size]))  # noqa: SLF001
        with torch.no_grad(), trainer.compute_loss_context_manager():
            weight, numbers = trainer.measure(batch)
        weights += weight
        for name, number in numbers.items():
            sums[name] += weight * number
    return {name: total / weights for name, total in sums.items()} if weights else {}


def _means_of_steps(metrics: Path, state: Any) -> dict[str, float]:
    """What the steps of the epoch that is over said, each in the mean over those that said it."""
    since = state.global_step - state.max_steps // state.num_train_epochs
    said = defaultdict[str, list[float]](list)
    for step in (step for step in read_records(metrics, Step) if step.step > since):
        for name, number in {"loss": step.loss, **step.more}.items():
            said[name].append(number)
    return {name: sum(numbers) / len(numbers) for name, numbers in said.items()}


@contextlib.contextmanager
def _undisturbed(model: Any) -> Generator[None]:
    """Inside the block the model is not trained, and what is drawn at random was never drawn."""
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state()
    model.eval()
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        yield
    model.train()
    random.setstate(states[0])
    np.random.set_state(states[1])
