from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.errors import CheckFailed, DataError
from tilth.core.records import Message, Preference
from tilth.train import trainer as trainer_module
from tilth.train.auto import Resolved
from tilth.train.data import Pool, TrainingPair, of_origin
from tilth.train.load import load_model
from tilth.train.masking import load_tokenizer
from tilth.train.methods import preference
from tilth.train.methods.pairs import PairTokens, rows
from tilth.train.methods.preference import mismatched
from tilth.train.methods.setup import Setup
from tilth.train.methods.table import METHODS
from tilth.train.metrics import Step
from tilth.train.mix import Ready, Skipped, Student, make_mixes
from tilth.train.order import epoch_order
from tilth.train.plan import MethodName, Phase, Plan
from tilth.train.reward_model import new_reward_model
from tilth.train.trainer import Watch

PAIRWISE: tuple[MethodName, ...] = ("dpo", "kto", "reward")


@pytest.fixture
def pairs(make: SimpleNamespace) -> list[TrainingPair]:
    """Seven, of different lengths."""
    told = [
        make.pair(f"What is {i}?", "It is " + "so " * (i % 3) + f"{i}.", "No" + " idea" * (i % 4)) for i in range(7)
    ]
    return [as_new(pair) for pair in told]


def as_new(pair: Preference) -> TrainingPair:
    found = of_origin(pair, "new")
    assert isinstance(found, TrainingPair)
    return found


def build(
    method: MethodName, student: Path, pairs: Sequence[TrainingPair], folder: Path, **settings: Any
) -> tuple[Any, list[Step]]:
    """A trainer on the pairs, and the list that its steps go to."""
    given: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 8, "micro_batch_size": 4, **settings}
    steps: list[Step] = []
    tokenizer = load_tokenizer(student)
    setup = Setup(
        phase=Resolved(name="p", method=method, kinds=("preference",), max_length=256, **given),
        parent=student,
        models={},
        tokenizer=tokenizer,
        rows=METHODS[method].rows(tokenizer, pairs, ""),
        validation=METHODS[method].rows(tokenizer, pairs[:3], ""),
        checkpoints=folder,
        seed=1,
        config=Config(),
        watch=Watch(steps.append, 1e9),
    )
    return METHODS[method].trainer(setup), steps


def test_a_pair_is_two_conversations_with_one_prompt(student: Path, make: SimpleNamespace) -> None:
    tokenizer = load_tokenizer(student)
    (row,) = rows(tokenizer, [as_new(make.pair("How old?", "Nine years.", "No idea."))], "Be kind.")
    prompt = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHow old?<|im_end|>\n<|im_start|>assistant\n"
    told = [tokenizer.decode(ids) for ids in (row.prompt_ids, row.chosen_ids, row.rejected_ids)]
    assert told == [prompt, "Nine years.<|im_end|>", "No idea.<|im_end|>"]
    assert row.length == len(row.prompt_ids) + max(len(row.chosen_ids), len(row.rejected_ids))
    assert (row.tokens, row.trained) == (
        sum(map(len, row.ids())) + len(row.prompt_ids),
        len(row.chosen_ids) + len(row.rejected_ids),
    )


def test_a_token_that_reaches_from_the_prompt_into_an_answer_goes_with_the_answers(make: SimpleNamespace) -> None:
    tokenizer = make.tokenizer(make.chatml, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>", trained_on="a\n\n\nb" * 9)
    (row,) = rows(tokenizer, [as_new(make.pair("How old?", "\n\nNine.", "No idea."))], "")
    told = [tokenizer.decode(row.prompt_ids + answer) for answer in (row.chosen_ids, row.rejected_ids)]
    prompt = "<|im_start|>user\nHow old?<|im_end|>\n<|im_start|>assistant"
    assert told == [f"{prompt}\n\n\nNine.<|im_end|>", f"{prompt}\nNo idea.<|im_end|>"]
    assert tokenizer.decode(row.prompt_ids) == prompt


def test_an_answer_of_several_messages_is_refused(student: Path, make: SimpleNamespace) -> None:
    pair = as_new(make.pair("How old?", "Nine.", "No idea."))
    more = pair.model_copy(update={"chosen": (*pair.chosen, Message(role="user", content="Sure?"))})
    with pytest.raises(DataError, match=f"pair {pair.id}: an answer of a pair is one message"):
        rows(load_tokenizer(student), [more], "")


def test_pairs_that_are_too_long_are_dropped_and_counted(student: Path, make: SimpleNamespace, tmp_path: Path) -> None:
    pool = Pool([*(make.pair(f"{i}?", "Yes.", "No.") for i in range(9)), make.pair("Why?", "So.", "No " * 50)])
    phase = Phase(
        name="p", method="dpo", kinds=("preference",), max_length=90, too_long={"lost_share": 0.9}, batch_size=4
    )
    (ready,) = make_mixes(Plan(phases=(phase,)), pool, Student(load_tokenizer(student), 1, 256), [tmp_path], Config())
    assert isinstance(ready, Ready)
    assert (ready.mix.total.samples, ready.mix.too_long.samples, ready.mix.steps) == (9, 1, 30)


def test_prompts_are_mismatched_with_the_answers_to_the_next_one() -> None:
    pairs = [PairTokens([1, 2], [3], [4, 5]), PairTokens([6], [7, 8, 9], [7]), PairTokens([1, 1, 1, 1], [2], [2])]
    assert mismatched(pairs) == [
        PairTokens([1, 2], [7, 8, 9], [7]),
        PairTokens([6], [2], [2]),
        PairTokens([1, 1, 1, 1], [3], [4]),  # none is longer than the longest
    ]
    with pytest.raises(DataError, match=r"kto: there is one pair, .*have more pairs made, or use `method: dpo`"):
        mismatched(pairs[:1])


@pytest.mark.parametrize("method", PAIRWISE)
@pytest.mark.slow
def test_the_ids_that_reach_the_model_are_ours_in_the_order_of_the_epoch(
    method: MethodName, student: Path, pairs: list[TrainingPair], tmp_path: Path
) -> None:
    trainer, _ = build(method, student, pairs, tmp_path, batch_size=4, micro_batch_size=2, epochs=2)
    seen: list[list[int]] = []
    compute_loss = trainer.compute_loss

    def look(model: Any, inputs: dict[str, Any], **more: Any) -> Any:
        for ids, attended in zip(inputs["input_ids"].tolist(), inputs["attention_mask"].tolist(), strict=True):
            assert attended == sorted(attended, reverse=True)
            seen.append(ids[: sum(attended)])
        return compute_loss(model, inputs, **more)

    trainer.compute_loss = look
    trainer.train()
    found = METHODS[method].rows(load_tokenizer(student), pairs, "")
    order = [index for epoch in range(2) for index in epoch_order([row.length for row in found], 4, 1, epoch)]
    expected: list[list[int]] = []
    for start in (0, 2, 4, 6, 7, 9, 11, 13):
        end = min(start + 2, 7 if start < 7 else 14)
        for side in ("chosen_ids", "rejected_ids"):
            for index in order[start:end]:
                prompt = getattr(found[index], "prompt_ids", [])
                expected.append(prompt + getattr(found[index], side))
    assert seen == expected


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for module in (trainer_module, preference):
        monkeypatch.setattr(module, "compute_dtype", lambda: torch.float32)


def answer_logps(model: Any, pairs: Sequence[PairTokens]) -> Any:
    """The log-probabilities of the better answers, then of the worse: one conversation at a time."""
    import torch

    found: list[Any] = []
    for side in ("chosen_ids", "rejected_ids"):
        for pair in pairs:
            answer = torch.tensor(getattr(pair, side))
            ids = torch.tensor([pair.prompt_ids + getattr(pair, side)])
            logps = model(ids).logits[0, len(pair.prompt_ids) - 1 : -1].log_softmax(-1)
            found.append(logps.gather(1, answer[:, None]).sum())
    return torch.stack(found)


def expected_loss(method: MethodName, policy: Any, reference: Any, found: Sequence[Any]) -> Any:
    """Straight from the papers, over all pairs at once."""
    import torch

    if method == "reward":
        sides = ("chosen_ids", "rejected_ids")
        chosen, rejected = (
            torch.cat([policy(torch.tensor([getattr(row, side)])).logits[:, 0] for row in found]) for side in sides
        )
        return -torch.log(torch.sigmoid(chosen - rejected)).mean()

    def ratios(rows: Sequence[PairTokens]) -> Any:
        with torch.no_grad():
            known = answer_logps(reference, rows)
        return answer_logps(policy, rows) - known

    chosen, rejected = ratios(found).chunk(2)
    if method == "dpo":
        return -torch.log(torch.sigmoid(0.1 * chosen - 0.1 * rejected)).mean()
    kl = ratios(mismatched(found)).mean().detach()
    assert kl > 0
    values = torch.cat([torch.sigmoid(0.1 * (chosen - kl)), torch.sigmoid(0.1 * (kl - rejected))])
    return (1 - values).mean()


SLOW_TOO = [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)]


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("micro_batch_size", SLOW_TOO)
@pytest.mark.parametrize("method", PAIRWISE)
@pytest.mark.slow
def test_the_loss_is_the_papers_mean_over_pairs_however_it_is_accumulated(
    method: MethodName, micro_batch_size: int, student: Path, pairs: list[TrainingPair], tmp_path: Path
) -> None:
    import torch

    trainer, steps = build(
        method, student, pairs, tmp_path, micro_batch_size=micro_batch_size, clip_norm=1e9, learning_rate=1e-9
    )
    move(trainer.model)  # away from the reference, where dpo and kto begin
    policy = copy.deepcopy(trainer.model)
    policy.eval()
    found = METHODS[method].rows(load_tokenizer(student), pairs, "")
    loss = expected_loss(method, policy, load_model(student), found)
    loss.backward()
    gradients = gradients_of(trainer)
    assert steps[0].loss == pytest.approx(loss.item(), rel=1e-4)
    assert (steps[0].tokens, steps[0].trained_tokens) == (
        sum(row.tokens for row in found),
        sum(row.trained for row in found),
    )
    for name, parameter in policy.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("in_float32")
def test_attention_drops_nothing_out(student: Path, pairs: list[TrainingPair], tmp_path: Path) -> None:
    """Else the model would differ from the reference that it begins as; what is saved still says what it dropped."""
    other = tmp_path / "student"
    shutil.copytree(student, other)
    config = json.loads((other / "config.json").read_text()) | {"attention_dropout": 0.5}
    (other / "config.json").write_text(json.dumps(config))
    trainer, steps = build("dpo", other, pairs, tmp_path / "phase")
    trainer.train()
    assert steps[0].loss == pytest.approx(math.log(2), abs=1e-6)
    assert trainer.model.config.attention_dropout == 0.5


def move(model: Any) -> None:
    import torch

    generator = torch.Generator().manual_seed(4)  # by which kto's divergence is above 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)


def gradients_of(trainer: Any) -> dict[str, Any]:
    """What the optimizer of a one-step training is given."""
    from transformers import TrainerCallback

    found: dict[str, Any] = {}

    class Look(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found.update({name: p.grad.clone() for name, p in kwargs["model"].named_parameters() if p.grad is not None})

    trainer.add_callback(Look)
    trainer.train()
    return found


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("method", ["dpo", "kto"])
@pytest.mark.slow
def test_the_loss_is_the_librarys_own(
    method: MethodName, student: Path, pairs: list[TrainingPair], tmp_path: Path
) -> None:
    import torch
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.kto_trainer import KTOTrainer

    trainer, steps = build(method, student, pairs, tmp_path, learning_rate=1e-9)
    move(trainer.model)
    batch = trainer.data_collator(trainer.train_dataset.to_list())
    if method == "kto":  # its own words for the same
        trainer.calculate_KL, trainer.loss_type = True, "kto"
        trainer.desirable_weight = trainer.undesirable_weight = 1.0
        trainer._compute_kl_logps = MethodType(KTOTrainer._compute_kl_logps, trainer)
        others = batch.pop("mismatched")
        batch |= {f"KL_{name}": others[name] for name in ("input_ids", "attention_mask", "completion_mask")}
        batch["label"] = torch.arange(14) < 7
        for prefix, given in (("ref_", batch), ("ref_KL_", others)):
            batch[f"{prefix}logps"] = torch.cat([given.pop(f"ref_{side}_logps") for side in ("chosen", "rejected")])
    library: Any = {"dpo": DPOTrainer, "kto": KTOTrainer}[method]
    with torch.no_grad():
        theirs = library._compute_loss(trainer, trainer.model, batch, return_outputs=False)
    said = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
    trainer.train()
    assert steps[0].loss == pytest.approx(theirs.item(), rel=1e-5)
    for name in steps[0].more.keys() - {"rewards/accuracies"}:
        assert steps[0].more[name] == pytest.approx(said[name], rel=1e-3)


LORA = [("dpo", "lora"), *(pytest.param(method, "lora", marks=pytest.mark.slow) for method in ("kto", "reward"))]


@pytest.mark.parametrize(("method", "adapter"), [*((method, "none") for method in PAIRWISE), *LORA])
@pytest.mark.slow
def test_the_better_answers_rise_above_the_worse(
    method: MethodName, adapter: str, student: Path, pairs: list[TrainingPair], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"adapter": adapter, "epochs": 12, "learning_rate": 3e-3 if adapter == "none" else 1e-2}
    trainer, steps = build(method, student, pairs, tmp_path, batch_size=4, **given)
    trainer.train()
    first, last = steps[0], steps[-1]
    assert last.loss < 0.8 * first.loss
    assert last.more["rewards/margins"] > 0.1 > abs(first.more["rewards/margins"])
    assert last.more["rewards/accuracies"] == 1
    if method != "reward":  # they begin as their reference
        assert first.more["rewards/chosen"] == pytest.approx(0, abs=0.02)
    batch = trainer._prepare_inputs(trainer.data_collator(list(trainer.eval_dataset)))
    count, measured = trainer.measure(batch)
    assert (count, measured["accuracy"]) == (3, 1)
    assert measured["loss"] < 0.9 * first.loss
    trainer.save_result(tmp_path / "model")
    if method != "reward":
        assert (tmp_path / "model" / "config.json").read_text() == (student / "config.json").read_text()


def test_a_new_reward_model_follows_from_the_seed(student: Path) -> None:
    tokenizer = load_tokenizer(student)
    heads = [new_reward_model(student, tokenizer, seed).score.weight.flatten().tolist() for seed in (1, 1, 2)]
    assert heads[0] == heads[1] != heads[2]


def test_a_single_pair_leaves_kto_out_before_anything_trains(make: Any, student: Path, tmp_path: Path) -> None:
    one = Phase(name="p", method="kto", kinds=("preference",), epochs=1)
    first = Phase(name="s", kinds=("knowledge_short",), epochs=1)
    pool = Pool([make.pair("Why?", "So.", "No."), *make.samples(9)])
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder in folders:
        folder.mkdir()
    made = make_mixes(Plan(phases=(first, one)), pool, Student(load_tokenizer(student), 1, 256), folders, Config())
    assert isinstance(made[1], Skipped)
    assert made[1].reason == "there is one pair, and kto compares its prompt with the answers to another"


def test_a_pair_that_alone_is_short_enough_is_refused_by_kto_before_anything_trains(
    make: Any, student: Path, tmp_path: Path
) -> None:
    phase = Phase(name="p", method="kto", kinds=("preference",), epochs=1, max_length=90, too_long={"lost_share": 1.0})
    pool = Pool([make.pair("Why?", "So.", "No."), make.pair("How?", "So " * 50, "No.")])
    with pytest.raises(CheckFailed, match=r"there is one pair, .*; the others have more than 90 tokens"):
        make_mixes(Plan(phases=(phase,)), pool, Student(load_tokenizer(student), 1, 256), [tmp_path], Config())
