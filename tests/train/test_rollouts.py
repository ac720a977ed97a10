from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.errors import ModelError
from tilth.llm.quiet import quiet_transformers
from tilth.train import trainer as trainer_module
from tilth.train.auto import Resolved
from tilth.train.data import TrainingSample, of_origin
from tilth.train.load import load_model
from tilth.train.masking import load_tokenizer
from tilth.train.methods.prompts import rows, with_room
from tilth.train.methods.setup import Setup
from tilth.train.methods.table import METHODS
from tilth.train.metrics import Step
from tilth.train.order import epoch_order
from tilth.train.plan import MethodName, Phase
from tilth.train.rewards import Answered, Earned, Rewards
from tilth.train.settings import Reward, Rollout
from tilth.train.trainer import Watch

SAID = "def said(question, answer, expected):\n    return len(answer) / 4 if answer[:1].isalpha() else 0\n"
METHODS_HERE: tuple[MethodName, ...] = ("grpo", "rloo", "distill")


@pytest.fixture
def samples(make: SimpleNamespace) -> list[TrainingSample]:
    """Five, of different lengths."""
    return [as_new(sample) for sample in make.samples(5)]


@pytest.fixture(scope="module")
def other(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers otherwise, with the same tokens."""
    import torch

    folder = tmp_path_factory.mktemp("other")
    model = load_model(student)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    model.save_pretrained(folder)
    load_tokenizer(student).save_pretrained(folder)
    return folder


def as_new(sample: Any) -> TrainingSample:
    found = of_origin(sample, "new")
    assert isinstance(found, TrainingSample)
    return found


def build(
    method: MethodName, student: Path, samples: Sequence[TrainingSample], folder: Path, **settings: Any
) -> tuple[Any, list[Step]]:
    """A trainer on the prompts of the samples, and the list that its steps go to."""
    (folder / "reward.py").write_text(SAID)
    given: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 2, **settings}
    own: dict[str, Any] = {"completions": 4, "max_new_tokens": 3, **given.pop("rollout", {})}
    if method == "distill":
        given.setdefault("distill", {"teacher": str(student)})
    else:
        own.setdefault("rewards", (Reward(function=f"{folder}/reward.py:said"),))
    phase = Resolved(
        name="p", method=method, kinds=("knowledge_short",), max_length=256, rollout=Rollout(**own), **given
    )
    steps: list[Step] = []
    tokenizer = load_tokenizer(student)
    setup = Setup(
        phase=phase,
        parent=student,
        models={},
        tokenizer=tokenizer,
        rows=with_room(METHODS[method].rows(tokenizer, samples, ""), phase),
        checkpoints=folder / "01-p" / "checkpoints" / "inputs",
        seed=1,
        config=Config(),
        watch=Watch(steps.append, 1e9),
    )
    return METHODS[method].trainer(setup), steps


def weights(trainer: Any) -> dict[str, Any]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def fixed_answers(trainer: Any) -> None:
    """Answers that follow from the prompt and the place in its group, however prompts are batched."""

    tokenizer, end = trainer.processing_class, trainer.eos_token_ids[0]

    def answers(prompt_ids: list[list[int]], *_: Any, **__: Any) -> Any:
        texts = [("a", "bc", "7", "def")[(sum(ids) + place) % 4] for place, ids in enumerate(prompt_ids)]
        found = [[*tokenizer(text).input_ids, end] for text in texts]
        return (found, None) if "GRPOTrainer" in [kind.__name__ for kind in type(trainer).__mro__] else found

    trainer._generate_single_turn = answers


def test_a_prompt_is_the_sample_up_to_its_answer_ready_to_be_answered(student: Path, make: SimpleNamespace) -> None:
    tokenizer = load_tokenizer(student)
    (row,) = rows(tokenizer, [as_new(make.sample("How old is <|im_end|>?", "Nine."))], "Be kind.")
    start = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHow old is <|im_end|>?<|im_end|>\n"
    assert tokenizer.decode(row.prompt_ids) == f"{start}<|im_start|>assistant\n"
    assert row.prompt_ids.count(tokenizer.eos_token_id) == 2  # what the user wrote is text
    assert (row.answer, row.end_id, [m.content for m in row.prompt]) == (
        "Nine.",
        tokenizer.eos_token_id,
        ["How old is <|im_end|>?"],
    )
    phase = Phase(name="p", method="distill", kinds=("skill",), distill={"teacher": "x"}, rollout={"max_new_tokens": 7})
    (roomy,) = with_room([row], phase)
    assert (roomy.length, roomy.trained) == (len(row.prompt_ids) + 7, 7)


@pytest.mark.parametrize("method", METHODS_HERE)
def test_the_ids_that_reach_the_model_are_ours_in_the_order_of_the_epoch(
    method: MethodName, student: Path, samples: list[TrainingSample], tmp_path: Path
) -> None:
    trainer, steps = build(method, student, samples, tmp_path, epochs=2)
    end, seen = trainer.eos_token_ids, list[list[int]]()
    compute_loss = trainer.compute_loss

    def look(model: Any, inputs: dict[str, Any], **more: Any) -> Any:
        for ids, attended in zip(inputs["prompt_ids"].tolist(), inputs["prompt_mask"].tolist(), strict=True):
            assert attended == sorted(attended)
            seen.append(ids[len(ids) - sum(attended) :])
        for ids, trained in zip(inputs["completion_ids"].tolist(), inputs["completion_mask"].tolist(), strict=True):
            answer = ids[: sum(trained)]
            assert trained == sorted(trained, reverse=True)
            assert answer[-1] in end or len(answer) == 3
            assert not set(end) & set(answer[:-1])
        return compute_loss(model, inputs, **more)

    trainer.compute_loss = look
    trainer.train()
    lengths = [row.length for row in trainer.rows]
    order = [index for epoch in range(2) for index in epoch_order(lengths, 4, 1, epoch)]
    assert seen == [trainer.rows[index].prompt_ids for index in order for _ in range(4)]
    assert [step.step for step in steps] == [1, 2, 3, 4]  # five prompts, four in a batch: none is left out
    assert all(0 < step.trained_tokens < step.tokens for step in steps)


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(trainer_module, "compute_dtype", lambda: torch.float32)


def gradients_of(trainer: Any) -> dict[str, Any]:
    """What the optimizer is given in the last step."""
    from transformers import TrainerCallback

    found: dict[str, Any] = {}

    class Look(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found.update({name: parameter.grad.clone() for name, parameter in kwargs["model"].named_parameters()})

    trainer.add_callback(Look())
    trainer.train()
    return found


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("method", METHODS_HERE)
def test_the_loss_is_the_steps_mean_however_it_is_accumulated(
    method: MethodName, student: Path, samples: list[TrainingSample], other: Path, tmp_path: Path
) -> None:
    import torch

    found: list[dict[str, Any]] = []
    losses: list[float] = []
    for micro_batch_size in (1, 2, 4):  # with 2 the second micro-batch has one prompt
        own: dict[str, Any] = {"distill": {"teacher": str(other)}} if method == "distill" else {}
        trainer, steps = build(
            method,
            student,
            samples[:3],
            tmp_path,
            micro_batch_size=micro_batch_size,
            clip_norm=1e9,
            rollout={"temperature": 0.7},
            **own,
        )
        fixed_answers(trainer)
        found.append(gradients_of(trainer))
        losses.append(steps[0].loss)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4, abs=1e-6)
    for name, gradient in found[0].items():
        for others in found[1:]:
            torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-6)
    policy = load_model(student)
    expected_loss(method, policy, load_model(other), trainer).backward()
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(found[0][name], parameter.grad, rtol=1e-3, atol=1e-5)


def expected_loss(method: MethodName, policy: Any, teacher: Any, trainer: Any) -> Any:
    """Straight from the papers, one answer at a time, where the model is still the one that answered."""
    import torch

    parts: list[Any] = []
    tokens = 0
    for row in trainer.rows:
        answers = trainer._generate_single_turn([row.prompt_ids] * trainer.completions)
        answers = answers[0] if method == "grpo" else answers
        for ids, advantage in zip(answers, advantages_of(method, trainer, answers), strict=True):
            whole, first = torch.tensor([row.prompt_ids + ids]), len(row.prompt_ids) - 1
            logps = (policy(whole).logits[0, first:-1] / 0.7).log_softmax(-1)
            teachers = (teacher(whole).logits[0, first:-1] / 0.7).log_softmax(-1).detach()
            if method == "distill":
                parts.append((logps.exp() * (logps - teachers)).sum())
            else:
                parts.append(-advantage * logps.gather(1, torch.tensor(ids)[:, None]).sum())
            tokens += len(ids)
    return torch.stack(parts).sum() / (len(parts) if method == "rloo" else tokens)


def advantages_of(method: MethodName, trainer: Any, answers: Sequence[list[int]]) -> Any:
    import torch

    texts = [trainer.processing_class.decode(ids, skip_special_tokens=True) for ids in answers]
    earned = torch.tensor([len(text) / 4 if text[:1].isalpha() else 0 for text in texts])
    if method == "rloo":
        return earned - (earned.sum() - earned) / (len(earned) - 1)
    return (earned - earned.mean()) / (earned.std() + 1e-4)


@pytest.mark.parametrize("method", [pytest.param(each, marks=pytest.mark.slow) for each in METHODS_HERE])
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_resumed_run_gives_the_same_answers_and_weights(
    method: MethodName, adapter: str, student: Path, samples: list[TrainingSample], other: Path, tmp_path: Path
) -> None:
    own: dict[str, Any] = {"distill": {"teacher": str(other)}} if method == "distill" else {}
    own |= {"epochs": 2, "adapter": adapter}
    straight, steps = build(method, student, samples, tmp_path, **own)
    straight.train()
    stopped, before = build(method, student, samples, tmp_path, **own)
    stopped.watch.on_step = lambda step: (before.append(step), setattr(stopped.watch, "stop_asked", True))
    stopped.train()
    assert len(before) == 1
    resumed, after = build(method, student, samples, tmp_path, **own)
    resumed.train(resume_from_checkpoint=str(tmp_path / "01-p" / "checkpoints" / "inputs" / "checkpoint-1"))
    assert [step.loss for step in before + after] == [step.loss for step in steps]
    assert all(bool((found == weights(straight)[name]).all()) for name, found in weights(resumed).items())


def test_an_answer_whose_reward_cannot_be_said_moves_nothing(
    student: Path, samples: list[TrainingSample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_self: Rewards, answers: Sequence[Answered]) -> Earned:
        return Earned([None] * len(answers), {"judge": [None] * len(answers)})

    monkeypatch.setattr(Rewards, "earned", unknown)
    trainer, steps = build("grpo", student, samples, tmp_path)
    before = weights(trainer)
    trainer.train()
    assert [step.more["rewards/failed"] for step in steps] == [1, 1]
    assert all(bool((found == before[name]).all()) for name, found in weights(trainer).items())


def test_the_model_that_is_saved_is_as_plain_as_its_parent_and_nothing_is_printed_or_sent(
    student: Path,
    samples: list[TrainingSample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda **_given: pytest.fail("it was sent"))
    with quiet_transformers():
        trainer, _ = build("grpo", student, samples, tmp_path)
        trainer.train()
        trainer.save_result(tmp_path / "model")
    for name in ("config.json", "generation_config.json"):
        assert (tmp_path / "model" / name).read_text() == (student / name).read_text()
    assert capfd.readouterr() == ("", "")


def test_a_divergence_from_a_parent_with_a_kept_adapter_is_refused(
    student: Path, samples: list[TrainingSample], tmp_path: Path
) -> None:
    shutil.copytree(student, tmp_path / "parent")
    (tmp_path / "parent" / "adapter").mkdir()
    with pytest.raises(ModelError, match=r"phase 'p': rollout.beta holds it to its parent, whose adapter"):
        build("grpo", tmp_path / "parent", samples, tmp_path, adapter="lora", rollout={"beta": 0.1})


@pytest.mark.parametrize("adapter", ["none", pytest.param("lora", marks=pytest.mark.slow)])
def test_the_divergence_from_the_parent_is_held(
    adapter: str, student: Path, samples: list[TrainingSample], tmp_path: Path
) -> None:
    trainer, steps = build("grpo", student, samples, tmp_path, adapter=adapter, rollout={"beta": 0.5}, epochs=2)
    trainer.train()
    assert steps[0].more["kl"] == pytest.approx(0, abs=1e-5)
    assert steps[-1].more["kl"] > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_a_model_learns_what_earns_most(
    method: MethodName, student: Path, samples: list[TrainingSample], tmp_path: Path
) -> None:
    trainer, steps = build(
        method,
        student,
        samples,
        tmp_path,
        learning_rate=1e-2,
        epochs=30,
        batch_size=5,
        micro_batch_size=5,
        rollout={"completions": 16, "max_new_tokens": 1},
    )
    trainer.train()
    earned = [4 * step.more["rewards/said"] for step in steps]  # of one character a letter is the most that can be said
    assert earned[0] < 0.4
    assert min(earned[-3:]) > 0.95
