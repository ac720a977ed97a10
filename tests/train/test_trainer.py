from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.errors import ModelError
from tilth.llm.precision import compute_dtype
from tilth.train import trainer as trainer_module
from tilth.train import varlen
from tilth.train.auto import Resolved
from tilth.train.load import load_model
from tilth.train.masking import IGNORED, Tokens, load_tokenizer, tokenize
from tilth.train.methods.setup import Setup
from tilth.train.methods.supervised import trainer as make_trainer
from tilth.train.metrics import Step
from tilth.train.order import epoch_order
from tilth.train.phase import errors_told
from tilth.train.trainer import Watch, library_arguments


@pytest.fixture
def rows(student: Path, make: Any) -> list[Tokens]:
    samples = [*make.samples(7), make.sample("Who?", "They " * 9, unmask=True)]
    return tokenize(load_tokenizer(student), samples, "")


def build(student: Path, rows: list[Tokens], folder: Path, **settings: Any) -> tuple[Any, list[Step]]:
    """A trainer on the rows, and the list that its steps go to."""
    given: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 8, "micro_batch_size": 8, **settings}
    phase = Resolved(name="p", kinds=("skill",), max_length=256, **given)
    steps: list[Step] = []
    setup = Setup(
        phase=phase,
        parent=student,
        models={},
        tokenizer=load_tokenizer(student),
        rows=rows,
        checkpoints=folder,
        seed=1,
        config=Config(),
        watch=Watch(steps.append, 1e9),
    )
    return make_trainer(setup), steps


@pytest.fixture
def padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a model whose attention cannot keep joined rows apart."""
    monkeypatch.setattr(varlen, "join_rows_in", lambda _model: False)


@pytest.mark.usefixtures("padded")
def test_the_labels_that_reach_the_model_are_ours(student: Path, rows: list[Tokens], tmp_path: Path) -> None:
    trainer, _ = build(student, rows, tmp_path, batch_size=4, micro_batch_size=2, epochs=3)
    seen: list[tuple[list[int], list[int]]] = []
    compute_loss = trainer.compute_loss

    def look(model: Any, inputs: dict[str, Any], **more: Any) -> Any:
        columns = [inputs[name].tolist() for name in ("input_ids", "labels", "attention_mask")]
        for ids, labels, attended in zip(*columns, strict=True):
            length = sum(attended)
            assert attended == [1] * length + [0] * (len(ids) - length)
            assert set(labels[length:]) <= {IGNORED}
            seen.append((ids[:length], labels[:length]))
        return compute_loss(model, inputs, **more)

    trainer.compute_loss = look
    trainer.train()
    lengths = [len(row.input_ids) for row in rows]
    order = [index for epoch in range(3) for index in epoch_order(lengths, 4, 1, epoch)]
    assert seen == [(rows[index].input_ids, rows[index].labels) for index in order]
    assert seen[:8] != seen[8:16] or seen[:8] != seen[16:]


def test_joined_rows_reach_the_model_whole_and_in_order(student: Path, rows: list[Tokens], tmp_path: Path) -> None:
    trainer, _ = build(student, rows, tmp_path, batch_size=4, micro_batch_size=2)
    seen: list[tuple[list[int], list[int], list[int]]] = []
    compute_loss = trainer.compute_loss

    def look(model: Any, inputs: dict[str, Any], **more: Any) -> Any:
        assert "attention_mask" not in inputs
        lengths = inputs["cu_seq_lens_q"].diff().tolist()
        assert inputs["max_length_q"] == max(lengths)
        parts = [inputs[name][0].split(lengths) for name in ("input_ids", "labels", "position_ids")]
        pieces = list(zip(*([part.tolist() for part in each] for each in parts), strict=True))
        shared = pieces.pop(0) if varlen.shared_in(inputs) else ([], [], [])
        seen.extend(tuple([*before, *own] for before, own in zip(shared, piece, strict=True)) for piece in pieces)
        return compute_loss(model, inputs, **more)

    trainer.compute_loss = look
    trainer.train()
    expected = [rows[index] for index in epoch_order([row.length for row in rows], 4, 1, 0)]
    assert seen == [(row.input_ids, [IGNORED, *row.labels[1:]], list(range(row.length))) for row in expected]


def test_one_process_trains_on_one_gpu_however_many_it_sees(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    class OnEight(TrainingArguments):
        def __post_init__(self) -> None:
            super().__post_init__()
            self._n_gpu = 8

    phase = Resolved(name="p", kinds=("skill",), batch_size=8, micro_batch_size=2)
    arguments = library_arguments(OnEight, phase, tmp_path, 1, parameters=1)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 2)


def test_a_full_memory_is_told_as_such(tmp_path: Path) -> None:
    import torch

    job: Any = SimpleNamespace(phase=SimpleNamespace(name="p", micro_batch_size=4), folder=tmp_path)
    with (
        pytest.raises(ModelError, match=r"'p': the machine's memory is full; lower micro_batch_size \(now 4\)"),
        errors_told(job),
    ):
        torch.empty(2**60, dtype=torch.uint8)


def test_nothing_is_sent_anywhere(
    student: Path, rows: list[Tokens], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda **given: sent.append(given))
    build(student, rows, tmp_path)
    assert sent == []


def gradients(trainer: Any) -> dict[str, Any]:
    """What the optimizer of a one-step training is given."""
    from transformers import TrainerCallback

    found: dict[str, Any] = {}

    class Look(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found.update({name: p.grad.clone() for name, p in kwargs["model"].named_parameters() if p.requires_grad})

    trainer.add_callback(Look)
    trainer.train()
    return found


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(trainer_module, "compute_dtype", lambda: torch.float32)


@pytest.mark.parametrize("layout", ["joined", "padded"])
@pytest.mark.usefixtures("in_float32")
@pytest.mark.slow
def test_the_loss_is_the_mean_over_the_trained_tokens_however_it_is_accumulated(
    student: Path, rows: list[Tokens], tmp_path: Path, layout: str, request: pytest.FixtureRequest
) -> None:
    import torch

    if layout == "padded":
        request.getfixturevalue("padded")
    model = load_model(student)
    logits = [model(torch.tensor([row.input_ids])).logits[0, :-1] for row in rows]
    targets = torch.tensor([label for row in rows for label in row.labels[1:]])
    reference = torch.nn.functional.cross_entropy(torch.cat(logits), targets, ignore_index=IGNORED)
    reference.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    for micro_batch_size in (8, 2, 1):
        trainer, steps = build(student, rows, tmp_path, micro_batch_size=micro_batch_size, clip_norm=1e9)
        found = gradients(trainer)
        assert steps[0].loss == pytest.approx(reference.item(), rel=1e-5)
        assert steps[0].trained_tokens == sum(row.trained for row in rows)
        assert steps[0].tokens == sum(len(row.input_ids) for row in rows)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_what_is_recomputed_in_the_backward_pass_changes_no_gradient(
    student: Path, rows: list[Tokens], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradients_and_passes() -> tuple[dict[str, Any], int]:
        trainer, _ = build(student, rows, tmp_path, adapter="lora", lora={"dropout": 0})
        passes: list[Any] = []
        trainer.plain.model.layers[0].mlp.register_forward_pre_hook(lambda *_: passes.append(1))
        return gradients(trainer), len(passes)

    kept, once = gradients_and_passes()
    monkeypatch.setattr(trainer_module, "_CHECKPOINT_ACTIVATIONS_FROM", 1)
    recomputed, twice = gradients_and_passes()
    assert twice == 2 * once
    assert all(kept[name].equal(recomputed[name]) for name in kept)


def test_weights_and_optimizer_are_float32_while_matrices_multiply_in_the_machines_format(
    student: Path, rows: list[Tokens], tmp_path: Path
) -> None:
    import torch

    trainer, _ = build(student, rows, tmp_path)
    projection = trainer.model.model.layers[0].mlp.up_proj
    outputs: list[torch.dtype] = []
    projection.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.dtype))
    trainer.train()
    assert outputs == [compute_dtype()]
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    state = trainer.optimizer.state[projection.weight]
    assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.float32
    group = trainer.optimizer.param_groups[0]
    assert (group["betas"], group["weight_decay"], group["fused"]) == ((0.9, 0.95), 0.0, True)


@pytest.mark.slow
def test_schedules_rise_and_fall_as_the_plan_says(student: Path, rows: list[Tokens], tmp_path: Path) -> None:
    def rates(**settings: Any) -> list[float]:
        trainer, steps = build(student, rows, tmp_path, batch_size=2, micro_batch_size=2, epochs=2, **settings)
        trainer.train()
        return [round(step.learning_rate / 1e-3, 3) for step in steps]

    assert rates(warmup_ratio=0.25) == [0, 0.5, 1, 1, 1, 1, 1, 1]
    assert rates(schedule="linear") == [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
