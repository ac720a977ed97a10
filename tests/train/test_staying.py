"""A student that is to stay like a model learns what that model might have said, not only what it said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tilth.llm.likely import MOST, NOTHING, Likely
from tilth.train import varlen
from tilth.train.data import OwnSample, of_origin
from tilth.train.load import load_model
from tilth.train.masking import IGNORED, Tokens, load_tokenizer, tokenize
from tilth.train.methods.supervised import divergence, rows, with_likely

from .test_trainer import build


def likely(*said: int) -> Likely:
    """Of an answer of these tokens, which are next to certain."""
    tokens = [[token, *(other for other in range(100, 100 + MOST - 1))] for token in said]
    return Likely(tokens, [[-0.0625, *[-8.0] * (MOST - 1)]] * len(said))


def test_it_comes_back_out_of_a_line_as_it_was_but_for_rounding() -> None:
    there = Likely.of(likely(5, 70_000).text())
    assert there == likely(5, 70_000)
    assert there.said == [5, 70_000]
    assert Likely.of(NOTHING.text()) == NOTHING
    with pytest.raises(ValueError, match="whole number"):
        Likely.of("AAAA")


def test_the_divergence_of_all_tokens_is_the_library_s_and_nothing_from_oneself() -> None:
    import torch

    torch.manual_seed(0)
    logits, own = torch.randn(4, 50) * 3, torch.randn(4, 50)
    every = logits.log_softmax(-1).topk(50)
    whole = torch.nn.functional.kl_div(own.log_softmax(-1), logits.log_softmax(-1), log_target=True, reduction="sum")
    torch.testing.assert_close(divergence(own, every.indices, every.values), whole)
    some = logits.log_softmax(-1).topk(MOST)
    assert 0.9 * whole < divergence(own, some.indices, some.values) < whole  # what is one sum tells less
    assert abs(float(divergence(logits, some.indices, some.values))) < 1e-5


def test_its_gradient_leads_back_to_the_model() -> None:
    """The tokens that are not among the likeliest are pushed down together, not forgotten."""
    import torch

    torch.manual_seed(0)
    logits = torch.randn(3, 40) * 2
    some = logits.log_softmax(-1).topk(MOST)
    own = torch.randn(3, 40, requires_grad=True)
    optimizer = torch.optim.Adam([own], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        divergence(own, some.indices, some.values).backward()
        optimizer.step()
    there = own.detach().log_softmax(-1)
    torch.testing.assert_close(there.gather(-1, some.indices), some.values, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("said", "trained", "kept"),
    [
        pytest.param([3, 4], [3, 4], True, id="the answer"),
        pytest.param([3, 4], [9, 3, 4], True, id="an earlier answer is trained as it stands"),
        pytest.param([3, 5], [3, 4], False, id="other tokens"),
        pytest.param([9, 3, 4], [3, 4], False, id="more tokens"),
    ],
)
def test_it_is_used_where_the_trained_tokens_are_what_was_said(said: list[int], trained: list[int], kept: bool) -> None:
    row = Tokens([1, 2, *trained], [IGNORED, IGNORED, *trained]).staying_like(likely(*said))
    assert row.likely == (likely(*said) if kept else NOTHING)


def test_a_row_that_is_cut_keeps_what_is_likely_of_the_rest() -> None:
    row = Tokens([1, 2, 3, 4, 5], [IGNORED, 2, 3, 4, 5]).staying_like(likely(3, 4, 5))
    assert row.cut(4).likely == likely(3, 4)
    assert row.cut(2).likely == NOTHING


def test_a_batch_says_of_each_trained_token_whether_a_model_said_it() -> None:
    plain = Tokens([1, 2, 3, 4], [IGNORED, IGNORED, 3, 4])
    of_model = Tokens([1, 2, 5, 6, 7], [IGNORED, IGNORED, 5, 6, 7]).staying_like(likely(6, 7))
    batch = with_likely(varlen.join)([row.columns() for row in (plain, of_model)])
    assert batch["of_model"].tolist() == [False, False, False, True, True]
    assert batch["labels"][batch["labels"] != IGNORED].tolist() == [3, 4, 5, 6, 7]
    assert batch["likely_tokens"].tolist() == likely(6, 7).tokens
    assert "of_model" not in with_likely(varlen.join)([plain.columns()])


@pytest.fixture
def own(student: Path, make: Any) -> list[Tokens]:
    """Conversations of which the student's own probabilities are known: of the tokens that stand there, and others."""
    import torch

    model, found = load_model(student).eval(), []
    for row in tokenize(load_tokenizer(student), make.samples(12), ""):
        with torch.inference_mode():
            logs = model(torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
        tokens, of_tokens = [], []
        for place in row.places:
            label = row.labels[place]
            others = [token for token in logs[place - 1].topk(MOST).indices.tolist() if token != label]
            tokens.append([label, *others[: MOST - 1]])
            of_tokens.append(logs[place - 1][tokens[-1]].tolist())
        found.append(row.staying_like(Likely(tokens, of_tokens)))
    assert all(row.likely.tokens for row in found)
    return found


def without(rows: list[Tokens]) -> list[Tokens]:
    return [Tokens(row.input_ids, row.labels) for row in rows]


@pytest.mark.parametrize("joined", [True, False], ids=["joined", "padded"])
def test_a_model_that_learns_what_it_says_itself_has_nothing_to_learn(
    student: Path, own: list[Tokens], tmp_path: Path, joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not joined:
        monkeypatch.setattr(varlen, "join_rows_in", lambda _model: False)
    losses = []
    for some in (own, without(own)):
        learning, _ = build(student, some, tmp_path, batch_size=4, micro_batch_size=4)
        batch = learning.data_collator([learning.train_dataset[index] for index in range(4)])
        [inputs], count = learning.get_batch_samples(iter([batch]), 1, learning.args.device)
        losses.append(learning.compute_loss(learning.model.eval(), inputs, num_items_in_batch=count).item())
    assert abs(losses[0]) < 1e-5
    assert losses[1] > 1


def test_trained_on_its_own_words_a_student_stays_where_it_is(student: Path, own: list[Tokens], tmp_path: Path) -> None:
    """Its probabilities of them are as good as none to learn; the words alone make it surer of them."""
    import torch

    probe, apart = torch.tensor([[token for row in own for token in row.input_ids]]), []
    wanted = load_model(student)(probe).logits.log_softmax(-1).detach()
    for name, some in (("held", own), ("hard", without(own))):
        learning, _ = build(student, some, tmp_path / name, epochs=3, learning_rate=2e-3)
        learning.train()
        there = learning.model.eval()(probe).logits.log_softmax(-1)
        apart.append(torch.nn.functional.kl_div(there, wanted, log_target=True, reduction="sum").item())
    assert apart[0] < 0.3 * apart[1]


def test_a_phase_s_samples_say_what_was_likely(student: Path, make: Any) -> None:
    tokenizer, [sample] = load_tokenizer(student), make.samples(1)
    [row] = tokenize(tokenizer, [sample], "")
    said = likely(*(row.labels[place] for place in row.places))
    given = OwnSample.model_validate(dict(sample) | {"likely": said.text()})
    of_phase = [item for item in (of_origin(given, "general"), of_origin(sample, "new")) if item.kind != "preference"]
    assert rows(tokenizer, of_phase, "") == [row.staying_like(said), row]
