from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import Config, Train
from tilth.core.errors import CheckFailed
from tilth.train import fits, memory
from tilth.train.auto import Resolved
from tilth.train.fits import check_memory, free_memory
from tilth.train.memory import PROCESS, Batch, Memory, Sharing, estimate, longest_batch, read_shape
from tilth.train.mix import Mix, Tally

GB = 1e9
LLAMA_8B = memory.Shape(
    parameters=8_030_261_248,
    embedding=128_256 * 4096,
    tied=False,
    hidden=4096,
    layers=32,
    intermediate=14_336,
    attention=4096,
    keys=1024,
    vocab=128_256,
)
BATCH = Batch(rows=2, length=1024, places=512)


def phase(**settings: Any) -> Resolved:
    given = {"batch_size": 16, "micro_batch_size": 2, "max_length": 1024, "learning_rate": 1e-5, **settings}
    return Resolved.model_validate({"name": "p", "kinds": ["skill"], **given})


@pytest.fixture(autouse=True)
def on_a_gpu_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(memory, "device", lambda: "cuda")
    monkeypatch.setattr(memory, "compute_dtype", lambda: torch.bfloat16)


def test_the_shape_is_that_of_the_models_files(student: Path) -> None:
    from transformers import LlamaForCausalLM

    model: Any = LlamaForCausalLM.from_pretrained(student)
    shape = read_shape(student)
    assert shape.parameters == model.num_parameters()
    assert shape.embedding == model.model.embed_tokens.weight.numel()
    assert shape.tied
    assert shape.in_layers == model.num_parameters() - shape.embedding
    assert (shape.hidden, shape.layers, shape.intermediate, shape.attention, shape.keys) == (32, 2, 64, 32, 16)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's
def test_an_adapter_is_as_large_as_peft_makes_it(student: Path) -> None:
    import peft
    from transformers import LlamaForCausalLM

    config: Any = peft.LoraConfig
    adapted: Any = peft.get_peft_model(
        LlamaForCausalLM.from_pretrained(student), config(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    assert read_shape(student).adapter(4) == adapted.get_nb_trainable_parameters()[0]


def test_full_fine_tuning_takes_16_bytes_for_each_parameter_and_two_for_its_copy() -> None:
    found = estimate(LLAMA_8B, phase(), BATCH)
    parameters = LLAMA_8B.parameters
    assert found.gradients == 4 * parameters
    assert found.optimizer == 8 * parameters
    assert found.weights == 4 * parameters + 2 * (parameters - LLAMA_8B.embedding)
    assert found.logits == 12 * 128_256 * 2 * 512
    assert found.total == found.weights + found.gradients + found.optimizer + found.activations + found.logits


def test_gradients_come_as_activations_go() -> None:
    at_once, twice = (estimate(LLAMA_8B, phase(batch_size=size), BATCH) for size in (2, 4))
    assert at_once.total == at_once.weights + at_once.optimizer + max(
        at_once.gradients, at_once.activations + at_once.logits
    )
    assert twice.total > at_once.total


@pytest.mark.parametrize(("adapter", "weights", "trained"), [("lora", 47.1, 0.84), ("qlora", 8.6, 0.84)])
def test_adapters_need_gradients_and_moments_for_themselves_only(adapter: str, weights: float, trained: float) -> None:
    found = estimate(LLAMA_8B, phase(adapter=adapter), BATCH)
    assert found.weights / GB == pytest.approx(weights, rel=0.1)
    assert (found.gradients + found.optimizer) / GB == pytest.approx(trained * 1.2, rel=0.1)


def test_each_stage_of_zero_shares_more() -> None:
    stages = [estimate(LLAMA_8B, phase(), BATCH, Sharing(8, stage)) for stage in range(4)]
    assert stages[0].gradients == 2 * stages[1].gradients  # the others' arrive in buckets
    assert stages[1].optimizer == 12 * LLAMA_8B.parameters // 8  # with the weights that it updates
    assert stages[2].gradients == stages[1].gradients // 8
    assert stages[3].weights < stages[2].weights / 4
    totals = [stage.total for stage in stages]
    assert totals == sorted(totals, reverse=True)


def test_what_is_offloaded_is_in_main_memory() -> None:
    on_device, offloaded = (estimate(LLAMA_8B, phase(), BATCH, Sharing(8, 3, offload)) for offload in (False, True))
    assert offloaded.optimizer == 0
    assert offloaded.host == on_device.optimizer + LLAMA_8B.parameters * 4 // 8 + (
        (LLAMA_8B.parameters - LLAMA_8B.embedding) * 2 // 8
    )
    assert offloaded.total < on_device.total


def test_recomputing_keeps_one_layer_and_the_inputs_of_the_others() -> None:
    kept, recomputed = (estimate(LLAMA_8B, phase(), BATCH, recompute=recompute) for recompute in (False, True))
    assert recomputed.activations < kept.activations / 5
    assert estimate(LLAMA_8B, phase(), BATCH) == recomputed  # as the trainer does from a billion parameters on


def mix(**counts: Any) -> Mix:
    given = {"longest": 512, "places": 128, "steps": 10, "total": Tally(samples=100, tokens=9000), **counts}
    return Mix.model_validate(
        {"phase": "p", "by_origin": {}, "by_kind": {}, "by_leaf": {}, "too_long": {}, "data_sha256": ""}
        | {"tokens_sha256": "", **given}
    )


def test_the_longest_batch_has_both_answers_of_a_pair() -> None:
    pairs = phase(method="dpo", kinds=["preference"])
    assert longest_batch(phase(), mix()) == Batch(2, 512, 128)
    assert longest_batch(pairs, mix()) == Batch(4, 512, 128)
    assert longest_batch(phase(), mix(total=Tally(samples=1))) == Batch(1, 512, 128)


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, fits):
        monkeypatch.setattr(module, "device", lambda: "cpu")


SMALL = memory.Shape(134_515_008, 28_311_552, True, 576, 30, 1536, 576, 192, 49_152)


@pytest.mark.usefixtures("on_a_cpu")
@pytest.mark.parametrize(
    ("free", "advice"),
    [
        (9.0, "set its micro_batch_size to 8, which takes about 8.. GB"),
        (3.2, "set its micro_batch_size to 1"),
        (2.1, "set its micro_batch_size to 1 and train with `adapter: lora`"),
        (0.5, "use a machine with more, or a smaller student"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    free: float, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "free_memory", lambda: int(free * GB))
    monkeypatch.setattr(fits, "_resident", lambda: PROCESS)
    job = phase(batch_size=16, micro_batch_size=16)
    with pytest.raises(
        CheckFailed, match=rf"phase 'p': training takes about .* GB of memory, and {free} GB .*{advice}"
    ):
        check_memory(job, mix(), SMALL, Train())


@pytest.mark.usefixtures("on_a_cpu")
def test_what_fits_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "free_memory", lambda: int(20 * GB))
    check_memory(phase(), mix(), SMALL, Train())
    monkeypatch.setattr(fits, "free_memory", lambda: None)
    check_memory(phase(), mix(), SMALL, Config().train)


def test_free_memory_is_the_least_that_any_limit_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_memory()
    assert free is None or free > 0
    files = {"memory.max": "3000", "memory.current": "2000", "memory.stat": "anon 1\ninactive_file 500\n"}
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for name, text in files.items():
        (inner.parent / name).write_text(text)
        (inner / name).write_text("max" if name == "memory.max" else text)
    monkeypatch.setattr(fits, "_GROUPS", tmp_path)
    monkeypatch.setattr(fits, "_own_group", lambda: "outer/inner")
    assert free_memory() in {1500, None}


def test_the_parts_of_a_memory_are_numbers_of_bytes() -> None:
    assert all(isinstance(size, int) for size in estimate(SMALL, phase(), BATCH).model_dump().values())
    assert set(Memory.model_fields) >= {"weights", "gradients", "optimizer", "activations", "logits", "total"}
