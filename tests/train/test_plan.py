from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tilth.core.errors import ConfigError
from tilth.core.yaml_source import YamlProblems
from tilth.train.plan import by_content, load_plan, shipped_plans


def plan_file(folder: Path, text: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", shipped_plans())
def test_shipped_plans_load(name: str) -> None:
    assert load_plan(name).phases


def test_lab_trains_short_then_long_then_skills_and_replays_the_earlier() -> None:
    phases = load_plan("lab").phases
    assert [phase.kinds for phase in phases] == [
        ("knowledge_short",),
        ("knowledge_long", "foundational"),
        ("skill", "grounded_skill"),
        ("preference",),
    ]
    assert all(phase.replay.earlier_cycles > 0 for phase in phases)
    assert all(phase.replay.earlier_phases > 0 for phase in phases[1:3])


def test_quick_is_one_lora_phase_of_everything() -> None:
    [phase] = load_plan("quick").phases
    assert phase.adapter == "lora"
    assert set(phase.kinds) == load_plan("lab").kinds - {"preference"}


def test_every_plan_of_the_method_is_there() -> None:
    assert shipped_plans() == ["four_stage", "full_post_training", "lab", "quick", "skills_only", "stacked"]
    methods = {name: [phase.method for phase in load_plan(name).phases] for name in shipped_plans()}
    assert methods["four_stage"] == ["pretrain", "sft", "reward", "ppo"]
    assert methods["full_post_training"] == ["sft", "dpo", "grpo"]
    assert methods["stacked"] == ["sft", "dpo"]
    assert set(methods["skills_only"]) == {"sft"}


def test_a_users_plan_loads_by_its_path_with_ten_epochs_by_default(tmp_path: Path) -> None:
    path = plan_file(tmp_path, "phases:\n  - {name: one, kinds: [skill], learning_rate: 1.0e-5}\n")
    assert load_plan(path).phases[0].epochs == 10
    assert load_plan(str(path)) == load_plan(path)


def test_an_unknown_plan_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'lab'"):
        load_plan("labb")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epoch: 3", r"plan\.yaml:6:5: unknown key .* did you mean 'epochs'"),
        ("kinds: [skil]", r"kinds\.0 is 'skil'; did you mean 'skill'"),
        ("kinds: []", "at least one kind"),
        ("learning_rate: -1", "learning_rate is -1; write a number above 0"),
        ("batch_size: 8\n    micro_batch_size: 3", "not a multiple of micro_batch_size 3"),
        ("replay: {earlier_phases: 0.5, earlier_cycles: 0.5}", "less than 1"),
        ("kinds: [test]", "cannot train on samples of kind test"),
        ("lora: {rank: 4}", "no effect without `adapter: lora`"),
        (
            "kinds: [preference]\n    method: dpo\n    adapter: lora\n    lora: {dropout: 0.3}",
            "no effect on dpo, which",
        ),
        ("trainable: mpl", "did you mean 'mlp'"),
        ("adapter: lora\n    trainable: mlp", "trainable is for the model's own weights, not for an adapter"),
        ("kinds: [preference]\n    method: reward\n    trainable: mlp", "not for an adapter or a reward model"),
        ("name: Not/A/Folder", "use small letters, digits, - and _"),
        ("replay: {at_most: 20}", "write `500 samples` or `20000 tokens`"),
        (f"replay: {{at_most: {'9' * 400} samples}}", "write `500 samples` or `20000 tokens`"),
        ("learning_rate: yes", "learning_rate is true; write a number"),
        ("batch_size: on", "batch_size is true; write a whole number"),
        ("method: grpo\n    rollout: {rewards: [{answer: exact, weight: 0}]}", "no answer earns anything"),
    ],
)
def test_a_wrong_plan_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    given = {"name": "name: one", "kinds": "kinds: [skill]", "learning_rate": "learning_rate: 1.0e-5"}
    given[line.split(":", maxsplit=1)[0]] = line
    path = plan_file(tmp_path, "phases:\n  -\n" + "".join(f"    {entry}\n" for entry in given.values()))
    with pytest.raises(YamlProblems, match=message) as problems:
        load_plan(path)
    assert problems.value.problems[0].line > 1


def test_two_phases_of_one_name_are_refused(tmp_path: Path) -> None:
    line = "  - {name: one, kinds: [skill], learning_rate: 1.0e-5}\n"
    with pytest.raises(YamlProblems, match="two phases are called 'one'"):
        load_plan(plan_file(tmp_path, f"phases:\n{line}{line}"))


def test_what_names_another_phase_or_the_parent_is_no_folder_beside_the_plan(tmp_path: Path) -> None:
    for name in ("parent", "grader", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "plan.yaml").write_text(
        "phases:\n"
        "  - {name: grader, method: reward, kinds: [preference]}\n"
        "  - {name: s, kinds: [skill]}\n"
        "  - {name: d, method: distill, kinds: [skill], distill: {teacher: parent}}\n"
        "  - {name: p, method: ppo, kinds: [skill], rollout: {rewards: [{model: grader}, {model: elsewhere}]}}\n"
    )
    _, _, distilled, rewarded = load_plan(tmp_path / "plan.yaml").phases
    assert distilled.distill
    assert distilled.distill.teacher == "parent"
    assert [reward.model for reward in rewarded.rollout.rewards] == ["grader", str(tmp_path / "elsewhere")]


def test_what_does_not_lie_beside_a_plan_is_looked_for_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, plans = tmp_path / "here", tmp_path / "plans"
    (here / "grader").mkdir(parents=True)
    plans.mkdir()
    (here / "r.py").write_text("")
    (here / "grader/config.json").write_text("{}")
    rewards = "[{function: 'r.py:f'}, {model: grader}, {function: 'gone.py:f'}]"
    text = f"phases:\n  - {{name: g, method: grpo, kinds: [skill], rollout: {{rewards: {rewards}}}}}\n"
    (plans / "plan.yaml").write_text(text)
    monkeypatch.chdir(here)
    (phase,) = load_plan(plans / "plan.yaml").phases
    found = [each.function or each.model for each in phase.rollout.rewards]
    assert found == [str(here / "r.py:f"), str(here / "grader"), "gone.py:f"]
    (plans / "r.py").write_text("")
    assert load_plan(plans / "plan.yaml").phases[0].rollout.rewards[0].function == str(plans / "r.py:f")


def test_what_lies_beside_a_plan_counts_by_what_it_holds_and_not_by_where(tmp_path: Path) -> None:
    def told(folder: Path, code: str) -> list[dict[str, Any]]:
        folder.mkdir()
        (folder / "r.py").write_text(code)
        (folder / "old.jsonl").write_text("[]")
        (folder / "grader").mkdir()
        (folder / "grader/config.json").write_text("{}")
        (folder / "plan.yaml").write_text(
            "phases:\n"
            "  - {name: s, kinds: [skill], replay: {general: 0.1, general_file: old.jsonl}}\n"
            "  - {name: g, method: grpo, kinds: [skill], rollout: {rewards: [{function: 'r.py:f'}, {model: grader}]}}\n"
        )

        def held(path: Path) -> str:
            return "weights" if path.is_dir() else path.read_text()

        return [by_content(phase, held) for phase in load_plan(folder / "plan.yaml").phases]

    first, moved, changed = told(tmp_path / "a", "one"), told(tmp_path / "b", "one"), told(tmp_path / "c", "two")
    assert first == moved
    assert first[0] == changed[0]
    rewards = [settings[1]["rollout"]["rewards"] for settings in (first, changed)]
    assert [each[0]["function"] for each in rewards] == ["one:f", "two:f"]
    assert rewards[0][1]["model"] == "weights"
    shipped = load_plan("lab")
    assert [by_content(phase, str) for phase in shipped.phases] == shipped.model_dump(mode="json")["phases"]
