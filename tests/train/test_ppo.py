from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.errors import CheckFailed
from tilth.core.records import Sample
from tilth.train.advantages import advantages, policy_losses, value_losses, whitened
from tilth.train.answering import Answers, draw, judge
from tilth.train.auto import Resolved
from tilth.train.data import TrainingSample, of_origin
from tilth.train.load import load_model
from tilth.train.masking import load_tokenizer
from tilth.train.methods import ppo, prompts
from tilth.train.methods.setup import Setup
from tilth.train.metrics import Step
from tilth.train.rewards import Answered, Earned, Rewards
from tilth.train.settings import Ppo, Reward, Rollout
from tilth.train.trainer import Watch


def as_new(sample: Sample) -> TrainingSample:
    found = of_origin(sample, "new")
    assert isinstance(found, TrainingSample)
    return found


def tensor(*numbers: Any) -> Any:
    import torch

    return torch.tensor(numbers)


def test_advantages_are_the_discounted_sum_of_the_surprises_to_come() -> None:
    import torch

    gamma, lam = 0.9, 0.8
    rewards, values = tensor([1.0, 2.0, 3.0, 9.0]), tensor([0.5, -1.0, 2.0, 7.0])
    said = tensor([True, True, True, False])
    surprise = [1 + gamma * -1.0 - 0.5, 2 + gamma * 2.0 + 1.0, 3 - 2.0]
    expected = [sum((gamma * lam) ** (k - t) * surprise[k] for k in range(t, 3)) for t in range(3)]
    torch.testing.assert_close(advantages(rewards, values, said, gamma, lam), tensor([*expected, 0.0]))


def test_with_lam_1_they_are_what_was_earned_beyond_expectation() -> None:
    found = advantages(tensor([1.0, 0.0, 5.0]), tensor([2.0, 3.0, 4.0]), tensor([True, True, True]), 1.0, 1.0)
    assert found.tolist() == [[6 - 2, 5 - 3, 5 - 4]]


def test_whitening_looks_at_what_counts() -> None:
    found = whitened(tensor([1.0, 3.0, 100.0]), tensor([True, True, False]))
    assert found[0, :2].tolist() == pytest.approx([-1, 1])


def test_what_gains_no_more_is_clipped() -> None:
    import torch

    before, now = torch.zeros(4), tensor(1.5, 1.5, 0.5, 1.1).log()
    losses, clipped = policy_losses(now, before, tensor(1.0, -1.0, -1.0, 1.0), 0.2)
    assert losses.tolist() == pytest.approx([-1.2, 1.5, 0.8, -1.1])
    assert clipped.tolist() == [True, False, True, False]
    errors = value_losses(tensor(3.0, 0.1), tensor(0.0, 0.0), tensor(1.0, 1.0), 0.2)
    assert errors.tolist() == pytest.approx([2.0, 0.405])


PROMPTS = [[5, 6, 7, 8, 9], [11, 12], [20]]


def test_answers_follow_from_the_given_chances_in_batches_of_any_size(student: Path) -> None:
    import torch

    model = load_model(student).eval()
    chances = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    given: dict[str, Any] = {"temperature": 0.7, "ends": (), "pad": 0}
    with torch.no_grad():
        together = draw(model, PROMPTS, chances, **given)
        assert together == [draw(model, [PROMPTS[n]], chances[n : n + 1], **given)[0] for n in range(3)]
        for prompt, answer, numbers in zip(PROMPTS, together, chances, strict=True):
            logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            shares = (logits / 0.7).softmax(dim=-1).cumsum(dim=-1)
            assert answer == [int((row <= number).sum()) for row, number in zip(shares, numbers, strict=True)]
        ends = {together[0][2]}
        assert draw(model, PROMPTS[:1], chances[:1], temperature=0.7, ends=ends, pad=0) == [together[0][:3]]


def test_each_token_is_judged_as_in_a_text_of_its_own(student: Path) -> None:
    import torch

    model, replies = load_model(student).eval(), [[1, 2], [3], [4, 5, 6]]
    answers = Answers.of(PROMPTS, replies, 0, "cpu")
    found = judge(model, answers, 0.7, lambda states: states.sum(dim=-1))
    for row, (prompt, reply) in enumerate(zip(PROMPTS, replies, strict=True)):
        output = model(torch.tensor([[*prompt, *reply]]), output_hidden_states=True)
        each = (output.logits[0, len(prompt) - 1 : -1] / 0.7).log_softmax(dim=-1)
        states = output.hidden_states[-1][0, len(prompt) - 1 : -1]
        said = slice(len(reply))
        torch.testing.assert_close(found.log_probs[row, said], each[range(len(reply)), reply])
        torch.testing.assert_close(found.entropies[row, said], -(each.exp() * each).sum(dim=-1))
        torch.testing.assert_close(found.values[row, said], states.sum(dim=-1))
    some = answers[[1, 2]]
    assert (some.prompts.tolist(), some.tokens.tolist()) == ([[11, 12], [0, 20]], [[3, 0, 0], [4, 5, 6]])
    assert some.lengths == [3, 4]


LETTERS = '''
def letters(question, answer, expected):
    """1 for the first half of the alphabet, a half for the second."""
    return (answer[:1] in list("abcdefghijklm")) + 0.5 * (answer[:1] in list("nopqrstuvwxyz"))
'''


@pytest.fixture
def letters(tmp_path: Path) -> Reward:
    (tmp_path / "letters.py").write_text(LETTERS)
    return Reward(function=f"{tmp_path}/letters.py:letters")


def build(
    student: Path, make: SimpleNamespace, folder: Path, reward: Reward, *, count: int = 4, **settings: Any
) -> tuple[Any, list[Step]]:
    """A trainer on so many prompts, and the list that its steps go to."""
    given: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 2, "micro_batch_size": 1, **settings}
    rollout = {"completions": 4, "max_new_tokens": 3, "beta": 0.1, "rewards": (reward,), **given.pop("rollout", {})}
    phase = Resolved(
        name="p", method="ppo", kinds=("skill",), max_length=256, rollout=Rollout.model_validate(rollout), **given
    )
    steps: list[Step] = []
    tokenizer = load_tokenizer(student)
    samples = [as_new(make.sample("abcd"[: n + 1], "a")) for n in range(count)]
    setup = Setup(
        phase=phase,
        parent=student,
        models={},
        tokenizer=tokenizer,
        rows=prompts.with_room(prompts.rows(tokenizer, samples, ""), phase),
        checkpoints=folder / "out" / "checkpoints" / "x",
        seed=1,
        config=Config(),
        watch=Watch(steps.append, 1e9),
    )
    return ppo.trainer(setup), steps


@pytest.mark.slow
def test_the_numbers_of_a_step(student: Path, make: SimpleNamespace, tmp_path: Path, letters: Reward) -> None:
    trainer, steps = build(student, make, tmp_path, letters)
    trainer.train()
    assert [step.step for step in steps] == [1, 2, 3, 4]
    first = steps[0]
    assert first.more["kl"] == pytest.approx(0, abs=1e-6)
    assert first.more["entropy"] == pytest.approx(math.log(load_model(student).config.vocab_size), rel=0.01)
    assert first.more.keys() >= {"reward", "rewards/letters", "clip_fraction", "value_loss", "answer_tokens"}
    assert steps[-1].more["kl"] != 0
    assert first.trained_tokens == pytest.approx(8 * first.more["answer_tokens"])
    assert first.grad_norm > 0
    assert all(step.mfu is not None for step in steps)
    assert trainer.step_tokens < trainer.step_squares < trainer.step_tokens**2


@pytest.mark.parametrize("adapter", ["none", pytest.param("lora", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_stopped_and_resumed_it_ends_with_the_same_bits(
    student: Path, make: SimpleNamespace, tmp_path: Path, letters: Reward, adapter: str
) -> None:
    import torch

    def trained(name: str, stop_after: int = 0) -> tuple[dict[str, Any], list[Step]]:
        settings: dict[str, Any] = {"adapter": adapter, "epochs": 1, "ppo": Ppo(minibatches=2, passes=2)}
        trainer, steps = build(student, make, tmp_path / name, letters, **settings)
        if stop_after:
            on_step = trainer.watch.on_step

            def stop(step: Step) -> None:
                on_step(step)
                trainer.watch.stop_asked = step.step == stop_after

            trainer.watch.on_step = stop
            trainer.train()
            assert len(steps) == stop_after
            trainer, later = build(student, make, tmp_path / name, letters, **settings)
            checkpoint = trainer.setup.checkpoints / f"checkpoint-{stop_after}"
            trainer.train(resume_from_checkpoint=str(checkpoint))
            steps += later
        else:
            trainer.train()
        return trainer.model.state_dict() | trainer.value_head.state_dict(), steps

    straight, steps = trained("straight")
    stopped, again = trained("stopped", stop_after=1)
    assert [(step.loss, step.more) for step in again] == [(step.loss, step.more) for step in steps]
    assert straight.keys() == stopped.keys()
    assert all(torch.equal(tensor, stopped[name]) for name, tensor in straight.items())
    assert float(stopped["weight"].abs().sum()) > 0
    assert steps[0].more["kl"] == pytest.approx(0, abs=1e-6)
    assert steps[-1].more["kl"] != 0


def test_an_answer_without_a_reward_moves_nothing_and_none_at_all_is_said(
    student: Path, make: SimpleNamespace, tmp_path: Path, letters: Reward
) -> None:
    trainer, _ = build(student, make, tmp_path, letters)

    class Unknown:
        def earned(self, answers: Any) -> Any:
            return SimpleNamespace(totals=[None] * len(answers), numbers=dict)

    trainer.rewards = Unknown()
    with pytest.raises(CheckFailed, match="no answer of step 1 has a reward"):
        trainer._experience(trainer.rows[:2])


@pytest.mark.slow
def test_a_minibatch_has_only_answers_whose_reward_is_known(
    student: Path, make: SimpleNamespace, tmp_path: Path, letters: Reward, monkeypatch: pytest.MonkeyPatch
) -> None:
    def earned(_self: Rewards, answers: Sequence[Answered]) -> Earned:
        return Earned([1.0, *[None] * (len(answers) - 2), 0.0], {})

    monkeypatch.setattr(Rewards, "earned", earned)
    trainer, steps = build(student, make, tmp_path, letters, epochs=1, ppo=Ppo(minibatches=4, passes=2))
    with Rewards((), {}, Config(), tmp_path) as trainer.rewards:
        experience = trainer._experience(trainer.rows[:2])
    assert sorted(trainer._parts(experience)) == [[0], [0], [7], [7]]
    trainer.train()
    assert [step.more["rewards/failed"] for step in steps] == [0.75, 0.75]


@pytest.mark.parametrize(("minibatches", "sizes"), [(5, [1, 1, 2, 2, 2]), (8, [1] * 8), (3, [2, 3, 3]), (12, [1] * 8)])
def test_a_step_makes_as_many_updates_as_are_asked_for(
    student: Path, make: SimpleNamespace, tmp_path: Path, letters: Reward, minibatches: int, sizes: list[int]
) -> None:
    import torch

    trainer, _ = build(student, make, tmp_path, letters, ppo=Ppo(minibatches=minibatches, passes=1))
    parts = [*trainer._parts(SimpleNamespace(counted=torch.ones(8, 3, dtype=torch.bool)))]
    assert sorted(map(len, parts)) == sizes
    assert sorted(place for part in parts for place in part) == list(range(8))


def test_an_answer_is_judged_without_the_templates_part_and_known_to_be_cut(
    student: Path, make: SimpleNamespace, tmp_path: Path, letters: Reward, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Answered] = []

    def earned(_self: Rewards, answers: Sequence[Answered]) -> Earned:
        seen.extend(answers)
        return Earned([0.0] * len(answers), {})

    monkeypatch.setattr(Rewards, "earned", earned)
    trainer, _ = build(student, make, tmp_path, letters)
    tokenizer = trainer.setup.tokenizer
    assistants = "{% if message['role'] == 'assistant' %}So: {% endif %}{{ message['content'] }}"
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ message['content'] }}", assistants)
    texts = ["So: a", "b", "cut"]
    ids = [tokenizer(text).input_ids + [tokenizer.eos_token_id] * (text != "cut") for text in texts]
    with Rewards((), {}, Config(), tmp_path) as trainer.rewards:
        trainer._earned(trainer.rows[:3], ids)
    assert [(each.answer, each.ended) for each in seen] == [("a", True), ("b", True), ("cut", False)]


def next_token(model: Any, prompt: list[int]) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.tensor([prompt])).logits[0, -1].double().softmax(dim=-1)


def earned_by_token(model: Any, tokenizer: Any, reward: Reward) -> Any:
    from tilth.train.rewards import load_function

    function = load_function(reward.function)
    return tensor(*(function("", tokenizer.decode([token]), "") for token in range(model.config.vocab_size))).double()


@pytest.mark.slow
def test_the_reward_reaches_its_maximum(student: Path, make: SimpleNamespace, tmp_path: Path, letters: Reward) -> None:
    trainer, steps = build(
        student,
        make,
        tmp_path,
        letters,
        count=2,
        epochs=20,
        learning_rate=1e-2,
        ppo=Ppo(passes=2),
        rollout={"completions": 32, "max_new_tokens": 2, "beta": 0},
    )
    trainer.train()
    earned = [step.more["reward"] for step in steps]
    assert sum(earned[:5]) / 5 < 0.2
    assert sum(earned[-5:]) / 5 > 0.95


@pytest.mark.slow
def test_the_policy_learned_is_the_best_one_under_the_penalty(
    student: Path, make: SimpleNamespace, tmp_path: Path, letters: Reward
) -> None:
    """One token to say: the best policy is the reference times exp(reward / beta), scaled to a sum of 1."""
    beta = 0.5
    reference = load_model(student)
    trainer, _ = build(
        student,
        make,
        tmp_path,
        letters,
        count=1,
        epochs=60,
        learning_rate=5e-3,
        schedule="linear",
        batch_size=1,
        ppo=Ppo(passes=2),
        rollout={"completions": 128, "max_new_tokens": 1, "beta": beta},
    )
    trainer.train()
    for row in trainer.rows:
        before = next_token(reference, row.prompt_ids)
        best = before * (earned_by_token(reference, trainer.setup.tokenizer, letters) / beta).exp()
        best /= best.sum()
        found = next_token(trainer.model, row.prompt_ids)
        assert (best - before).abs().sum() / 2 > 0.2
        assert (best - found).abs().sum() / 2 < 0.05
