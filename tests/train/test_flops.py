from __future__ import annotations

from pathlib import Path

from tilth.train.flops import peak_flops, shape, step_flops
from tilth.train.load import load_model


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


def test_frozen_matrices_and_untrained_tokens_need_less(student: Path) -> None:
    model = load_model(student)
    whole, frozen = (shape(model, whole=whole) for whole in (True, False))
    assert step_flops(frozen, tokens=9, trained=4, squares=0) * 3 == 2 * step_flops(
        whole, tokens=9, trained=4, squares=0
    )
    more = step_flops(whole, tokens=9, trained=5, squares=0) - step_flops(whole, tokens=9, trained=4, squares=0)
    assert more == 6 * whole.head


def test_the_peak_is_measured_once() -> None:
    assert peak_flops() == peak_flops() > 1e8
