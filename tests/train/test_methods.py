"""Every method of the table with every kind of adapter, and on MLPs alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.train.auto import Resolved
from tilth.train.data import of_origin
from tilth.train.load import load_model
from tilth.train.masking import load_tokenizer
from tilth.train.methods.prompts import with_room
from tilth.train.methods.setup import Setup
from tilth.train.methods.table import METHODS
from tilth.train.metrics import Step
from tilth.train.plan import LEARNS_FROM_ANSWERS, TRAINS_ON, MethodName
from tilth.train.rewards import Answered, Earned, Rewards
from tilth.train.settings import Distill, Reward, Rollout
from tilth.train.trainer import Watch

HAS_BITSANDBYTES = find_spec("bitsandbytes") is not None
QLORA = pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not installed")


@pytest.fixture(scope="module")
def teacher(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers otherwise than the student."""
    import torch

    folder = tmp_path_factory.mktemp("teacher")
    model = load_model(student)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    model.save_pretrained(folder)
    load_tokenizer(student).save_pretrained(folder)
    return folder


def cases() -> Iterator[Any]:
    """Every method with what it may train, and a part of the names of the weights that change."""
    for method in METHODS:
        yield pytest.param(method, {"adapter": "lora"}, "proj", id=f"{method}-lora")
        yield pytest.param(method, {"adapter": "qlora"}, "proj", id=f"{method}-qlora", marks=QLORA)
        if method != "reward":
            yield pytest.param(method, {"trainable": "mlp"}, "mlp", id=f"{method}-mlp")


@pytest.mark.parametrize(("method", "settings", "part"), [*cases()])
@pytest.mark.slow
def test_a_step_changes_the_weights_that_it_is_to_change_and_no_other(  # noqa: PLR0917 (fixtures)
    method: MethodName,
    settings: dict[str, str],
    part: str,
    student: Path,
    teacher: Path,
    make: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from safetensors.torch import load_file

    def earned(_self: Rewards, answers: Sequence[Answered]) -> Earned:
        return Earned([float(place % 2) for place in range(len(answers))], {})

    monkeypatch.setattr(Rewards, "earned", earned)
    trainer, steps = build(method, student, teacher, make, tmp_path, **settings)
    trainer.train()
    trainer.save_result(tmp_path / "model")
    assert [math.isfinite(step.loss) and step.grad_norm > 0 for step in steps] == [True]
    before, after = (load_file(folder / "model.safetensors") for folder in (student, tmp_path / "model"))
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {name for name in before if part in name}


@pytest.fixture(scope="module")
def mixture(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of experts whose configuration asks for a loss of its router."""
    import torch
    from transformers import GraniteMoeConfig, GraniteMoeForCausalLM

    folder, tokenizer = tmp_path_factory.mktemp("mixture"), load_tokenizer(student)
    config = GraniteMoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        router_aux_loss_coef=0.5,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    GraniteMoeForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"reward"}))
@pytest.mark.slow
def test_a_mixture_of_experts_learns_the_tokens_alone(  # noqa: PLR0917 (fixtures)
    method: MethodName,
    mixture: Path,
    make: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TRL adds what an uneven use of experts costs to some methods' loss, or ends in a traceback on the way."""

    def earned(_self: Rewards, answers: Sequence[Answered]) -> Earned:
        return Earned([float(place % 2) for place in range(len(answers))], {})

    monkeypatch.setattr(Rewards, "earned", earned)
    trainer, steps = build(method, mixture, mixture, make, tmp_path)
    trainer.train()
    assert [math.isfinite(step.loss) for step in steps] == [True]
    if method == "dpo":  # the student is its own reference still
        assert steps[0].loss == pytest.approx(math.log(2), abs=1e-4)


def build(
    method: MethodName, student: Path, teacher: Path, make: SimpleNamespace, folder: Path, **settings: Any
) -> tuple[Any, list[Step]]:
    """A trainer that makes one step, and the list that it goes to."""
    given: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-2, "batch_size": 4, **settings}
    if method in LEARNS_FROM_ANSWERS:
        rewards = () if method == "distill" else (Reward(answer="exact"),)
        given["rollout"] = Rollout(completions=2, max_new_tokens=3, rewards=rewards)
    if method == "distill":
        given["distill"] = Distill(teacher=str(teacher))
    kind = min(TRAINS_ON[method])
    phase = Resolved(name="p", method=method, kinds=(kind,), micro_batch_size=2, max_length=256, **given)
    pairs = [make.pair(f"What is {i}?", f"It is {i}.", "No idea.") for i in range(4)]
    items = pairs if kind == "preference" else make.samples(4, kind=kind, unmask=kind == "document")
    tokenizer, made, steps = load_tokenizer(student), METHODS[method], list[Step]()
    rows = made.rows(tokenizer, [of_origin(item, "new") for item in items], "")
    setup = Setup(
        phase=phase,
        parent=student,
        models={},
        tokenizer=tokenizer,
        rows=with_room(rows, phase),
        checkpoints=folder / "01-p" / "checkpoints" / "inputs",
        seed=1,
        config=Config(),
        watch=Watch(steps.append, 1e9),
    )
    return made.trainer(setup), steps
