from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import Config, Train
from tilth.core.errors import CheckFailed, DataError
from tilth.core.progress import SilentProgress
from tilth.train import checkpoints
from tilth.train import phase as phase_module
from tilth.train.data import Files, TrainingInputs
from tilth.train.load import weights_sha256
from tilth.train.plan import Lora, Phase, Plan, Replay
from tilth.train.results import TrainResult
from tilth.train.run import run_plan


class Told:
    """Progress that remembers what it was told, and does something after a given step."""

    def __init__(self, at_step: int = -1, then: Callable[[], None] | None = None) -> None:
        self.at_step, self.then = at_step, then
        self.tasks: list[tuple[str, float | None]] = []
        self.said: list[str] = []

    @contextlib.contextmanager
    def task(self, name: str, *, total: float | None, unit: str) -> Generator[Told]:
        self.tasks.append((name, total))
        self.amounts: list[float] = []
        yield self

    def advance(self, amount: float = 1) -> None:
        self.amounts.append(amount)
        if sum(self.amounts) == self.at_step and self.then:
            self.then()

    def grow(self, amount: float) -> None:
        self.grown = amount

    def note(self, text: str) -> None:
        self.noted = text

    def say(self, text: str) -> None:
        self.said.append(text)


def phase(name: str = "short", *kinds: Any, **settings: Any) -> Phase:
    given = {"epochs": 2, "learning_rate": 5e-3, "batch_size": 4, "micro_batch_size": 2, **settings}
    return Phase(name=name, kinds=kinds or ("knowledge_short",), **given)


@pytest.fixture
def train(student: Path, make: Any, tmp_path: Path) -> Callable[..., TrainResult]:
    return training_in(tmp_path, student, make)


@pytest.fixture(scope="module")
def straight(student: Path, make: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """`phase()` trained in one go."""
    return training_in(tmp_path_factory.mktemp("straight"), student, make)()


def training_in(folder: Path, student: Path, make: Any) -> Callable[..., TrainResult]:
    new = make.file(folder / "new.jsonl", make.samples(10), make.samples(6, kind="knowledge_long", leaf="b"))
    earlier = make.file(folder / "earlier.jsonl", make.samples(5, leaf="old"))

    def run(*phases: Phase, out: str = "out", progress: Any = None, every_s: float = 1e9) -> TrainResult:
        return run_plan(
            Plan(phases=phases or (phase(),)),
            TrainingInputs(student, Files([new]), Files([earlier])),
            out=folder / out,
            config=Config(train=Train(checkpoint_every_s=every_s)),
            progress=progress or SilentProgress(),
        )

    return run


def weights(model: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(model / "model.safetensors")


@pytest.mark.slow
def test_a_phase_that_averages_leaves_the_mean_of_its_weights_and_those_it_started_from(
    train: Callable[..., TrainResult], straight: TrainResult, student: Path
) -> None:
    import torch

    result = train(phase(average=0.25))
    own, trained, before = weights(result.model), weights(straight.model), weights(student)
    assert own.keys() == trained.keys()
    assert all(torch.equal(own[name], trained[name].lerp(before[name], 0.25)) for name in own)
    assert result.phases[0].weights_sha256 == weights_sha256(result.model)
    assert train(phase(average=0.25)) == result  # done: not averaged again


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_phase_learns_and_leaves_a_plain_model(
    train: Callable[..., TrainResult], student: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    told = Told()
    result = train(phase(epochs=8), progress=told)
    assert capfd.readouterr() == ("", "")
    folder = tmp_path / "out" / "01-short"
    assert result.model == folder / "model"
    assert told.tasks == [("short", 24)]
    assert sum(told.amounts) == 24
    assert told.noted.startswith("loss ")
    steps = metrics(folder)
    assert [step["step"] for step in steps] == list(range(1, 25))
    assert {step["learning_rate"] for step in steps} == {5e-3}
    assert sum(step["tokens"] for step in steps) == 8 * result.phases[0].mix.total.tokens
    assert sum(step["trained_tokens"] for step in steps) == 8 * result.phases[0].mix.total.trained_tokens
    assert result.phases[0].final_loss < 0.4 * steps[0]["loss"]
    assert {tensor.dtype for tensor in weights(result.model).values()} == {torch.float32}
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (result.model / name).read_text() == (student / name).read_text(), name
    assert AutoModelForCausalLM.from_pretrained(result.model).config.use_cache
    assert sorted(path.name for path in folder.iterdir()) == [
        "data.jsonl", "evaluations.jsonl", "metrics.jsonl", "mix.json", "model", "result.json",
    ]  # fmt: skip


@pytest.mark.slow
def test_phases_go_on_from_one_another_and_another_last_one_trains_alone(
    train: Callable[..., TrainResult], tmp_path: Path
) -> None:
    phases = (phase(epochs=1), phase("skills", "skill"), phase("long", "knowledge_long", epochs=1))
    result = train(*phases)
    assert [(p.phase, p.status, p.reason) for p in result.phases] == [
        ("short", "trained", ""),
        ("skills", "skipped", "no new sample of kind skill"),
        ("long", "trained", ""),
    ]
    assert result.phases[2].parent_sha256 == result.phases[0].weights_sha256
    assert result.model == tmp_path / "out" / "03-long" / "model"
    assert (tmp_path / "out" / "01-short" / "model").is_dir()
    again = Told()
    assert train(*phases, progress=again) == result
    assert (again.tasks, again.said) == ([], ["phase short: done already", "phase long: done already"])
    other = train(phases[0], phases[1], phase("long", "knowledge_long", epochs=2), progress=again)
    assert [name for name, _ in again.tasks] == ["long"]
    assert other.phases[0].weights_sha256 == result.phases[0].weights_sha256
    assert other.phases[2].weights_sha256 != result.phases[2].weights_sha256


def test_everything_is_refused_before_anything_is_trained(train: Callable[..., TrainResult], tmp_path: Path) -> None:
    told = Told()
    with pytest.raises(CheckFailed, match=r"'long': .* have more than 20 tokens"):
        train(phase(), phase("long", "knowledge_long", max_length=20), progress=told)
    assert told.tasks == []


LORA = {"adapter": "lora", "lora": Lora(rank=4, alpha=8, dropout=0.2)}


@pytest.mark.slow
def test_lora_is_merged_into_a_plain_model(train: Callable[..., TrainResult], student: Path) -> None:
    result = train(phase(epochs=1, **LORA))
    before, after = weights(student), weights(result.model)
    assert before.keys() == after.keys()
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {name for name in before if "proj" in name}
    assert not list(result.model.glob("adapter*"))


class Killed(BaseException):
    """What no code of ours catches."""


def kill() -> None:
    raise Killed


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"neftune_alpha": 5.0}, LORA], ids=["full", "noise", "lora"])
def test_an_interrupted_phase_ends_with_the_same_bytes(
    settings: dict[str, Any], train: Callable[..., TrainResult], tmp_path: Path
) -> None:
    """12 steps, 3 an epoch, two micro-batches each: in one go, and stopped, killed and damaged on the way."""
    job = phase(epochs=4, schedule="cosine", warmup_ratio=0.2, **settings)
    straight = train(job, out="straight")
    with pytest.raises(KeyboardInterrupt):
        train(job, progress=Told(5, ask_to_stop))
    [checkpoint] = (tmp_path / "out" / "01-short" / "checkpoints").glob("*/*")
    assert checkpoint.name == "checkpoint-5"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(Killed):
        train(job, progress=Told(9, kill), every_s=1e-9)  # a checkpoint after every step, the last one after the 8th
    torn = checkpoint.parent / "checkpoint-9"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half of")
    told = Told()
    resumed = train(job, progress=told)
    assert told.amounts == [8, 1, 1, 1, 1]
    assert resumed.phases[0].weights_sha256 == straight.phases[0].weights_sha256
    curves = [metrics(tmp_path / out / "01-short") for out in ("straight", "out")]
    for step in (*curves[0], *curves[1]):
        del step["seconds"], step["tokens_per_s"], step["mfu"]
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_noise_on_the_embeddings_is_trained_with_and_leaves_nothing_in_the_model(
    train: Callable[..., TrainResult], straight: TrainResult
) -> None:
    noisy = train(phase(neftune_alpha=5.0))
    assert straight.phases[0].weights_sha256 != noisy.phases[0].weights_sha256
    for name in ("config.json", "generation_config.json"):
        assert (noisy.model / name).read_bytes() == (straight.model / name).read_bytes()


@pytest.mark.slow
def test_a_checkpoint_that_is_damaged_or_of_other_settings_is_not_used(
    train: Callable[..., TrainResult], straight: TrainResult, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(phase(learning_rate=1e-2), progress=Told(4, ask_to_stop))
    told = Told(4, ask_to_stop)
    with pytest.raises(KeyboardInterrupt):
        train(progress=told)
    [optimizer] = (tmp_path / "out" / "01-short" / "checkpoints").glob("*/checkpoint-4/optimizer.pt")
    data = bytearray(optimizer.read_bytes())
    data[len(data) // 2] ^= 1
    optimizer.write_bytes(data)
    assert train().phases[0].weights_sha256 == straight.phases[0].weights_sha256


@pytest.mark.slow
def test_that_checkpoints_of_another_micro_batch_are_of_no_use_is_said(
    train: Callable[..., TrainResult], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(progress=Told(4, ask_to_stop))
    told = Told()
    train(phase(micro_batch_size=1), progress=told)
    whose = "its checkpoint of step 4 is of micro_batch_size 2, 1 process and `distributed: none`"
    assert told.said.count(f"phase short begins anew: {whose}") == 1
    assert sum(told.amounts) == 6


@pytest.mark.slow
def test_no_checkpoint_is_ahead_of_the_lines_of_its_steps(
    train: Callable[..., TrainResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, on_disk, published = tmp_path / "out" / "01-short" / "metrics.jsonl", [0], list[int]()
    fsync, publish = phase_module.fsync, checkpoints.publish

    def synced(file: Path) -> None:
        fsync(file)
        on_disk.append(len(metrics(file.parent)))

    def checked(folder: Path, step: int, *, keep: int) -> None:
        assert on_disk[-1] == step
        published.append(step)
        publish(folder, step, keep=keep)

    monkeypatch.setattr(phase_module, "fsync", synced)
    monkeypatch.setattr(checkpoints, "publish", checked)
    train(every_s=1e-9)
    assert published == [1, 2, 3, 4, 5]
    assert on_disk[-1] == len(metrics(log.parent)) == 6


@pytest.mark.slow
def test_a_phase_whose_lines_were_lost_is_done_again_to_the_same_result(
    train: Callable[..., TrainResult], straight: TrainResult, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(progress=Told(4, ask_to_stop))
    log = tmp_path / "out" / "01-short" / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))
    told = Told()
    result = train(progress=told).phases[0]
    assert sum(told.amounts) == 6
    assert (result.steps, len(metrics(log.parent))) == (6, 6)
    assert (result.final_loss, result.weights_sha256) == (
        straight.phases[0].final_loss,
        straight.phases[0].weights_sha256,
    )


def test_a_disk_that_cannot_be_read_is_told(train: Callable[..., TrainResult], monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoints, "newest_whole", unreadable)
    with pytest.raises(DataError, match=r"01-short: cannot read or write \(.*Input/output error\)"):
        train()


@pytest.mark.slow
def test_a_stop_at_the_last_step_loses_nothing(train: Callable[..., TrainResult], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(progress=Told(6, ask_to_stop))
    assert json.loads((tmp_path / "out" / "01-short" / "result.json").read_text())["steps"] == 6


@pytest.mark.slow
def test_replayed_samples_are_trained_with_the_new(train: Callable[..., TrainResult]) -> None:
    shares = Replay(earlier_phases=0.2, earlier_cycles=0.4)
    result = train(phase(epochs=1), phase("long", "knowledge_long", epochs=1, replay=shares))
    mix = result.phases[1].mix
    assert {name: tally.samples for name, tally in mix.by_origin.items()} == {
        "new": 6, "earlier_phase": 3, "earlier_cycle": 5,
    }  # fmt: skip


def test_a_loss_that_is_no_number_stops_the_phase(train: Callable[..., TrainResult]) -> None:
    with pytest.raises(CheckFailed, match=r"the (loss|norm of the gradient) became nan at step \d+; lower"):
        train(phase(learning_rate=1e30))
