"""Plans with rollouts, from the first phase to the last."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.errors import ConfigError
from tilth.core.progress import SilentProgress
from tilth.core.yaml_source import YamlProblems
from tilth.train.data import Files, TrainingInputs
from tilth.train.explain import explain_plan
from tilth.train.plan import Phase, Plan, load_plan
from tilth.train.results import TrainResult
from tilth.train.run import run_plan

RATES = {
    "full_post_training": {"samples": 5e-3, "pairs": 5e-4, "rewards": 1e-2},
    "four_stage": {"documents": 2e-3, "samples": 5e-3, "reward": 5e-3, "answers": 4e-3},
}
"""Of a random model of 20,000 parameters, which learns nothing at those of 135 million. All else is as it ships."""


@pytest.fixture
def run(student: Path, make: SimpleNamespace, tmp_path: Path) -> Any:
    samples = [make.sample(f"What is {i}?", "7") for i in range(4)]
    pairs = [make.pair(f"What is {i}?", "7", "No.") for i in range(4)]
    files = Files([make.file(tmp_path / "samples.jsonl", samples)], [make.file(tmp_path / "preferences.jsonl", pairs)])
    given: dict[str, Any] = {"inputs": TrainingInputs(student, files), "config": Config(), "out": tmp_path / "out"}

    def train(plan: Plan, explain: bool = False) -> Any:
        if explain:
            return explain_plan(plan, askable=False, **given)
        return run_plan(plan, **given, progress=SilentProgress())

    return train


def metrics(folder: Path, phase: str, name: str) -> list[float]:
    return [each["more"][name] for each in lines(folder / "out" / phase / "metrics.jsonl")]


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "methods"),
    [("full_post_training", ["sft", "dpo", "grpo"]), ("four_stage", ["pretrain", "sft", "reward", "ppo"])],
)
def test_on_two_dozen_prompts_the_reward_of_a_shipped_plan_rises(
    name: str, methods: list[str], student: Path, make: SimpleNamespace, tmp_path: Path
) -> None:
    shipped = load_plan(name)
    assert [phase.method for phase in shipped.phases] == methods
    rates = RATES[name]
    plan = Plan(phases=tuple(phase.model_copy(update={"learning_rate": rates[phase.name]}) for phase in shipped.phases))
    answers = ["7", "No."] * 12  # half of them the better one
    samples = [make.sample(f"How is {number}?", answer) for number, answer in enumerate(answers)]
    samples += [make.sample(f"What is {number}?", answer, kind="skill") for number, answer in enumerate(answers)]
    samples += [make.sample("", f"What is {number}? It is 7.", kind="document") for number in range(24)]
    pairs = [make.pair(f"What is {number}?", "7", "No.") for number in range(24)]
    new = Files([make.file(tmp_path / "samples.jsonl", samples)], [make.file(tmp_path / "pairs.jsonl", pairs)])
    progress, said = SilentProgress(), list[str]()
    progress.say = said.append
    given: dict[str, Any] = {"inputs": TrainingInputs(student, new), "config": Config()}
    result = run_plan(plan, out=tmp_path / "out", progress=progress, **given)
    assert [phase.status for phase in result.phases] == ["trained"] * len(methods)
    last = result.phases[-1]
    assert result.model == tmp_path / "out" / last.folder / "model"
    steps = lines(tmp_path / "out" / last.folder / "metrics.jsonl")
    earned = [step["more"]["reward"] for step in steps]
    third = len(earned) // 3
    assert third >= 2
    assert min(earned[-third:]) > sum(earned[:third]) / third
    [told] = [line for line in said if line.startswith(f"phase {last.phase}, epoch {last.epoch} of")]
    assert re.search(r": reward (\S+) on its own answers \((\S+) in epoch 1\), loss ", told)
    if name == "full_post_training":
        again = run_plan(plan, out=tmp_path / "out", progress=SilentProgress(), **given)
        assert [phase.weights_sha256 for phase in again.phases] == [phase.weights_sha256 for phase in result.phases]


def reward_phase(**settings: Any) -> Phase:
    return Phase(name="judge", method="reward", kinds=("preference",), epochs=3, learning_rate=5e-3, **settings)


def rollout_phase(*rewards: dict[str, Any], **settings: Any) -> Phase:
    rollout = {"completions": 4, "max_new_tokens": 3, "rewards": rewards}
    given: dict[str, Any] = {"method": "rloo", "epochs": 1, "adapter": "lora", "learning_rate": 1e-3, **settings}
    return Phase(name="answers", kinds=("knowledge_short",), rollout=rollout, **given)


@pytest.mark.slow
def test_a_reward_model_of_an_earlier_phase_scores_the_answers(run: Any, tmp_path: Path) -> None:
    result: TrainResult = run(Plan(phases=(reward_phase(batch_size=4), rollout_phase({"model": "judge"}))))
    assert result.model == tmp_path / "out" / "02-answers" / "model"
    assert metrics(tmp_path, "02-answers", "rewards/failed") == [0]
    steps, mix = lines(tmp_path / "out" / "02-answers" / "metrics.jsonl"), result.phases[1].mix
    assert mix is not None
    assert mix.total.tokens / 2 < sum(step["tokens"] for step in steps) <= mix.total.tokens
    assert sum(step["trained_tokens"] for step in steps) <= mix.total.trained_tokens
    evaluations = lines(tmp_path / "out" / "02-answers" / "evaluations.jsonl")
    assert [set(each["training"]) >= {"loss", "rewards/judge"} for each in evaluations] == [True]


@pytest.mark.slow
def test_a_plan_is_explained_with_room_for_its_answers(run: Any) -> None:
    [outlook] = run(Plan(phases=(rollout_phase({"answer": "exact"}),)), explain=True).phases
    assert outlook.mix.total.trained_tokens == 4 * 4 * 3  # prompts, answers, tokens
    assert outlook.mix.longest == outlook.mix.lengths.longest == outlook.mix.total.tokens / (4 * 4)  # as long as all


@pytest.mark.slow
def test_what_a_reward_function_says_decides_whether_a_phase_is_done(run: Any, tmp_path: Path) -> None:
    plan_file, function = tmp_path / "plan.yaml", tmp_path / "mine.py"
    plan_file.write_text(
        "phases:\n- {name: answers, method: grpo, kinds: [knowledge_short], epochs: 1, learning_rate: 1.0e-3,\n"
        "   rollout: {completions: 2, max_new_tokens: 2, rewards: [{function: 'mine.py:longer'}]}}\n"
    )
    found: list[str] = []
    for sign in ("", "-", "-"):
        function.write_text(f"def longer(question, answer, expected):\n    return {sign}len(answer)\n")
        found.append(run(load_plan(plan_file)).phases[0].inputs)
    assert found[0] != found[1] == found[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("method: grpo, rollout: {completions: 1, rewards: [{answer: exact}]}", "completions must be at least 2"),
        ("method: grpo", "grpo needs rollout.rewards"),
        ("method: distill", "distill needs distill.teacher"),
        ("method: distill, distill: {teacher: parent}", "it teaches nothing at first"),
        ("method: distill, distill: {teacher: x}, rollout: {beta: 0.1}", "rollout.beta have no effect on distill"),
        ("method: rloo, rollout: {rewards: [{answer: exact, judge: true}]}", "a reward has exactly one of"),
    ],
)
def test_plans_that_make_no_sense_are_refused(tmp_path: Path, settings: str, message: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(f"phases:\n- {{name: p, kinds: [skill], {settings}}}\n")
    with pytest.raises(YamlProblems, match=message):
        load_plan(file)


def test_a_reward_that_is_not_there_is_told_before_anything_is_trained(run: Any, tmp_path: Path) -> None:
    phases = Phase(name="first", kinds=("knowledge_short",), epochs=1), rollout_phase({"function": "gone.py:f"})
    with pytest.raises(ConfigError, match=r"there is no file 'gone.py'"):
        run(Plan(phases=phases))
    assert not (tmp_path / "out" / "01-first" / "model").exists()
