"""A student that is to stay like a model learns what that model might have said, not only what it said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tilth.core.errors import DataError
from tilth.core.progress import SilentProgress
from tilth.llm.likely import MOST, NOTHING, Likely
from tilth.train import varlen
from tilth.train.data import OwnSample, of_origin
from tilth.train.load import load_model
from tilth.train.masking import IGNORED, Tokens, load_tokenizer, tokenize
from tilth.train.methods import supervised
from tilth.train.methods.supervised import divergence, rows, with_likely
from tilth.train.self_generated import OwnAnswers

from .test_trainer import build


def likely(*said: int) -> Likely:
    """Of an answer of these tokens, which are next to certain."""
    tokens = [[token, *(other for other in range(100, 100 + MOST - 1))] for token in said]
    return Likely.made_of(tokens, [[-0.0625, *[-8.0] * (MOST - 1)]] * len(said))


def from_logits(logits: Any, likely: Any) -> Any:
    """The divergence of a student with these logits from what `topk` found."""
    return divergence(logits.log_softmax(-1).gather(-1, likely.indices), likely.values)


def test_it_comes_back_out_of_a_line_as_it_was_but_for_rounding() -> None:
    tokens, logs = [[5, *range(MOST - 1)], [70_000, *range(MOST - 1)]], [[-0.1 * place for place in range(MOST)]] * 2
    there = Likely.made_of(tokens, logs)
    assert there.arrays()[0].tolist() == tokens
    assert there.arrays()[1].ravel().tolist() == pytest.approx(logs[0] * 2, rel=1e-3)
    assert there.said == [5, 70_000]
    assert NOTHING.said == []
    with pytest.raises(ValueError, match="whole number"):
        Likely("AAAA").arrays()


def test_the_divergence_of_all_tokens_is_the_library_s_and_nothing_from_oneself() -> None:
    import torch

    torch.manual_seed(0)
    logits, own = torch.randn(4, 400) * 3, torch.randn(4, 400)
    every = logits.log_softmax(-1).topk(400)
    whole = torch.nn.functional.kl_div(own.log_softmax(-1), logits.log_softmax(-1), log_target=True, reduction="sum")
    torch.testing.assert_close(from_logits(own, every), whole)
    some = logits.log_softmax(-1).topk(MOST)
    assert 0.9 * whole < from_logits(own, some) < whole  # what is one sum tells less
    assert abs(float(from_logits(logits, some))) < 1e-5


def test_places_without_a_model_s_words_have_their_cross_entropy() -> None:
    import torch

    torch.manual_seed(0)
    logits, targets = torch.randn(5, 300), torch.tensor([3, IGNORED, 4, 5, IGNORED])
    of_model, said = torch.tensor([False, True, True]), likely(4, 5)
    tokens, logs = (torch.tensor(each.astype(kind)) for each, kind in zip(said.arrays(), ("i8", "f4"), strict=True))
    apart = divergence(logits[2:4].log_softmax(-1).gather(-1, tokens), logs)
    expected = torch.nn.functional.cross_entropy(logits[:1], targets[:1]) + apart
    torch.testing.assert_close(supervised._staying(logits, targets, of_model, tokens, logs), expected)


def test_its_gradient_leads_back_to_the_model() -> None:
    """The tokens that are not among the likeliest are pushed down together, not forgotten."""
    import torch

    torch.manual_seed(0)
    logits = torch.randn(3, 300) * 2
    some = logits.log_softmax(-1).topk(MOST)
    own = torch.randn(3, 300, requires_grad=True)
    optimizer = torch.optim.Adam([own], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        from_logits(own, some).backward()
        optimizer.step()
    there = own.detach().log_softmax(-1)
    torch.testing.assert_close(there.gather(-1, some.indices).exp(), some.values.exp(), atol=0.002, rtol=0)


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
    assert batch["likely_tokens"].tolist() == likely(6, 7).arrays()[0].tolist()
    assert "of_model" not in with_likely(varlen.join)([plain.columns()])


def test_an_answer_that_was_damaged_is_told_and_one_of_another_version_is_not_used(
    student: Path, make: Any, tmp_path: Path
) -> None:
    file = tmp_path / "own.jsonl"
    own = OwnAnswers(student, load_tokenizer(student), "", file, 8, lambda _: True, SilentProgress())
    other = json.dumps({"prompt": "p", "answer": "a", "likely": "AAAA"}) + "\n"
    file.write_text(other)
    own(make.samples(1))
    [answer] = [line for line in map(json.loads, file.read_text().splitlines()) if line["prompt"] != "p"]
    file.write_text(other + json.dumps(answer | {"likely": answer["likely"][4:]}) + "\n")
    with pytest.raises(DataError, match="whole number of places") as told:
        own(make.samples(1))
    assert str(file) in str(told.value)


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
        found.append(row.staying_like(Likely.made_of(tokens, of_tokens)))
    assert all(row.likely.text for row in found)
    return found


def without(rows: list[Tokens]) -> list[Tokens]:
    return [Tokens(row.input_ids, row.labels) for row in rows]


@pytest.mark.parametrize("joined", [True, False], ids=["joined", "padded"])
@pytest.mark.slow
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


@pytest.mark.slow
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
    given = OwnSample.model_validate(dict(sample) | {"likely": said.text})
    of_phase = [item for item in (of_origin(given, "general"), of_origin(sample, "new")) if item.kind != "preference"]
    assert rows(tokenizer, of_phase, "") == [row.staying_like(said), row]
