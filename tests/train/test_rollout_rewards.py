"""What answers earn, as grpo and rloo learn from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.errors import CheckFailed
from tilth.core.yaml_source import YamlProblems
from tilth.train.data import TrainingSample
from tilth.train.plan import MethodName, load_plan
from tilth.train.rewards import Answered, Earned, Rewards

from .test_rollouts import as_new, build, fixed_answers


@pytest.fixture
def samples(make: SimpleNamespace) -> list[TrainingSample]:
    """Four, of different lengths."""
    return [as_new(sample) for sample in make.samples(4)]


@pytest.mark.slow
def test_an_answer_whose_reward_cannot_be_said_moves_nothing(
    student: Path, samples: list[TrainingSample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def earned(_self: Rewards, answers: Sequence[Answered]) -> Earned:
        return Earned([None, *map(float, range(1, len(answers)))], {})

    monkeypatch.setattr(Rewards, "earned", earned)
    for method in ("grpo", "rloo"):
        trainer, steps = build(method, student, samples[:1], tmp_path, rollout={"completions": 4, "beta": 0.1})
        seen: list[Any] = []
        watched(trainer, "_compute_loss", lambda _model, inputs, seen=seen: seen.append(inputs))
        trainer.train()
        if method == "grpo":  # held to the parent by a term of its own
            assert seen[0]["tool_mask"][:, 0].tolist() == [0, 1, 1, 1]
            whole = trainer.args.gradient_accumulation_steps  # the library scales by it, and the step has one
            assert seen[0]["num_items_in_batch"] == whole * seen[0]["completion_mask"][1:].sum()
        else:
            assert seen[0]["weight"] == pytest.approx(4 / 3)
        assert steps[0].trained_tokens == seen[0]["completion_mask"][1:].sum()
        [unknown, *known] = seen[0]["advantages"].tolist()
        assert unknown == 0
        assert sum(known) == pytest.approx(0, abs=1e-6)
        assert known == sorted(known)
        assert known[0] < known[-1]
        assert steps[0].more["rewards/failed"] == 0.25


def watched(trainer: Any, name: str, look: Any) -> None:
    """Lets `look` see what a method of the trainer is given."""
    method = getattr(trainer, name)

    def looking(*given: Any, **named: Any) -> Any:
        look(*given, **named)
        return method(*given, **named)

    setattr(trainer, name, looking)


@pytest.mark.slow
def test_a_reward_is_the_mean_of_those_that_are_known(
    student: Path, samples: list[TrainingSample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def earned(_self: Rewards, answers: Sequence[Answered]) -> Earned:
        known = answers[0].prompt == trainer.rows[0].prompt  # one micro-batch of four
        return Earned([0.5 if known else None] * len(answers), {})

    monkeypatch.setattr(Rewards, "earned", earned)
    trainer, steps = build("grpo", student, samples, tmp_path, micro_batch_size=1)
    trainer.train()
    assert [step.more["reward"] for step in steps] == [0.5]


@pytest.mark.parametrize("method", ["grpo", "rloo"])
@pytest.mark.slow
def test_a_step_without_any_reward_is_refused(
    method: MethodName,
    student: Path,
    samples: list[TrainingSample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(_self: Rewards, answers: Sequence[Answered]) -> Earned:
        known = len(steps) == 0 and answers[0].prompt == trainer.rows[0].prompt  # one micro-batch of the first step
        return Earned([1.0 if known else None] * len(answers), {})

    monkeypatch.setattr(Rewards, "earned", unknown)
    trainer, steps = build(method, student, samples[:4], tmp_path, micro_batch_size=1, epochs=2)
    with pytest.raises(CheckFailed, match="phase 'p': no answer of step 2 has a reward; see that its judge answers"):
        trainer.train()
    assert [step.more["rewards/failed"] for step in steps] == [0.75]


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_an_answer_is_judged_without_the_templates_part_and_known_to_be_cut(
    method: MethodName,
    student: Path,
    samples: list[TrainingSample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Answered] = []

    def earned(_self: Rewards, answers: Sequence[Answered]) -> Earned:
        seen.extend(answers)
        return Earned([0.0] * len(answers), {})

    monkeypatch.setattr(Rewards, "earned", earned)
    trainer, _ = build(method, student, samples[:2], tmp_path)
    fixed_answers(trainer)
    assistants = "{% if message['role'] == 'assistant' %}d{% endif %}{{ message['content'] }}"
    template = trainer.setup.tokenizer.chat_template
    trainer.setup.tokenizer.chat_template = template.replace("{{ message['content'] }}", assistants)
    trainer.train()
    assert {(each.answer, each.ended) for each in seen} == {("a", True), ("bc", False), ("7", True), ("ef", True)}


@pytest.mark.parametrize("between", [[], ["reward"]])
@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_a_plan_that_keeps_an_adapter_for_a_divergence_is_refused(
    method: str, between: list[str], tmp_path: Path
) -> None:
    def plan(merge: str, beta: float) -> Path:
        phases = [f"- {{name: a, kinds: [skill], adapter: lora, lora: {{merge: {merge}}}}}"]
        phases += [f"- {{name: r, method: {each}, kinds: [preference]}}" for each in between]
        rollout = f"{{beta: {beta}, rewards: [{{answer: exact}}]}}"
        phases.append(f"- {{name: b, method: {method}, kinds: [skill], adapter: lora, rollout: {rollout}}}")
        (tmp_path / "plan.yaml").write_text("\n".join(["phases:", *phases]))
        return tmp_path / "plan.yaml"

    with pytest.raises(YamlProblems, match=r"rollout.beta of 'b' holds it to its parent.*write `lora.*in 'a', or"):
        load_plan(plan("false", 0.1))
    load_plan(plan("true", 0.1))
    load_plan(plan("false", 0.0))
