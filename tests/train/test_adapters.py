from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tilth.core.config import Config, Train
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress
from tilth.train import run as run_module
from tilth.train.adapters import FOLDER, check_four_bits
from tilth.train.data import Files, TrainingInputs
from tilth.train.plan import Plan
from tilth.train.results import TrainResult
from tilth.train.run import check_student, run_plan

HAS_BITSANDBYTES = find_spec("bitsandbytes") is not None
KEPT = {"adapter": "lora", "lora": {"rank": 4, "alpha": 8, "dropout": 0, "merge": False}}


def phase(name: str, kind: str, **settings: Any) -> dict[str, Any]:
    given = {"epochs": 1, "learning_rate": 5e-3, "batch_size": 4, "micro_batch_size": 4, **settings}
    return {"name": name, "kinds": [kind], **given}


@pytest.fixture
def said() -> list[str]:
    """What training has said."""
    return []


@pytest.fixture
def train(student: Path, make: Any, tmp_path: Path, said: list[str]) -> Any:
    progress = SilentProgress()
    progress.say = said.append
    new = make.file(tmp_path / "new.jsonl", make.samples(10), make.samples(6, kind="knowledge_long", leaf="b"))

    def run(*phases: dict[str, Any], out: str = "out") -> TrainResult:
        return run_plan(
            Plan.model_validate({"phases": phases}),
            TrainingInputs(student, Files([new])),
            out=tmp_path / out,
            config=Config(train=Train(checkpoint_every_s=1e9)),
            progress=progress,
        )

    return run


def weights(model: Path, name: str = "model.safetensors") -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(model / name)


@pytest.mark.slow
def test_a_kept_adapter_is_beside_a_model_that_has_it(train: Any, student: Path) -> None:
    import torch

    result = train(phase("p", "knowledge_short", **KEPT))
    assert sorted(path.name for path in (result.model / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    adapter = weights(result.model, "adapter/adapter_model.safetensors")
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.weight"
    delta = adapter[name.format("B")] @ adapter[name.format("A")] * (8 / 4)
    before, after = (weights(model)["model.layers.0.mlp.up_proj.weight"] for model in (student, result.model))
    torch.testing.assert_close(after, before + delta)


@pytest.mark.slow
def test_the_next_phase_of_the_same_shape_goes_on_with_the_adapter(train: Any, student: Path, said: list[str]) -> None:
    """All that both phases learned is one adapter of rank 4; with a new one for the second it would be one of 8."""
    import torch

    def rank_of_change(out: str, **second: Any) -> int:
        result = train(phase("one", "knowledge_short", **KEPT), phase("two", "knowledge_long", **second), out=out)
        name = "model.layers.0.mlp.up_proj.weight"
        change = weights(result.model)[name] - weights(student)[name]
        return int((torch.linalg.svdvals(change) > 1e-5).sum())

    assert rank_of_change("same", **KEPT) == 4
    assert not any("a new adapter" in line for line in said)
    assert rank_of_change("other", **KEPT | {"lora": {"rank": 3, "alpha": 8, "dropout": 0}}) == 7
    assert any("a new adapter" in line for line in said)


@pytest.mark.slow
def test_going_on_starts_where_the_phase_before_ended(train: Any) -> None:
    second = phase("two", "knowledge_long", **{**KEPT, "learning_rate": 1e-8, "epochs": 1})
    one = train(phase("one", "knowledge_short", **KEPT), out="one")
    two = train(phase("one", "knowledge_short", **KEPT), second, out="two")
    for name, tensor in weights(one.model).items():
        assert (weights(two.model)[name] - tensor).abs().max() < 1e-6
    assert one.phases[0].weights_sha256 == two.phases[0].weights_sha256 != two.phases[1].weights_sha256


def test_weights_of_4_bits_cannot_be_gone_on_with_under_a_kept_adapter() -> None:
    phases = [phase("one", "knowledge_short", **KEPT), phase("two", "knowledge_long", **KEPT | {"adapter": "qlora"})]
    with pytest.raises(ValidationError, match=r"'two' cannot go on with the adapter of 'one'.*merge: true"):
        Plan.model_validate({"phases": phases})


def test_a_student_whose_adapter_would_be_gone_on_with_is_no_reference(student: Path, tmp_path: Path) -> None:
    def plan(**settings: Any) -> Plan:
        rollout = {"beta": 0.1, "rewards": [{"answer": "exact"}]} | settings.pop("rollout", {})
        return Plan.model_validate({"phases": [phase("p", "skill", method="grpo", rollout=rollout, **settings)]})

    adapted = shutil.copytree(student, tmp_path / "adapted")
    (adapted / FOLDER).mkdir()
    with pytest.raises(ModelError, match=r"^phase 'p': rollout.beta holds it to its parent, .* or `beta: 0`$"):
        check_student(plan(adapter="lora"), adapted)
    for allowed, parent in ((plan(), adapted), (plan(adapter="lora"), student)):
        check_student(allowed, parent)
    check_student(plan(adapter="lora", rollout={"beta": 0}), adapted)


def test_without_bitsandbytes_qlora_is_refused_in_a_line(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "find_spec", lambda name: None if name == "bitsandbytes" else find_spec(name))
    with pytest.raises(ModelError, match=r"`adapter: qlora` needs the package bitsandbytes; run .* or set `adapt"):
        train(phase("p", "knowledge_short", adapter="qlora"))


@pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not installed")
def test_a_bitsandbytes_for_other_machines_is_refused_before_anything_is_trained(
    train: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from bitsandbytes import functional

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel image\nis available")

    check_four_bits()
    monkeypatch.setattr(functional, "quantize_4bit", broken)
    phases = [phase("p", "knowledge_short"), phase("q", "knowledge_long", adapter="qlora")]
    with pytest.raises(
        ModelError, match=r"^bitsandbytes cannot hold .* \(RuntimeError: no kernel image\); set `adapter"
    ):
        train(*phases)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not installed")
def test_qlora_trains_in_4_bits_and_is_merged_into_the_weights_that_those_were_made_from(
    train: Any, student: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    result = train(phase("p", "knowledge_short", **{**KEPT, "adapter": "qlora", "epochs": 8}))
    assert capfd.readouterr() == ("", "")
    log = (tmp_path / "out" / "01-p" / "metrics.jsonl").read_text().splitlines()
    losses = [float(line.split('"loss":')[1].split(",")[0]) for line in log]
    assert losses[-1] < losses[0] - 0.2
    before, after = weights(student), weights(result.model)
    assert before.keys() == after.keys()
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    assert {name for name in before if not before[name].equal(after[name])} == {
        name for name in before if "proj" in name
    }
    adapter = weights(result.model, "adapter/adapter_model.safetensors")
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}
    for name in ("config.json", "generation_config.json"):
        assert (result.model / name).read_text() == (student / name).read_text(), name
    assert not hasattr(AutoModelForCausalLM.from_pretrained(result.model), "hf_quantizer")


@pytest.mark.slow
@pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not installed")
def test_qlora_is_the_same_every_time(train: Any) -> None:
    job = phase("p", "knowledge_short", **{**KEPT, "adapter": "qlora"})
    assert train(job, out="one").phases[0].weights_sha256 == train(job, out="two").phases[0].weights_sha256


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "own"),
    [
        ("Mixtral", {"num_local_experts": 2}),
        ("Qwen3Moe", {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 24, "head_dim": 8}),
    ],
)
def test_of_a_mixture_of_experts_what_is_outside_them_is_adapted(
    family: str, own: dict[str, Any], student: Path, make: Any, tmp_path: Path
) -> None:
    """peft would adapt the experts as well, and neither dropout nor merging can be had of that."""
    import torch
    import transformers
    from tilth.train.load import load_model
    from tilth.train.masking import load_tokenizer

    tokenizer, folder = load_tokenizer(student), tmp_path / "mixture"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=512, **sizes, **own, **ends
    )
    torch.manual_seed(0)
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    new = make.file(tmp_path / "new.jsonl", make.samples(8))
    lora = phase("p", "knowledge_short", adapter="lora", lora={"rank": 4})
    plan, where = Plan.model_validate({"phases": [lora]}), tmp_path / "out"
    result = run_plan(plan, TrainingInputs(folder, Files([new])), out=where, config=Config(), progress=SilentProgress())
    before, after = weights(folder), weights(result.model)
    assert before.keys() == after.keys()
    changed = {name.split(".", 3)[3] for name in before if not before[name].equal(after[name])}
    assert changed == {f"self_attn.{part}_proj.weight" for part in "qkvo"}
    load_model(result.model)
