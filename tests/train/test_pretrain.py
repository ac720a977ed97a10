from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.errors import ModelError
from tilth.core.jsonl import read_records
from tilth.core.progress import SilentProgress
from tilth.core.records import Sample
from tilth.train import trainer as trainer_module
from tilth.train.auto import Resolved
from tilth.train.data import Files, TrainingInputs, TrainingSample, of_origin
from tilth.train.evaluations import read_evaluations
from tilth.train.load import load_model
from tilth.train.masking import load_tokenizer
from tilth.train.methods import pretrain
from tilth.train.methods.setup import Setup
from tilth.train.metrics import Step
from tilth.train.packing import Block, DocumentTokens, attending_lengths, collate, pack, split
from tilth.train.plan import Phase, Plan
from tilth.train.results import TrainResult
from tilth.train.run import check_student, run_plan
from tilth.train.trainer import Watch


def of(*lengths: int) -> list[list[int]]:
    """Texts of these lengths, no token twice."""
    tokens = iter(range(sum(lengths)))
    return [[next(tokens) for _ in range(length)] for length in lengths]


def as_new(sample: Sample) -> TrainingSample:
    found = of_origin(sample, "new")
    assert isinstance(found, TrainingSample)
    return found


def document(make: SimpleNamespace, title: str, text: str) -> TrainingSample:
    return as_new(make.sample(title, text, kind="document", unmask=True))


def test_short_texts_share_rows_and_long_ones_are_split() -> None:
    blocks = pack(of(3, 25, 5, 2, 7), 10)
    assert [[len(piece) for piece in block.pieces] for block in blocks] == [[10], [10], [7, 3], [7, 2], [5]]
    assert [block.length for block in blocks] == [10, 10, 10, 9, 5]


@pytest.mark.parametrize("seed", range(5))
def test_every_token_is_predicted_by_the_one_before_it_exactly_once(seed: int) -> None:
    rng = random.Random(seed)
    texts = of(*(rng.randint(2, 60) for _ in range(40)))
    blocks = pack(texts, 16)
    predicted = [pair for block in blocks for piece in block.pieces for pair in itertools.pairwise(piece)]
    assert sorted(predicted) == [pair for text in texts for pair in itertools.pairwise(text)]
    assert all(block.length <= 16 for block in blocks)
    assert sum(block.trained for block in blocks) == len(predicted) == sum(len(text) - 1 for text in texts)
    full = sum(block.length for block in blocks) / (16 * len(blocks))
    assert full > 0.95


def test_a_piece_begins_with_the_token_before_it() -> None:
    assert split([1, 2, 3, 4, 5], 3) == [[1, 2, 3], [3, 4, 5]]
    assert split([1, 2, 3, 4], 3) == [[1, 2, 3], [3, 4]]
    assert split([1], 3) == []


def test_a_row_is_filled_up_with_what_is_not_trained() -> None:
    batch = collate([Block(([1, 2, 3], [4, 5])).columns(), Block(([6, 7],)).columns()], padding=9)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5], [6, 7, 9, 9, 9]]
    assert batch["labels"].tolist() == [[-100, 2, 3, -100, 5], [-100, 7, -100, -100, -100]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 0, 0]]
    assert attending_lengths(batch) == [3, 2, 2]


def test_a_document_is_plain_text_with_an_end(student: Path, make: SimpleNamespace) -> None:
    tokenizer = load_tokenizer(student)
    (row,) = pretrain.rows(tokenizer, [document(make, "Bees", "They say <|im_end|>.")], "Be kind.")
    assert row.input_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in row.input_ids[:-1]
    assert tokenizer.decode(row.input_ids[:-1]) == "Bees\n\nThey say <|im_end|>."


def test_a_document_begins_as_the_tokenizer_begins_texts(make: SimpleNamespace) -> None:
    tokenizer = make.tokenizer(make.chatml, ("<s>", "</s>"), bos="<s>", eos="</s>")
    (row,) = pretrain.rows(tokenizer, [document(make, "Bees", "Fly.")], "")
    assert tokenizer.decode(row.input_ids) == "<s>Bees\n\nFly.</s>"


def build(student: Path, texts: list[list[int]], folder: Path, **settings: Any) -> tuple[Any, list[Step]]:
    given: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 8, "micro_batch_size": 8, **settings}
    steps: list[Step] = []
    setup = Setup(
        phase=Resolved(name="p", method="pretrain", kinds=("document",), max_length=32, **given),
        parent=student,
        models={},
        tokenizer=load_tokenizer(student),
        rows=[DocumentTokens(text) for text in texts],
        checkpoints=folder,
        seed=1,
        config=Config(),
        watch=Watch(steps.append, 1e9),
    )
    return pretrain.trainer(setup), steps


@pytest.mark.parametrize("micro_batch_size", [8, 2])
@pytest.mark.slow
def test_the_packed_loss_and_its_gradient_are_those_of_each_text_by_itself(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro_batch_size: int
) -> None:
    import torch
    from transformers import TrainerCallback

    monkeypatch.setattr(trainer_module, "compute_dtype", lambda: torch.float32)
    rng = random.Random(0)
    texts = [[rng.randrange(250) for _ in range(rng.randint(3, 30))] for _ in range(12)]
    model = load_model(student)
    logits = [model(torch.tensor([text])).logits[0, :-1] for text in texts]
    targets = torch.tensor([token for text in texts for token in text[1:]])
    expected = torch.nn.functional.cross_entropy(torch.cat(logits), targets)
    expected.backward()
    found: dict[str, Any] = {}

    class Look(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found.update({name: p.grad.clone() for name, p in kwargs["model"].named_parameters()})

    trainer, steps = build(student, texts, tmp_path, micro_batch_size=micro_batch_size, clip_norm=1e9)
    assert len(trainer.lengths) < len(texts)
    trainer.add_callback(Look)
    trainer.train()
    assert steps[0].loss == pytest.approx(expected.item(), rel=1e-5)
    assert (steps[0].tokens, steps[0].trained_tokens) == (sum(map(len, texts)), len(targets))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_no_text_sees_another_in_its_row(student: Path) -> None:
    import torch

    model = load_model(student)
    rows = [collate([Block((first, [7, 8, 9])).columns()], padding=0) for first in ([1, 2, 3, 4], [5, 5, 5, 5])]
    for row in rows:
        row.pop("labels")
    seen = [model(**row, use_cache=False).logits[0, 4:] for row in rows]
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["Mpt", "Bloom", "Falcon", "Mamba"])
def test_a_model_in_which_texts_of_a_row_would_meet_is_refused(name: str, tmp_path: Path) -> None:
    import transformers

    getattr(transformers, f"{name}Config")(vocab_size=64).save_pretrained(tmp_path)
    plan = Plan(phases=(Phase(name="texts", method="pretrain", kinds=("document",)),))
    with pytest.raises(ModelError, match="phase 'texts': `method: pretrain` packs documents"):
        check_student(plan, tmp_path)


def test_a_model_without_mlps_cannot_train_them_only(tmp_path: Path) -> None:
    import transformers

    config = transformers.MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4)
    transformers.MambaForCausalLM(config).save_pretrained(tmp_path)
    plan = Plan(phases=(Phase(name="facts", kinds=("skill",), trainable="mlp"),))
    with pytest.raises(ModelError, match="phase 'facts': no MLP is found in the student by its name; write a plan"):
        check_student(plan, tmp_path)


@pytest.fixture
def train(student: Path, make: SimpleNamespace, tmp_path: Path) -> Callable[..., TrainResult]:
    texts = [make.sample(f"About {i}", "word " * (5 + 9 * i), kind="document", unmask=True) for i in range(6)]
    new = make.file(tmp_path / "new.jsonl", texts)

    def run(**settings: Any) -> TrainResult:
        given = {"epochs": 4, "learning_rate": 5e-3, "batch_size": 2, "micro_batch_size": 1, **settings}
        phase = Phase(name="p", method="pretrain", kinds=("document",), **given)
        return run_plan(
            Plan(phases=(phase,)),
            TrainingInputs(student, Files([new])),
            out=tmp_path / "out",
            config=Config(),
            progress=SilentProgress(),
        )

    return run


@pytest.mark.parametrize("adapter", ["none", pytest.param("lora", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_phase_learns_documents_longer_than_a_row(train: Callable[..., TrainResult], adapter: str) -> None:
    (result,) = train(max_length=64, adapter=adapter).phases
    assert result.mix is not None
    assert result.mix.total.samples == 6
    assert result.mix.too_long.samples == result.mix.cut.samples == 0
    assert (result.mix.lengths.longest, result.mix.longest) == (260, 64)
    assert result.steps == result.mix.steps
    assert result.final_loss is not None
    assert result.final_loss < 5.0


@pytest.mark.slow
def test_auto_makes_rows_of_the_longest_document(train: Callable[..., TrainResult]) -> None:
    (result,) = train(epochs=1).phases
    assert result.mix is not None
    assert (result.mix.longest, result.mix.lengths.longest) == (256, 260)  # the model holds 256 positions
    assert result.steps == 2  # 885 tokens in four rows, two of them a step


@pytest.mark.slow
def test_rows_are_no_longer_than_what_the_model_holds(train: Callable[..., TrainResult], tmp_path: Path) -> None:
    (result,) = train(max_length=1024, epochs=1).phases
    assert result.mix is not None
    assert result.mix.longest == 256
    assert result.auto["max_length"] == "256 instead of 1,024 (all that the model holds; the longest sample has 260)"
    told = read_records(tmp_path / "out" / "01-p" / "metrics.jsonl", Step)
    assert sum(step.tokens for step in told) == result.mix.total.tokens + 1  # the longest is two pieces that share one


@pytest.mark.slow
def test_documents_held_back_are_measured_packed(train: Callable[..., TrainResult], tmp_path: Path) -> None:
    (result,) = train(max_length=64, select={"by": "validation_loss", "validation": 0.3}).phases
    assert result.mix is not None
    assert (result.mix.total.samples, result.mix.validation.samples) == (4, 2)
    measured = [each.validation["loss"] for each in read_evaluations(tmp_path / "out" / "01-p" / "evaluations.jsonl")]
    assert len(measured) == 4
    assert measured[-1] < measured[0]
