from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import Config, Train
from tilth.core.errors import CheckFailed
from tilth.core.progress import SilentProgress
from tilth.train import duration, explain, mix
from tilth.train.data import Files, TrainingInputs
from tilth.train.explain import Outlook, explain_plan
from tilth.train.memory import gigabytes
from tilth.train.plan import Plan
from tilth.train.run import run_plan

SHORT = {"name": "short", "kinds": ["knowledge_short"], "epochs": 2, "replay": {"earlier_cycles": 0.2}}
SKILLS = {"name": "skills", "kinds": ["skill"]}
LONG = {"name": "long", "kinds": ["knowledge_long"], "epochs": 1, "replay": {"earlier_phases": 0.5}}
LONG |= {"adapter": "lora", "lora": {"rank": 2}}
ROLLOUT = {"beta": 0.1, "rewards": [{"answer": "exact"}]}


@pytest.fixture
def given(student: Path, make: Any, tmp_path: Path) -> dict[str, Any]:
    new = make.file(tmp_path / "new.jsonl", make.samples(40), make.samples(6, kind="knowledge_long", leaf="b"))
    earlier = make.file(tmp_path / "earlier.jsonl", make.samples(30, leaf="old"))
    inputs = TrainingInputs(student, Files([new]), Files([earlier]))
    return {"inputs": inputs, "config": Config(), "out": tmp_path / "out"}


def explained(given: dict[str, Any], *phases: dict[str, Any]) -> Outlook:
    return explain_plan(Plan.model_validate({"phases": phases}), **{"askable": True, **given})


@pytest.mark.slow
def test_what_is_explained_is_what_is_trained(given: dict[str, Any], tmp_path: Path) -> None:
    outlook = explained(given, SHORT, SKILLS, LONG)
    plan = Plan.model_validate({"phases": [SHORT, SKILLS, LONG]})
    trained = run_plan(plan, **given, progress=SilentProgress())
    assert [phase.phase for phase in outlook.phases] == ["short", "skills", "long"]
    for told, done in zip(outlook.phases, trained.phases, strict=True):
        assert (told.mix, told.settings, told.auto, told.skipped) == (done.mix, done.settings, done.auto, done.reason)


def test_every_auto_is_told_with_its_reason(given: dict[str, Any]) -> None:
    told = explained(given, SHORT).phases[0]
    assert told.auto.keys() >= {"max_length", "learning_rate", "batch_size", "micro_batch_size"}
    assert told.auto["max_length"].endswith("(the longest sample)")
    assert told.settings is not None
    assert told.settings.max_length == told.mix.longest if told.mix else False


def test_memory_disk_and_time_are_foreseen(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duration, "peak_flops", lambda: 1e6)
    full, _, lora = explained(given, SHORT, SKILLS, LONG).phases
    assert full.memory is not None
    assert lora.memory is not None
    assert lora.memory.optimizer < full.memory.optimizer / 5
    assert 0 < lora.disk_bytes < full.disk_bytes
    assert full.mix is not None
    least = 6 * full.mix.total.tokens * 2 * 10_000  # forward, backward; two epochs; parameters of the layers at least
    assert full.seconds > least / 1e6
    two = explained({**given, "config": Config(train=Train(processes=2))}, SHORT).phases[0]
    assert two.seconds == pytest.approx(full.seconds / 2, rel=0.05)  # smaller micro-batches share less
    assert two.memory is not None
    assert two.memory.gradients == 2 * full.memory.gradients


@pytest.mark.slow
def test_the_parent_of_an_adapter_that_is_gone_on_with_is_foreseen(given: dict[str, Any]) -> None:
    adapter = {"adapter": "lora", "lora": {"rank": 2, "merge": False}}
    ppo = {**SHORT, "name": "rewards", "method": "ppo", "epochs": 1, "rollout": ROLLOUT, **adapter, "replay": {}}
    [alone] = explained(given, ppo).phases
    outlook = explained(given, {**SHORT, **adapter}, SKILLS, ppo)  # without skills the second is left out
    assert alone.memory is not None
    assert alone.memory.others == 0
    assert outlook.phases[2].memory is not None
    assert outlook.phases[2].memory.others == 4 * outlook.parameters


@pytest.mark.parametrize("method", ["grpo", "rloo", "ppo", "distill"])
@pytest.mark.slow
def test_the_time_to_draw_answers_and_to_learn_from_them_is_foreseen(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(duration, "peak_flops", lambda: 1e6)
    monkeypatch.setattr(duration, "thin_flops", lambda _rows: 1e5)
    taught = {"distill": {"teacher": "/teacher"}} if method == "distill" else {}
    rewards = [] if method == "distill" else [{"answer": "exact"}]
    monkeypatch.setattr(mix, "teacher_source", lambda *_: ["teacher"])
    monkeypatch.setattr(mix, "taught_context", lambda _settings, _tokenizer, context: context)

    def seconds(epochs: int = 1, **rollout: Any) -> float:
        settings = {"completions": 4, "max_new_tokens": 16, "rewards": rewards, **rollout}
        phase = {"name": "p", "method": method, "kinds": ["knowledge_short"], "epochs": epochs, "batch_size": 8}
        [told] = explained(given, {**phase, "micro_batch_size": 4, "rollout": settings, **taught}).phases
        return told.seconds

    once = seconds()
    assert seconds(epochs=3) == pytest.approx(3 * once)
    assert seconds(completions=8) == pytest.approx(2 * once, rel=0.05)
    shorter, longer = seconds(max_new_tokens=32), seconds(max_new_tokens=64)
    assert longer - shorter == pytest.approx(2 * (shorter - once), rel=0.15)  # and a little more for attention
    assert shorter - once > 40 * 4 * 16 * 2 * 16_000 / 1e5  # prompts, answers, tokens; parameters of the layers
    if method != "distill":
        assert seconds(beta=0.1) > 1.01 * once  # the parent is asked as well


@pytest.mark.slow
def test_what_a_phase_trains_on_is_said_before_it_trains(given: dict[str, Any], tmp_path: Path) -> None:
    told = explained(given, SHORT, LONG)

    progress, said = SilentProgress(), list[str]()
    progress.say = said.append
    run_plan(Plan.model_validate({"phases": [SHORT, LONG]}), **given, progress=progress)
    first, second = (line for line in said if "samples (" in line)
    assert said[0] == first
    assert first.startswith("phase short: 60 samples (20 replayed, 10 an epoch), ")
    assert "; auto: max_length " in first
    memory = told.phases[0].memory
    assert memory is not None
    assert first.endswith(f"; about {gigabytes(memory.total)} of memory")
    assert second.startswith("phase long: 12 samples (6 replayed), ")


def test_nothing_is_written_and_nothing_printed(
    given: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    explained(given, SHORT)
    assert sorted(tmp_path.rglob("*")) == before
    assert capfd.readouterr() == ("", "")


def test_what_training_would_refuse_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(CheckFailed, match=r"'short': .* have more than 20 tokens .* raise its max_length to \d+"):
        explained(given, {**SHORT, "max_length": 20})


def test_what_it_has_no_room_for_is_shown_and_told(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any) -> None:
        raise CheckFailed("training takes about 9.0 GB", where="phase 'short'", fix="set its micro_batch_size to 1")

    assert explained(given, SHORT).refused == ""
    monkeypatch.setattr(explain, "check_room", no_room)
    told = explained(given, SHORT)
    assert told.refused == "phase 'short': training takes about 9.0 GB; set its micro_batch_size to 1"
    assert told.phases[0].memory is not None


def test_selection_by_held_out_questions_needs_some(given: dict[str, Any]) -> None:
    chosen = {**SHORT, "select": {"by": "held_out"}}
    assert explained(given, chosen).refused == ""
    told = explained({**given, "askable": False}, chosen)
    assert told.refused.startswith(
        "phase 'short': it selects by held_out, but there are no generated held-out questions"
    )
