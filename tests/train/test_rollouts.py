from __future__ import annotations

import json
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
from tilth.train.methods import rollouts
from tilth.train.methods.prompts import rows, with_room
from tilth.train.methods.setup import Setup
from tilth.train.methods.table import METHODS
from tilth.train.metrics import Step
from tilth.train.order import epoch_order
from tilth.train.plan import MethodName, Phase
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


def test_the_library_makes_logits_in_tiles_that_main_memory_has_room_for(
    student: Path, samples: list[TrainingSample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl.kernels import chunked_divergence, chunked_logprob
    from trl.trainer import utils

    width = chunked_divergence.VOCAB_CHUNK_SIZE, utils._CHUNKED_LOGPROB_CHUNK_SIZE
    assert width == (rollouts.TILE_WIDTH, rollouts.TILE_WIDTH)
    for where, positions in (("cuda", rollouts.TILE), ("cpu", rollouts.TILE_ON_CPU)):
        monkeypatch.setattr(rollouts, "device", lambda where=where: where)
        build("distill", student, samples, tmp_path)
        assert chunked_logprob.TOKEN_CHUNK_SIZE == chunked_divergence.TOKEN_CHUNK_SIZE == positions


def weights(trainer: Any) -> dict[str, Any]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def fixed_answers(trainer: Any) -> None:
    """Answers that follow from the prompt and the place in its group, however prompts are batched; "bc" is cut."""

    tokenizer, end = trainer.processing_class, trainer.eos_token_ids[0]

    def answers(prompt_ids: list[list[int]], *_: Any, **__: Any) -> Any:
        texts = [("a", "bc", "7", "def")[(sum(ids) + place) % 4] for place, ids in enumerate(prompt_ids)]
        found = [tokenizer(text).input_ids + [end] * (text != "bc") for text in texts]
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
    assert (roomy.length, roomy.trained) == (len(row.prompt_ids) + 7, 8 * 7)


@pytest.mark.parametrize("method", METHODS_HERE)
@pytest.mark.slow
def test_the_ids_that_reach_the_model_are_ours_in_the_order_of_the_epoch(
    method: MethodName, student: Path, samples: list[TrainingSample], tmp_path: Path
) -> None:
    trainer, steps = build(method, student, samples, tmp_path, epochs=2)
    end, seen, said = trainer.eos_token_ids, list[list[int]](), list[int]()
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
            said.append(len(answer))
        return compute_loss(model, inputs, **more)

    trainer.compute_loss = look
    trainer.train()
    lengths = [row.length for row in trainer.rows]
    order = [index for epoch in range(2) for index in epoch_order(lengths, 4, 1, epoch)]
    assert seen == [trainer.rows[index].prompt_ids for index in order for _ in range(4)]
    assert [step.step for step in steps] == [1, 2, 3, 4]  # five prompts, four in a batch: none is left out
    assert all(0 < step.trained_tokens < step.tokens for step in steps)
    assert all(step.mfu is not None for step in steps)
    last = [len(ids) + answer for ids, answer in zip(seen[-4:], said[-4:], strict=True)]
    assert (trainer.step_tokens, trainer.step_squares) == (sum(last), sum(length**2 for length in last))


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
            trained = ((name, each) for name, each in kwargs["model"].named_parameters() if each.requires_grad)
            found.update({name: parameter.grad.clone() for name, parameter in trained})

    trainer.add_callback(Look())
    trainer.train()
    return found


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("method", METHODS_HERE)
@pytest.mark.slow
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


def expected_loss(
    method: MethodName, policy: Any, other: Any, trainer: Any, *, beta: float = 0, divergence: float = 1
) -> Any:
    """Straight from the papers, one answer at a time, where the model is still the one that answered.

    `other` is the teacher, or the model that the policy is held to.
    """
    import torch

    parts: list[Any] = []
    tokens = 0
    for row in trainer.rows:
        answers = trainer._generate_single_turn([row.prompt_ids] * trainer.completions)
        answers = answers[0] if method == "grpo" else answers
        own = [log_shares(policy, row.prompt_ids, ids) for ids in answers]
        others = [log_shares(other, row.prompt_ids, ids).detach() for ids in answers]
        tokens += sum(map(len, answers))
        if method == "distill":
            parts += [apart(each, theirs, divergence) for each, theirs in zip(own, others, strict=True)]
            continue
        said = [each.gather(1, torch.tensor(ids)[:, None])[:, 0] for each, ids in zip(own, answers, strict=True)]
        before = [each.gather(1, torch.tensor(ids)[:, None])[:, 0] for each, ids in zip(others, answers, strict=True)]
        away = [each - theirs for each, theirs in zip(said, before, strict=True)]
        costs = torch.stack([beta * each.sum().detach() for each in away]) if method == "rloo" else 0
        for each, gone, better in zip(said, away, advantages_of(method, trainer, answers, costs), strict=True):
            ratio = (each - each.detach()).exp() if method == "grpo" else (each.sum() - each.sum().detach()).exp()
            held = beta * ((-gone).exp() + gone - 1) if method == "grpo" else 0
            parts.append(((held - better) * ratio).sum())
    return torch.stack(parts).sum() / (len(parts) if method == "rloo" else tokens)


def log_shares(model: Any, prompt: list[int], answer: list[int]) -> Any:
    import torch

    return (model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1] / 0.7).log_softmax(-1)


def apart(student: Any, teacher: Any, divergence: float) -> Any:
    """The generalised Jensen-Shannon divergence of log-shares, summed (Agarwal et al., arXiv 2306.13649)."""

    def kl(p: Any, q: Any) -> Any:
        return (p.exp() * (p - q)).sum()

    if divergence in {0, 1}:
        return kl(student, teacher) if divergence else kl(teacher, student)
    between = (divergence * teacher.exp() + (1 - divergence) * student.exp()).log()
    return divergence * kl(teacher, between) + (1 - divergence) * kl(student, between)


def advantages_of(method: MethodName, trainer: Any, answers: Sequence[list[int]], costs: Any = 0) -> Any:
    import torch

    texts = [trainer.processing_class.decode(ids, skip_special_tokens=True) for ids in answers]
    earned = torch.tensor([len(text) / 4 if text[:1].isalpha() else 0 for text in texts]) - costs
    if method == "rloo":
        return earned - (earned.sum() - earned) / (len(earned) - 1)
    return (earned - earned.mean()) / (earned.std() + 1e-4)


def move(trainer: Any) -> None:
    """Away from where the phase starts, as after some steps."""
    import torch

    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def expected_of(trainer: Any, method: MethodName, other: Any, **more: float) -> tuple[float, dict[str, Any]]:
    """The loss of the papers and its gradients, where the model now is."""
    model = trainer.model.eval()
    loss = expected_loss(method, model, other, trainer, **more)
    loss.backward()
    trained = ((name, each) for name, each in model.named_parameters() if each.requires_grad)
    gradients = {name: parameter.grad.clone() for name, parameter in trained}
    model.zero_grad()
    return loss.item(), gradients


def are_close(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    import torch

    assert found.keys() == expected.keys()
    return all(torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5) for name, gradient in expected.items())


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("method", ["grpo", "rloo"])
@pytest.mark.slow
def test_the_divergence_from_the_parent_is_part_of_the_loss(
    method: MethodName, adapter: str, student: Path, samples: list[TrainingSample], tmp_path: Path
) -> None:
    rollout = {"temperature": 0.7, "beta": 0.5}
    trainer, steps = build(method, student, samples[:2], tmp_path, adapter=adapter, clip_norm=1e9, rollout=rollout)
    fixed_answers(trainer)
    move(trainer)
    parent = load_model(student)
    loss, gradients = expected_of(trainer, method, parent, beta=0.5)
    others = [expected_of(trainer, method, parent, beta=beta)[1] for beta in (0, -0.5, 0.4)]
    found = gradients_of(trainer)
    assert steps[0].loss == pytest.approx(loss, rel=1e-3, abs=1e-5)
    assert are_close(found, gradients)
    assert not any(are_close(found, wrong) for wrong in others)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("divergence", [0.0, 0.5])
@pytest.mark.slow
def test_the_divergence_from_a_teacher_is_that_of_the_plan(
    divergence: float, student: Path, samples: list[TrainingSample], other: Path, tmp_path: Path
) -> None:
    own = {"teacher": str(other), "divergence": divergence}
    trainer, steps = build(
        "distill", student, samples[:2], tmp_path, clip_norm=1e9, rollout={"temperature": 0.7}, distill=own
    )
    fixed_answers(trainer)
    teacher = load_model(other)
    expected = {each: expected_of(trainer, "distill", teacher, divergence=each) for each in (0.0, 0.5, 1.0)}
    found = gradients_of(trainer)
    for each, (loss, gradients) in expected.items():
        assert (steps[0].loss == pytest.approx(loss, rel=1e-3)) == (each == divergence)
        assert are_close(found, gradients) == (each == divergence)


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


@pytest.mark.parametrize("method", METHODS_HERE)
def test_answers_are_drawn_from_what_is_trained_whatever_the_model_s_file_says(
    method: MethodName, student: Path, samples: list[TrainingSample], other: Path, tmp_path: Path
) -> None:
    shutil.copytree(student, tmp_path / "same")
    said = json.loads((student / "generation_config.json").read_text())
    cut = said | {"do_sample": True, "min_p": 0.9, "no_repeat_ngram_size": 1}
    (tmp_path / "same" / "generation_config.json").write_text(json.dumps(cut))
    found: list[dict[str, Any]] = []
    for parent in (student, tmp_path / "same"):
        own: dict[str, Any] = {"distill": {"teacher": str(other)}} if method == "distill" else {}
        trainer, _ = build(method, parent, samples, tmp_path, rollout={"max_new_tokens": 8}, **own)
        trainer.train()
        found.append(weights(trainer))
        trainer.save_result(tmp_path / "model")
    assert all(bool((found[1][name] == tensor).all()) for name, tensor in found[0].items())
    kept = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert kept["min_p"] == 0.9


def test_a_divergence_from_a_parent_with_a_kept_adapter_is_refused(
    student: Path, samples: list[TrainingSample], tmp_path: Path
) -> None:
    shutil.copytree(student, tmp_path / "parent")
    (tmp_path / "parent" / "adapter").mkdir()
    with pytest.raises(ModelError, match=r"phase 'p': rollout.beta holds it to its parent, whose adapter"):
        build("grpo", tmp_path / "parent", samples, tmp_path, adapter="lora", rollout={"beta": 0.1})


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
