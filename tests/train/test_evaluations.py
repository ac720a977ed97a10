from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config, Train
from tilth.core.errors import ConfigError, DataError
from tilth.core.jsonl import write_records
from tilth.core.progress import SilentProgress, SilentTask
from tilth.train.data import Files, TrainingInputs
from tilth.train.evaluations import EpochEnds, _means_of_steps
from tilth.train.load import load_model, weights_sha256
from tilth.train.masking import load_tokenizer, tokenize
from tilth.train.merge import merged_weights
from tilth.train.metrics import Step
from tilth.train.plan import Phase, Plan
from tilth.train.results import TrainResult
from tilth.train.run import run_plan
from tilth.train.selection import Evaluation
from tilth.train.settings import Lora, Selection

LORA: dict[str, Any] = {"adapter": "lora", "lora": Lora(rank=4, alpha=8, dropout=0.2)}


class Told(SilentTask):
    """Progress that remembers what it was told; it may raise something when it is told an epoch."""

    def __init__(self, raises_at: str = "") -> None:
        self.said: list[str] = []
        self.grown = 0.0
        self._raises_at = raises_at

    @contextlib.contextmanager
    def task(self, name: str, *, total: float | None, unit: str) -> Generator[Told]:
        yield self

    def grow(self, amount: float) -> None:
        self.grown += amount

    def say(self, text: str) -> None:
        self.said.append(text)
        if self._raises_at and self._raises_at in text:
            raise Killed


class Killed(BaseException):
    """What no code of ours catches."""


class Right:
    """So many questions right, epoch by epoch, and the models that were asked."""

    def __init__(self, *counts: int) -> None:
        self._counts, self.asked = list(counts), list[set[str]]()

    def __call__(self, folder: Path) -> int:
        self.asked.append({path.name for path in folder.iterdir()})
        load_model(folder)
        load_tokenizer(folder)
        return self._counts.pop(0)


@pytest.fixture
def train(student: Path, make: Any, tmp_path: Path) -> Callable[..., TrainResult]:
    new = make.file(tmp_path / "new.jsonl", make.samples(16))

    def run(
        out: str, *, held_out: Any = None, progress: Any = None, every_s: float = 1e9, **settings: Any
    ) -> TrainResult:
        given: dict[str, Any] = {"epochs": 2, "learning_rate": 5e-3, "batch_size": 4, "micro_batch_size": 2, **settings}
        return run_plan(
            Plan(phases=(Phase(name="p", kinds=("knowledge_short",), **given),)),
            TrainingInputs(student, Files([new])),
            out=tmp_path / out,
            config=Config(train=Train(checkpoint_every_s=every_s)),
            progress=progress or SilentProgress(),
            held_out=held_out,
        )

    return run


def evaluations(tmp_path: Path, out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / out / "01-p" / "evaluations.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_every_epoch_is_measured_on_what_is_trained_and_on_what_is_held_back(
    train: Callable[..., TrainResult], student: Path, tmp_path: Path
) -> None:
    import torch

    told = Told()
    result = train("out", progress=told, epochs=3, select=Selection(validation=0.25))
    measured = evaluations(tmp_path, "out")
    assert [(each["epoch"], each["step"]) for each in measured] == [(1, 3), (2, 6), (3, 9)]
    assert measured[2]["training"]["loss"] < measured[0]["training"]["loss"]
    assert [line.partition(": loss")[0] for line in told.said if ": loss" in line] == [
        f"phase p, epoch {epoch} of 3" for epoch in (1, 2, 3)
    ]
    # The last line against the model that was left, one sample at a time.
    from tilth.core.jsonl import read_records
    from tilth.train.data import TrainingSample

    model, tokenizer = load_model(result.model), load_tokenizer(student)
    held = list(read_records(tmp_path / "out" / "01-p" / "validation.jsonl", TrainingSample))
    summed, right, count = 0.0, 0, 0
    for row in tokenize(tokenizer, held, ""):
        logits, targets = model(torch.tensor([row.input_ids])).logits[0, :-1], torch.tensor(row.labels[1:])
        summed += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        right += int((logits.argmax(-1) == targets).sum())
        count += row.trained
    assert len(held) == 4
    assert measured[2]["validation"]["loss"] == pytest.approx(summed / count, rel=2e-2)
    assert measured[2]["validation"]["accuracy"] == pytest.approx(right / count, abs=0.05)


def test_a_number_that_not_every_step_has_is_the_mean_of_those_that_have_it(tmp_path: Path) -> None:
    told: list[dict[str, float]] = [{"kl": 9.0}, {"kl": 1.0}, {"kl": 3.0, "reward": 0.5}, {"reward": 1.0}, {}]
    base: dict[str, Any] = {"epoch": 0, "learning_rate": 1, "grad_norm": 1, "tokens": 1, "trained_tokens": 1}
    steps = [Step(step=n, loss=n, seconds=1, more=more, **base) for n, more in enumerate(told, start=1)]
    write_records(tmp_path / "metrics.jsonl", steps)
    state = SimpleNamespace(global_step=5, max_steps=8, num_train_epochs=2)
    assert _means_of_steps(tmp_path / "metrics.jsonl", state) == {"loss": 3.5, "kl": 2, "reward": 0.75}


@pytest.mark.slow
def test_the_epoch_that_answers_most_becomes_the_model(train: Callable[..., TrainResult], tmp_path: Path) -> None:
    right, told = Right(1, 5, 3), Told()
    chosen = train("chosen", epochs=3, held_out=right, progress=told, select=Selection(by="held_out", keep=2), **LORA)
    last = train("last", epochs=2, select=Selection(by="last"), **LORA)
    assert chosen.phases[0].epoch == last.phases[0].epoch == 2
    assert chosen.phases[0].steps == 12
    assert chosen.phases[0].weights_sha256 == last.phases[0].weights_sha256
    assert told.said[-1] == (
        "phase p: the model is that of epoch 2 of 3 (5 held-out questions right); beside it model-epoch-3"
    )
    assert [each["held_out"] for each in evaluations(tmp_path, "chosen")] == [1, 5, 3]
    assert not any("adapter" in name for names in right.asked for name in names)
    assert {path.name for path in chosen.model.parent.glob("*model*")} == {"model", "model-epoch-3"}
    second = chosen.model.with_name("model-epoch-3")
    assert weights_sha256(second) != chosen.phases[0].weights_sha256
    for model in (chosen.model, second):
        assert {path.name for path in model.iterdir()} == {path.name for path in last.model.iterdir()}


@pytest.mark.slow
def test_all_models_that_are_kept_are_averaged_and_that_their_numbers_are_older_is_said(
    train: Callable[..., TrainResult], student: Path
) -> None:
    from safetensors.torch import load_file

    told = Told()
    settings: dict[str, Any] = {"select": Selection(by="held_out", keep=2)}
    plain = train("plain", held_out=Right(5, 3), **settings).model.parent
    averaged = train("averaged", held_out=Right(5, 3), progress=told, average=0.25, **settings).model.parent
    assert told.said[-1] == (
        "phase p: the model is the mean of what was trained and of its parent, which weighs 25%; "
        "the numbers of its epochs are of what was trained"
    )
    before = load_file(student / "model.safetensors")
    for name in ("model", "model-epoch-2"):
        own = load_file(plain / name / "model.safetensors")
        for tensor, found in load_file(averaged / name / "model.safetensors").items():
            assert found.allclose(own[tensor].lerp(before[tensor], 0.25), atol=1e-7)


@pytest.mark.slow
def test_a_kept_model_that_was_damaged_is_not_taken(train: Callable[..., TrainResult], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"select": Selection(by="held_out")}
    with pytest.raises(Killed):
        train("out", held_out=Right(5), progress=Told("epoch 1 of 2"), every_s=1e-9, **settings)
    [kept] = (tmp_path / "out" / "01-p" / "checkpoints").glob("*/best-1")
    weights = bytearray((kept / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (kept / "model.safetensors").write_bytes(weights)
    with pytest.raises(DataError, match=r"best-1: the model of epoch 1 was damaged on the disk; delete that folder's"):
        train("out", held_out=Right(3), every_s=1e-9, **settings)
    assert not list((tmp_path / "out" / "01-p").glob("*model*"))
    shutil.rmtree(kept.parent)
    assert train("out", held_out=Right(5, 3), **settings).phases[0].epoch == 1


@pytest.mark.slow
def test_training_ends_after_epochs_that_are_no_better(train: Callable[..., TrainResult], tmp_path: Path) -> None:
    told, patient = Told(), Selection(by="held_out", patience=2)
    result = train("out", epochs=9, held_out=Right(4, 7, 7, 6), progress=told, select=patient)
    assert (result.phases[0].epoch, result.phases[0].steps, told.grown) == (2, 16, -20)
    assert told.said[-1].endswith("training ended after epoch 4, none having been better since")


@pytest.mark.slow
def test_an_epoch_is_measured_once_though_the_run_is_killed_before_its_checkpoint(
    train: Callable[..., TrainResult], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"epochs": 3, "select": Selection(by="held_out"), **LORA}
    straight = train("straight", held_out=Right(1, 5, 3), **settings)
    right = Right(1, 5, 3)
    with pytest.raises(Killed):
        train("killed", held_out=right, progress=Told("epoch 2 of 3"), every_s=1e-9, **settings)
    assert len(right.asked) == 2
    told = Told()
    again = train("killed", held_out=right, progress=told, **settings)
    assert len(right.asked) == 3
    assert again.phases[0].weights_sha256 == straight.phases[0].weights_sha256
    assert not any("epoch 2" in line for line in told.said[:-1])


def test_an_epoch_that_was_measured_before_a_kill_is_told_all_the_same(tmp_path: Path) -> None:
    before = Evaluation(epoch=1, step=3, training={"loss": 1.0})
    write_records(tmp_path / "log", [before])
    told: list[Evaluation] = []
    setup: Any = SimpleNamespace(
        phase=Phase(name="p", kinds=("skill",), select=Selection(by="last")),
        checkpoints=tmp_path,
        watch=SimpleNamespace(on_evaluation=told.append),
    )
    trainer = SimpleNamespace(state=SimpleNamespace(epoch=1.0, global_step=3))
    assert not EpochEnds(setup, tmp_path / "metrics", tmp_path / "log")(trainer)
    assert told == [before]


@pytest.mark.slow
def test_what_other_settings_measured_is_forgotten(train: Callable[..., TrainResult], tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train("out", progress=Told("epoch 1 of 2"))
    train("out", learning_rate=1e-3)
    train("other", learning_rate=1e-3)
    one, other = ([each["training"] for each in evaluations(tmp_path, name)] for name in ("out", "other"))
    assert one == other


@pytest.mark.slow
def test_measuring_and_keeping_models_changes_nothing_of_the_training(
    train: Callable[..., TrainResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    select = Selection(by="validation_loss", validation=0.25, keep=2)
    settings: dict[str, Any] = {"select": select, "neftune_alpha": 5.0}
    measured = train("measured", **settings, **LORA)
    monkeypatch.setattr("tilth.train.evaluations.EpochEnds.__call__", lambda _self, _trainer: False)
    monkeypatch.setattr("tilth.train.evaluations.kept", lambda *_: [])
    alone = train("alone", **settings, **LORA)
    assert measured.phases[0].epoch == 2
    assert measured.phases[0].weights_sha256 == alone.phases[0].weights_sha256
    assert measured.model.with_name("model-epoch-1").is_dir()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's
def test_an_adapter_is_merged_as_the_library_merges_it(student: Path) -> None:
    import peft
    import torch

    torch.manual_seed(1)
    plain = load_model(student)
    adapted = peft.get_peft_model(plain, peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    merged = merged_weights(plain)
    assert all(tensor.equal(before[name]) for name, tensor in adapted.state_dict().items())
    adapted.merge_and_unload()
    expected = plain.state_dict()
    assert merged.keys() == expected.keys()
    assert all(tensor.equal(expected[name]) for name, tensor in merged.items())


def test_selection_by_questions_that_are_not_there_is_refused(train: Callable[..., TrainResult]) -> None:
    with pytest.raises(
        ConfigError, match=r"'p': it selects by held_out, but there are no generated .* validation_loss"
    ):
        train("out", select=Selection(by="held_out"))
