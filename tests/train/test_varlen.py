from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from tilth.train import varlen
from tilth.train.load import load_model
from tilth.train.noise import Noise


def rows(*lengths: int) -> list[dict[str, list[int]]]:
    """Rows of these lengths, all of whose tokens are labelled."""
    tokens = iter(range(10, 200))
    ids = [[next(tokens) for _ in range(length)] for length in lengths]
    return [{"input_ids": row, "labels": row} for row in ids]


def small(name: str, **more: Any) -> Any:
    """A random model of some architecture."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    if name == "OPT":
        more |= {"ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0}
    config = getattr(transformers, f"{name}Config")(vocab_size=256, num_key_value_heads=2, **sizes, **more)
    return getattr(transformers, f"{name}ForCausalLM")(config)


def test_joined_rows_say_where_each_begins() -> None:
    batch = varlen.join([{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}, {"input_ids": [4, 5], "labels": [4, 5]}])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5]]
    assert batch["labels"].tolist() == [[-100, 2, 3, -100, 5]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 3, 5]
    assert batch["max_length_q"] == 3


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("Llama", {}),
        ("Mistral", {"sliding_window": 5}),
        ("Qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
        ("Granite", {}),
        ("Nemotron", {}),  # its layers do not pass on where rows begin
        ("Phi3", {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}),
        ("OPT", {}),  # it calls what is within its base model
        ("ModernBertDecoder", {"pad_token_id": 0}),  # what it calls its decoder is its head
    ],
)
def test_a_joined_row_computes_what_each_of_its_rows_would(name: str, more: dict[str, Any]) -> None:
    import torch

    model, some = small(name, **more), rows(3, 11, 1, 7)
    alone = torch.cat([model(torch.tensor([row["input_ids"]])).logits[0] for row in some])
    alone.square().sum().backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    assert varlen.join_rows_in(model)
    batch = varlen.join(some)
    del batch["labels"]
    together = model(**batch, use_cache=False).logits[0]
    torch.testing.assert_close(together, alone)
    together.square().sum().backward()
    for weights, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[weights], rtol=1e-4, atol=1e-5)


def test_in_bfloat16_short_rows_attend_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long one as everything else does; what they give goes on in bfloat16, and so do the gradients."""
    import torch

    model, seen = small("Llama"), list[tuple[int, torch.dtype]]()
    assert varlen.join_rows_in(model)
    whole = torch.nn.functional.scaled_dot_product_attention

    def product(query: Any, *given: Any, **named: Any) -> Any:
        made = whole(query, *given, **named)
        seen.append((query.shape[2], made.dtype))
        return made

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", product)
    ids = [[10 + place % 200 for place in range(length)] for length in (7, varlen.FASTER_IN_FLOAT32 + 1)]
    batch = varlen.join([{"input_ids": row, "labels": row} for row in ids])
    del batch["labels"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(**batch, use_cache=False).logits
        found.float().square().sum().backward()
    assert {dtype for length, dtype in seen if length <= 7} == {torch.float32}
    assert {dtype for length, dtype in seen if length > 7} == {torch.bfloat16}
    assert found.dtype == torch.bfloat16
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_what_rows_begin_with_stands_there_once() -> None:
    ids = [[1, 2, 3, 4, 5], [1, 2, 3, 6]]
    batch = varlen.join([{"input_ids": row, "labels": [-100, -100, *row[2:]]} for row in ids])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 2, 3, 6]]  # the third is trained, so the second predicts it
    assert batch["labels"].tolist() == [[-100, -100, 3, 4, 5, -100, 3, 6]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 1, 2, 3]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 1, 5, 8]
    assert varlen.row_lengths(batch) == [5, 4]
    assert varlen.spared(batch) == (1, 1)


@pytest.mark.parametrize(
    "some",
    [
        pytest.param([[1, 2, 3]], id="one row"),
        pytest.param([[1, 2, 3], [4, 2, 3]], id="nothing alike"),
        pytest.param([[1, 2, 3], [1, 4, 5]], id="one token, which predicts"),
    ],
)
def test_rows_without_a_beginning_in_common_share_nothing(some: list[list[int]]) -> None:
    batch = varlen.join([{"input_ids": row, "labels": [-100] * len(row)} for row in some])
    assert batch["input_ids"].tolist() == [[token for row in some for token in row]]
    assert varlen.spared(batch) == (0, 0)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("Llama", {}),
        ("Mistral", {"sliding_window": 5}),
        ("Qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
        ("Nemotron", {}),
        ("OPT", {}),
    ],
)
@pytest.mark.parametrize("recompute", [False, True])
def test_sharing_a_beginning_changes_no_gradient(name: str, more: dict[str, Any], recompute: bool) -> None:
    import torch

    model, beginning = small(name, **more), [5, 6, 7, 8, 9, 10]
    rows = [[*beginning, 11, 12], [*beginning, *range(13, 20)], [*beginning, 11]]
    labelled = [{"input_ids": row, "labels": [*[-100] * 6, *row[6:]]} for row in rows]

    def learn(batch: dict[str, Any]) -> Any:
        targets = batch.pop("labels")[0, 1:]
        logits = model(**batch, use_cache=False).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
        loss.backward()
        return loss.detach()

    alone = sum(learn({key: torch.tensor([value]) for key, value in row.items()}) for row in labelled)
    expected = {weights: parameter.grad for weights, parameter in model.named_parameters()}
    model.zero_grad()
    assert varlen.join_rows_in(model)
    if recompute:
        model.train().activation_checkpointing_enable({"use_reentrant": False})
    batch = varlen.join(labelled)
    assert varlen.shared_in(batch) == 5
    torch.testing.assert_close(learn(batch), alone)
    for weights, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[weights], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["Llama", "Nemotron", "OPT"])
def test_rows_under_an_adapter_do_not_see_one_another(name: str) -> None:
    import peft

    model = small(name).eval()
    assert varlen.join_rows_in(model)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    seen: list[Any] = []
    for first in ([11, 12, 13], [15, 15, 15]):
        batch = varlen.join([{"input_ids": row, "labels": row} for row in (first, [7, 8, 9])])
        del batch["labels"]
        seen.append(adapted(**batch, use_cache=False).logits[0, 3:])
    assert (seen[0] == seen[1]).all()


def test_a_padded_batch_is_still_one(student: Path) -> None:
    import torch

    model = load_model(student)
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    before = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    assert varlen.join_rows_in(model)
    torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits[mask.bool()], before)


def test_attention_of_another_kind_is_left_as_it_is() -> None:
    capped = small("Gemma2", head_dim=8, attn_logit_softcapping=50.0)
    before = capped.config._attn_implementation
    assert not varlen.join_rows_in(capped)
    assert capped.config._attn_implementation == before
    import transformers

    config = transformers.BloomConfig(hidden_size=32, n_layer=1, n_head=2, vocab_size=64)  # positions by a bias
    assert not varlen.join_rows_in(transformers.BloomForCausalLM(config))


@pytest.mark.parametrize("name", ["Gemma2", "GptOss"])
def test_pieces_of_a_row_do_not_see_one_another_or_the_model_is_not_packed_for(name: str) -> None:
    """By the masks that transformers makes of positions, where rows cannot be joined."""
    import torch

    of = {"Gemma2": {}, "GptOss": {"num_local_experts": 2, "num_experts_per_tok": 1}}[name]
    model = small(name, head_dim=8, **of).eval()
    assert not varlen.can_join_rows_in(type(model), model.config)
    seen: list[Any] = []
    for first in ([11, 12, 13], [15, 15, 15]):
        places = torch.tensor([[0, 1, 2, 0, 1, 2]])
        seen.append(model(torch.tensor([[*first, 7, 8, 9]]), position_ids=places, use_cache=False).logits[0, 3:])
    assert torch.allclose(*seen) == varlen.keeps_pieces_apart(type(model), model.config)


@pytest.mark.parametrize("window", [None, 4])
def test_the_kernel_is_asked_for_what_the_products_by_row_are(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs on GPUs only; here stands one beside it that reads the same arguments by their meaning."""
    import torch
    from torch.nn.attention import varlen as kernels

    signature, seen = inspect.signature(kernels.varlen_attn), {}

    def kernel(*args: Any, **given: Any) -> Any:
        call = signature.bind(*args, **given).arguments
        seen.update(call)
        back, forward = call["window_size"]
        parts = []
        for begin, end in zip(call["cu_seq_q"][:-1], call["cu_seq_q"][1:], strict=True):
            query, key, value = (call[name][begin:end].transpose(0, 1) for name in ("query", "key", "value"))
            places = torch.arange(int(end - begin))
            apart = places[:, None] - places[None, :]
            sees = (apart >= -forward) & (apart <= (back if back >= 0 else int(end)))
            attended = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=sees, scale=call["scale"], enable_gqa=call["enable_gqa"]
            )
            parts.append(attended.transpose(0, 1))
        return torch.cat(parts)

    monkeypatch.setattr(kernels, "varlen_attn", kernel)
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 12, 8) for heads in (4, 2, 2))
    module = small("Llama").model.layers[0].self_attn
    given = {"scaling": 0.3, "sliding_window": window, "max_length_q": 7}
    starts = torch.tensor([0, 7, 12], dtype=torch.int32)
    varlen._note(None, (), {"cu_seq_lens_q": starts, "max_length_q": 7})
    expected, _ = varlen.attend(module, query, key, value, None, **given)
    varlen._note(None, (), {})
    torch.testing.assert_close(varlen.by_kernel(query, key, value, starts, **given), expected)
    assert (seen["max_q"], seen["max_k"], seen["cu_seq_k"] is starts) == (7, 7, True)


def test_noise_is_bounded_by_the_length_of_each_row(student: Path) -> None:
    model = load_model(student).train()
    Noise(5.0).add_to(model)
    noisy: list[Any] = []
    model.get_input_embeddings().register_forward_hook(lambda _module, _given, output: noisy.append(output.detach()))
    batch = varlen.join(rows(4, 100))
    del batch["labels"]
    varlen.join_rows_in(model)
    model(**batch, use_cache=False)
    plain = model.get_input_embeddings().weight[batch["input_ids"][0]].detach()
    for part, length in zip((noisy[0][0] - plain).split([4, 100]), (4, 100), strict=True):
        most = 5.0 / (length * 32) ** 0.5
        assert 0.9 * most < float(part.abs().max()) <= most * 1.001
    alike = varlen.join([{"input_ids": [*range(50), end, end], "labels": [-100] * 52} for end in (60, 61)])
    del alike["labels"]
    model(**alike, use_cache=False)
    part = noisy.pop()[0] - model.get_input_embeddings().weight[alike["input_ids"][0]].detach()
    assert len(part) == 49 + 2 * 3
    assert float(part.abs().max()) <= 5.0 / (52 * 32) ** 0.5 * 1.001
    model.eval()
    model(**batch, use_cache=False)
    assert (noisy[1][0] == plain).all()
