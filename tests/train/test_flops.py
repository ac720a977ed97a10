from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tilth.train import flops
from tilth.train.flops import peak_flops, shape, step_flops
from tilth.train.load import load_model, load_trained
from tilth.train.plan import Phase

BEFORE_MLP = [*(f"self_attn.{name}_proj" for name in "qkvo"), "mlp.gate_proj", "mlp.up_proj"]


def test_a_step_needs_what_torch_counts_but_the_half_of_attention_that_looks_ahead(student: Path) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = load_model(student)
    model.set_attn_implementation("eager")
    size = shape(model, whole=True)
    assert size.head == 32 * model.config.vocab_size
    assert size.attention == 2 * 32
    with FlopCounterMode(display=False) as counter:
        model(torch.ones(1, 24, dtype=torch.long), use_cache=False).logits.sum().backward()
    full_attention = 2 * 3 * 2 * size.attention * 24**2
    needed = step_flops(size, tokens=24, trained=24, squares=24**2)
    assert counter.get_total_flops() == needed + full_attention / 2


def test_with_mlps_trained_only_a_step_needs_what_torch_counts(student: Path) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    phase = Phase(name="p", kinds=("skill",), trainable="mlp")
    model = load_trained(student, phase)
    model.set_attn_implementation("eager")
    size = shape(model, whole=True)
    with FlopCounterMode(display=False) as counter:
        model(torch.ones(1, 24, dtype=torch.long), use_cache=False).logits.sum().backward()
    full_attention = 3 * 2 * size.attention * 24**2
    first = model.model.layers[0]  # nothing before its MLP is trained, so that nothing goes back there
    spared = sum(2 * 24 * first.get_parameter(f"{name}.weight").numel() for name in BEFORE_MLP)
    spared += 2 * (2 * 2 * 32 * 24**2)
    assert counter.get_total_flops() == step_flops(size, tokens=24, trained=24, squares=24**2) + full_attention - spared
    assert (size.trained_body, size.trained_head) == (2 * 3 * 32 * 64, 0)


def test_frozen_matrices_and_untrained_tokens_need_less(student: Path) -> None:
    model = load_model(student)
    whole, frozen = (shape(model, whole=whole) for whole in (True, False))
    assert step_flops(frozen, tokens=9, trained=4, squares=0) * 3 == 2 * step_flops(
        whole, tokens=9, trained=4, squares=0
    )
    more = step_flops(whole, tokens=9, trained=5, squares=0) - step_flops(whole, tokens=9, trained=4, squares=0)
    assert more == 6 * whole.head


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_weights_in_four_bits_count_as_what_they_stand_for(student: Path) -> None:
    packed = load_model(student, "qlora")
    assert packed.model.layers[0].mlp.up_proj.weight.numel() == 64 * 32 / 2
    assert shape(packed, whole=False) == shape(load_model(student), whole=False)


def test_the_peak_is_measured_once() -> None:
    assert peak_flops() == peak_flops() > 1e8


def test_the_peak_is_that_of_numbers_as_a_model_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "_SIDE", {"cpu": 32})
    seen: list[Any] = []
    monkeypatch.setattr(flops, "_seconds", lambda left, _: seen.append(left) or 1.0)
    for _ in range(2):
        peak_flops.__wrapped__()
    assert seen[0].equal(seen[-1])
    assert seen[0] is not seen[-1]
    assert len(seen[0].unique()) > 100
    assert abs(seen[0].float().mean()) < 0.2
