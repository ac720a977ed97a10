from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config, Train
from tilth.core.errors import CheckFailed, ModelError
from tilth.train import memory, varlen
from tilth.train.auto import Resolved
from tilth.train.data import Pool
from tilth.train.disk import Disk, check_disk, disk_of
from tilth.train.masking import IGNORED
from tilth.train.memory import Batch, Sharing, estimate, longest_batch, read_shape
from tilth.train.methods.setup import Setup
from tilth.train.methods.table import METHODS
from tilth.train.mix import Mix, Ready, make_mixes, read_rows
from tilth.train.plan import MethodName, Plan
from tilth.train.run import read_student
from tilth.train.tally import Tally
from tilth.train.trainer import Watch, adapter_config

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
    mlp=32 * 3 * 4096 * 14_336,
)
BATCH = Batch(rows=2, length=1024, tokens=2048, logits=1024, joined=True)


def phase(**settings: Any) -> Resolved:
    given = {"batch_size": 16, "micro_batch_size": 2, "max_length": 1024, "learning_rate": 1e-5, **settings}
    return Resolved.model_validate({"name": "p", "kinds": ["skill"], **given})


pytestmark = pytest.mark.usefixtures("on_a_gpu_with_bfloat16")


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


def test_gradients_come_as_copies_and_activations_go() -> None:
    at_once, twice = (estimate(LLAMA_8B, phase(batch_size=size), BATCH) for size in (2, 4))
    assert twice.total == twice.weights + twice.optimizer + twice.gradients + twice.activations + twice.logits
    there = 4 * LLAMA_8B.parameters + at_once.optimizer + at_once.gradients
    one_layer = at_once.activations - LLAMA_8B.layers * 2048 * 4 * LLAMA_8B.hidden  # all but the layers' inputs
    assert at_once.total == there + one_layer


@pytest.mark.usefixtures("on_a_cpu")
def test_in_a_heap_gradients_take_the_place_of_activations_that_are_as_large() -> None:
    def beside(tokens: int) -> int:
        batch = Batch(rows=1, length=tokens, tokens=tokens, logits=8, joined=True)
        found = estimate(SMALL, phase(batch_size=2), batch)
        passing = found.activations + found.logits + 4 * SMALL.embedding  # whose gradient is there twice for a moment
        return found.total - found.weights - found.optimizer - found.process - passing

    left = (4 - 2) * SMALL.parameters  # of gradients in float32, where the copies in bfloat16 were
    assert beside(2 * SMALL.hidden - 1) == left
    assert beside(2 * SMALL.hidden) < left


@pytest.mark.parametrize(("adapter", "weights", "trained"), [("lora", 47.1, 0.84), ("qlora", 8.6, 0.84)])
def test_adapters_need_gradients_and_moments_for_themselves_only(adapter: str, weights: float, trained: float) -> None:
    found = estimate(LLAMA_8B, phase(adapter=adapter), BATCH)
    assert found.weights / GB == pytest.approx(weights, rel=0.1)
    assert (found.gradients + found.optimizer) / GB == pytest.approx(trained * 1.2, rel=0.1)


def test_each_stage_of_zero_shares_more() -> None:
    stages = [estimate(LLAMA_8B, phase(), BATCH, Sharing(8, stage)) for stage in range(4)]
    parameters, bucket = LLAMA_8B.parameters, 4 * 500_000_000
    assert stages[0].gradients == 2 * 4 * parameters  # the others' arrive in buckets
    assert stages[1].gradients == 4 * parameters + bucket
    assert stages[1].optimizer == 12 * parameters // 8  # with the weights that it updates
    assert stages[2].gradients == stages[3].gradients == 4 * parameters // 8 + bucket
    assert stages[3].weights < stages[2].weights / 4
    totals = [stage.total for stage in stages]
    assert totals == sorted(totals, reverse=True)


def test_what_is_offloaded_is_in_main_memory() -> None:
    on_device, offloaded = (estimate(LLAMA_8B, phase(), BATCH, Sharing(8, 3, offload)) for offload in (False, True))
    assert offloaded.optimizer == 0
    parameters, embedding = LLAMA_8B.parameters, LLAMA_8B.embedding
    weights, gradients = (4 * parameters + 2 * (parameters - embedding)) // 8, 4 * parameters // 8
    assert offloaded.host == on_device.optimizer + weights + gradients + 2 * 4 * embedding
    assert offloaded.gradients == on_device.gradients - gradients
    assert offloaded.total < on_device.total


def test_fsdp_keeps_no_second_copy_of_what_it_trains() -> None:
    fsdp, zero3 = (estimate(LLAMA_8B, phase(), BATCH, Sharing.of(train(kind))) for kind in ("fsdp", "zero3"))
    assert fsdp.optimizer == 8 * LLAMA_8B.parameters // 8
    assert zero3.optimizer == 12 * LLAMA_8B.parameters // 8
    assert fsdp.gradients == 4 * LLAMA_8B.parameters // 8 + 2 * 4 * LLAMA_8B.embedding  # and what is under way
    assert zero3.weights - fsdp.weights == 4 * (1_000_000_000 - 2 * LLAMA_8B.embedding)  # what was gathered stays


@pytest.mark.usefixtures("on_a_cpu")
def test_in_main_memory_deepspeeds_bucket_is_there_as_far_as_it_is_filled() -> None:
    parameters = SMALL.parameters
    found = [estimate(SMALL, phase(), BATCH, Sharing(2, 2, offload)) for offload in (False, True)]
    assert [each.gradients for each in found] == [4 * parameters // 2 + 2 * 4 * parameters, 2 * 4 * parameters]
    assert found[1].host == (12 + 4) * parameters // 2 + 2 * 4 * SMALL.embedding


def train(distributed: Any) -> Train:
    return Train(processes=8, distributed=distributed)


def test_a_checkpoint_holds_what_deepspeed_writes_again() -> None:
    def checkpoint(distributed: str, **settings: Any) -> int:
        return disk_of(phase(**settings), SMALL, keep_checkpoints=1, distributed=distributed).checkpoint

    each = {name: checkpoint(name) / SMALL.parameters for name in ("none", "fsdp", "zero1", "zero2", "zero3")}
    assert each == {"none": 12, "fsdp": 12, "zero1": 20, "zero2": 20, "zero3": 16}
    assert checkpoint("zero1", adapter="lora") == 20 * SMALL.adapter(32)
    assert checkpoint("zero1", method="ppo", **ANSWERS) == 12 * SMALL.parameters  # one process trains it


def test_the_models_of_several_epochs_need_disk_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk(keep: int) -> Disk:
        return disk_of(phase(select={"by": "validation_loss", "keep": keep}), SMALL, keep_checkpoints=1)

    model = 4 * SMALL.parameters
    lora = {"adapter": "lora", "select": {"by": "last"}}
    plain, mean = (disk_of(phase(**lora, average=share), SMALL, keep_checkpoints=1) for share in (0.0, 0.1))
    assert mean.most - plain.most == model
    assert disk(1_000_000) == disk(10)  # there are no more epochs
    assert (disk(1).beside, disk(1).most) == (0, 3 * model + model + 3 * model)
    assert (disk(4).beside, disk(4).most) == (3 * model, 3 * model + 4 * model + 4 * model)
    kept, last = phase(select={"by": "held_out", "keep": 4}), phase(select={"by": "last"})
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=11 * model))
    check_disk([(kept, tmp_path), (last, tmp_path)], SMALL, keep_checkpoints=1)  # in the second: 4 of the first's, 6
    with pytest.raises(CheckFailed, match="it needs up to"):
        check_disk([(kept, tmp_path), (kept, tmp_path)], SMALL, keep_checkpoints=1)


def test_the_end_of_an_epoch_takes_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def beside_weights(**settings: Any) -> int:
        found = estimate(LLAMA_8B, phase(**settings), Batch(1, 8, 8, 8, joined=True))
        return found.total - found.weights - found.optimizer - found.process

    asked = {"select": {"by": "held_out"}}
    assert beside_weights(adapter="lora", **asked) == 2 * LLAMA_8B.parameters  # a second model answers
    assert beside_weights(**asked) > beside_weights(adapter="lora", **asked)  # gradients take more
    assert beside_weights(adapter="lora") < GB  # merged weights are made in main memory
    monkeypatch.setattr(memory, "device", lambda: "cpu")
    assert beside_weights(adapter="lora") == 4 * LLAMA_8B.in_layers
    assert beside_weights(adapter="qlora") == 4 * (LLAMA_8B.in_layers + LLAMA_8B.parameters)


ANSWERS: dict[str, Any] = {"kinds": ["skill"], "rollout": {"beta": 0.1, "rewards": [{"answer": "exact"}]}}


def test_what_is_not_trainable_has_neither_gradients_nor_moments() -> None:
    whole, part = (estimate(LLAMA_8B, phase(trainable=which), BATCH) for which in ("all", "mlp"))
    assert whole.weights == part.weights
    assert (part.gradients, part.optimizer) == (4 * LLAMA_8B.mlp, 8 * LLAMA_8B.mlp)


def test_models_that_are_asked_only_take_memory_too(student: Path) -> None:
    def others(**settings: Any) -> int:
        found = estimate(LLAMA_8B, phase(kinds=["skill"], **settings), BATCH)
        own = found.weights + found.optimizer + found.gradients + found.activations + found.logits
        assert found.total == own + found.others
        return found.others

    whole, small = LLAMA_8B.parameters, read_shape(student).parameters
    scored = [{"model": "an earlier phase"}, {"model": str(student)}, {"judge": True}]
    assert others() == 0
    assert others(method="ppo", rollout={"beta": 0.1, "rewards": [{"judge": True}]}) == 4 * whole
    assert others(method="grpo", rollout={"rewards": [{"judge": True}]}) == 0
    assert others(method="rloo", rollout={"rewards": scored}) == 2 * (whole + small)
    assert others(method="distill", distill={"teacher": "parent"}) == 4 * whole
    assert others(method="distill", distill={"teacher": str(student)}) == 4 * small
    adapted = estimate(LLAMA_8B, phase(method="grpo", adapter="lora", **ANSWERS), BATCH)
    assert adapted.others == 0  # the model without its adapter is the reference


def test_the_reference_of_an_adapter_that_is_gone_on_with_is_a_model_of_its_own() -> None:
    whole, in_layers = LLAMA_8B.parameters, LLAMA_8B.in_layers
    kept = LLAMA_8B.after(phase(adapter="lora", lora={"merge": False}))
    assert kept.after(phase(method="reward", kinds=["preference"])).adapted
    assert not kept.after(phase(adapter="lora")).adapted

    def others(adapter: str, beta: float = 0.1) -> int:
        rollout = ANSWERS["rollout"] | {"beta": beta}
        return estimate(kept, phase(method="ppo", adapter=adapter, kinds=["skill"], rollout=rollout), BATCH).others

    assert others("lora") == others("none") == 4 * whole
    assert others("qlora") == round(0.53 * in_layers) + 4 * (whole - in_layers)
    assert others("lora", beta=0) == 0


def test_rows_that_are_padded_have_a_mask() -> None:
    padded = Batch(rows=2, length=1024, tokens=2048, logits=1024, joined=False)
    one = Batch(rows=1, length=2048, tokens=2048, logits=1024, joined=False)
    sizes = [estimate(SMALL, phase(), batch).activations for batch in (padded, BATCH, one)]
    assert sizes[0] - sizes[1] == SMALL.layers * 2048 * 2 * (1024 + 2 * (SMALL.attention - SMALL.keys))
    assert sizes[1] == sizes[2]


def test_matrices_of_four_bits_give_float32() -> None:
    sizes = [estimate(SMALL, phase(adapter=adapter), BATCH).activations for adapter in ("lora", "qlora")]
    assert sizes[1] - sizes[0] == SMALL.layers * 2048 * 3 * 2 * SMALL.intermediate


@pytest.mark.usefixtures("on_a_cpu")
@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize(("joined", "shared"), [(True, 0), (True, 20), (False, 0)], ids=["joined", "shared", "padded"])
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's
@pytest.mark.slow
def test_a_layer_keeps_what_autograd_saves(
    adapter: str, joined: bool, shared: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(memory, "compute_dtype", lambda: torch.float32)
    job = phase(adapter=adapter)
    saved = [saved_by_autograd(job, layers, tmp_path / str(layers), joined=joined, shared=shared) for layers in (2, 3)]
    tokens = shared + 3 * (50 - shared)
    batch = Batch(rows=3, length=50, tokens=tokens, logits=3, joined=joined, shared=shared)
    foreseen = memory._saved_in_layer(read_shape(tmp_path / "2"), job, batch)
    assert saved[1] - saved[0] == pytest.approx(foreseen, rel=0.01)  # but for a few numbers of a token


def saved_by_autograd(job: Resolved, layers: int, folder: Path, *, joined: bool, shared: int) -> int:
    """Bytes, weights left out, of all that a forward pass of three rows of 50 tokens keeps for the backward pass."""
    import peft
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2}
    model: Any = LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, head_dim=32, vocab_size=100, **sizes))
    model.save_pretrained(folder)
    ids = [[*[7] * 21, row, *[7] * 28] if shared else [row, *[7] * 49] for row in range(10, 13)]
    rows = [{"input_ids": each, "labels": [IGNORED] * 49 + [7]} for each in ids]
    mask = torch.ones(3, 50, dtype=torch.long)
    mask[0, -1] = 0
    batch: dict[str, Any] = {"input_ids": torch.tensor(ids), "attention_mask": mask}
    if joined:
        batch = varlen.join(rows)
        del batch["labels"]
        assert varlen.join_rows_in(model)
    if job.adapter != "none":
        model = peft.get_peft_model(model, adapter_config(model, job))
    weights, kept = {each.untyped_storage().data_ptr() for each in model.parameters()}, dict[int, Any]()

    def keep(tensor: Any) -> Any:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(**batch, use_cache=False, logits_to_keep=torch.tensor([48]))
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)


def test_recomputing_keeps_one_layer_and_the_inputs_of_the_others() -> None:
    kept, recomputed = (estimate(LLAMA_8B, phase(), BATCH, recompute=recompute) for recompute in (False, True))
    assert recomputed.activations < kept.activations / 5
    assert estimate(LLAMA_8B, phase(), BATCH) == recomputed  # as the trainer does from a billion parameters on


def mix(**counts: Any) -> Mix:
    largest = Tally(samples=2, tokens=900, trained_tokens=200)
    given = {"longest": 512, "places": 128, "steps": 10, "total": {}, "largest": largest, **counts}
    return Mix.model_validate(
        {"phase": "p", "by_origin": {}, "by_kind": {}, "by_leaf": {}, "too_long": {}, "data_sha256": ""}
        | {"tokens_sha256": "", **given}
    )


def test_the_longest_batch_is_joined_or_padded() -> None:
    padding = dataclasses.replace(SMALL, joins=False)
    assert longest_batch(phase(), mix(), SMALL) == Batch(2, 512, 900, 200, joined=True)
    assert longest_batch(phase(), mix(), padding) == Batch(2, 512, 2 * 512, 2 * 128, joined=False)
    assert longest_batch(phase(micro_batch_size=1), mix(), SMALL) == Batch(1, 512, 450, 100, joined=True)
    one = mix(largest=Tally(samples=1, tokens=512, trained_tokens=128))
    assert longest_batch(phase(), one, SMALL) == Batch(1, 512, 512, 128, joined=True)


@pytest.mark.usefixtures("on_a_cpu")
def test_what_rows_share_is_in_the_longest_batch_once() -> None:
    assert longest_batch(phase(), mix(shared=100), SMALL) == Batch(2, 512, 800, 200, joined=True, shared=100)
    assert longest_batch(phase(micro_batch_size=1), mix(shared=100), SMALL) == Batch(1, 512, 450, 100, joined=True)


def test_the_longest_batch_has_both_answers_of_a_pair_and_all_to_a_prompt() -> None:
    pairs, scores = (phase(method=method, kinds=["preference"]) for method in ("dpo", "reward"))
    assert longest_batch(pairs, mix(), SMALL) == Batch(4, 512, 4 * 512, 4 * 128, joined=False)
    assert longest_batch(scores, mix(places=0), SMALL).logits == 0
    answers = phase(method="ppo", **ANSWERS)
    assert longest_batch(answers, mix(), SMALL) == Batch(16, 512, 16 * 512, 16 * 128, joined=False)


def test_logits_that_are_made_in_tiles_are_those_of_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (Batch(8, 512, 8 * 512, logits, joined=False) for logits in (1000, 100_000))

    def logits(batch: Batch, method: str, **settings: Any) -> int:
        return estimate(LLAMA_8B, phase(method=method, kinds=["skill"], **settings), batch).logits

    assert logits(few, "grpo", rollout=ANSWERS["rollout"]) == 2 * 1000 * 32_768
    assert logits(many, "rloo", rollout=ANSWERS["rollout"]) == 2 * 4096 * 32_768
    assert logits(few, "ppo", rollout=ANSWERS["rollout"]) == (12 + 2) * 1000 * LLAMA_8B.vocab
    monkeypatch.setattr(memory, "device", lambda: "cpu")
    assert logits(few, "grpo", rollout=ANSWERS["rollout"]) == 31 * 256 * 32_768
    assert logits(few, "distill", distill={"teacher": "parent"}) == 44 * 256 * 32_768


@pytest.mark.parametrize(("method", "kinds"), [("sft", ["knowledge_short"]), ("dpo", ["preference"])])
@pytest.mark.slow
def test_as_many_positions_go_through_the_output_head_as_are_foreseen(
    method: MethodName, kinds: list[str], student: Path, make: Any, tmp_path: Path
) -> None:
    samples = [make.sample(f"What is {'very ' * i}{i}?", "It is " + "so " * (5 - i), leaf="a") for i in range(6)]
    pairs = [make.pair(f"What is {'very ' * i}{i}?", "It is " + "so " * (5 - i), "No.") for i in range(6)]
    plan = Plan.model_validate({"phases": [{"name": "p", "method": method, "kinds": kinds, "batch_size": 4}]})
    model = read_student(student)
    [ready] = make_mixes(plan, Pool([*samples, *pairs]), model, [tmp_path], Config())
    assert isinstance(ready, Ready)
    setup = Setup(
        phase=ready.phase,
        parent=student,
        models={},
        tokenizer=model.tokenizer,
        rows=read_rows(ready.phase, tmp_path / "data.jsonl", model.tokenizer, ""),
        checkpoints=tmp_path / "checkpoints",
        seed=1,
        config=Config(),
        watch=Watch(lambda _step: None, 1e9),
    )
    trainer, seen = METHODS[method].trainer(setup), list[int]()

    def look(_head: Any, given: tuple[Any, ...], _logits: Any) -> None:
        seen.append(given[0].shape[:-1].numel())

    trainer.model.get_output_embeddings().register_forward_hook(look)
    rows = sorted(range(6), key=lambda row: -trainer.lengths[row])[:4]
    trainer.train_dataset = [trainer.train_dataset[row] for row in rows]
    trainer.lengths = [trainer.lengths[row] for row in rows]
    trainer.train()
    assert set(seen) == {longest_batch(ready.phase, ready.mix, read_shape(student)).logits}


def test_a_model_whose_attention_is_of_another_kind_is_given_padded_rows(tmp_path: Path, student: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Gemma2Config(vocab_size=64, num_key_value_heads=2, head_dim=8, **sizes)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    assert read_shape(student).joins
    assert not read_shape(tmp_path).joins


@pytest.mark.parametrize(
    ("name", "sizes", "heads"),
    [
        ("Mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2}, 4),
        ("Mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, 0),
        ("GPT2", {"n_embd": 32, "n_head": 4, "n_layer": 2}, 4),
    ],
)
def test_sizes_are_read_by_whatever_name_a_model_has_them(
    tmp_path: Path, name: str, sizes: dict[str, int], heads: int
) -> None:
    import transformers

    config = getattr(transformers, f"{name}Config")(vocab_size=64, **sizes)
    getattr(transformers, f"{name}{'LMHeadModel' if name == 'GPT2' else 'ForCausalLM'}")(config).save_pretrained(
        tmp_path
    )
    shape = read_shape(tmp_path)
    assert (shape.hidden, shape.layers, shape.vocab, shape.attention) == (32, 2, 64, 8 * heads)


def test_a_model_that_transformers_does_not_know_is_refused_in_a_line(student: Path, tmp_path: Path) -> None:
    shutil.copytree(student, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "unheard_of"}))
    with pytest.raises(ModelError, match=r"the model cannot be loaded .* name a folder with a causal"):
        read_shape(tmp_path)


ONE = Batch(rows=1, length=2048, tokens=2048, logits=1024, joined=False)
SMALL = memory.Shape(134_515_008, 28_311_552, True, 576, 30, 1536, 576, 192, 49_152)


def test_in_main_memory_a_heap_has_as_large_holes_whether_activations_are_kept_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def activations(batch: Batch, where: str, **how: Any) -> int:
        monkeypatch.setattr(memory, "device", lambda: where)
        adapter = how.pop("adapter", {})
        return estimate(SMALL, phase(**adapter), batch, **how).activations

    def holes(batch: Batch = ONE, **how: Any) -> int:
        return activations(batch, "cpu", **how) - activations(batch, "cuda", **how)

    kept = activations(ONE, "cuda", recompute=False)
    assert holes(recompute=False) == holes(recompute=True) == round(0.25 * kept)
    lora = {"adapter": "lora", "lora": {"dropout": 0.0}}
    assert holes(adapter=lora) == round(0.5 * activations(ONE, "cuda", adapter=lora))
    large = Batch(rows=1, length=12_000, tokens=12_000, logits=1, joined=False)  # what it makes is not in the heap
    assert holes(large) == 0
