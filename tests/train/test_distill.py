from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.errors import ConfigError, ModelError
from tilth.core.progress import SilentProgress
from tilth.train.data import Files
from tilth.train.load import load_model
from tilth.train.masking import load_tokenizer
from tilth.train.methods.distill import teacher_source
from tilth.train.plan import Phase, Plan
from tilth.train.results import TrainResult
from tilth.train.run import run_plan
from tilth.train.settings import Distill


def train(plan: Plan, student: Path, samples: list[Any], out: Path, make: SimpleNamespace) -> TrainResult:
    out.mkdir()
    return run_plan(
        plan,
        new=Files([make.file(out / "samples.jsonl", samples)]),
        earlier=Files(),
        student=student,
        out=out / "train",
        config=Config(),
        progress=SilentProgress(),
    )


def distilled(teacher: str, **settings: Any) -> Phase:
    given: dict[str, Any] = {"epochs": 8, "learning_rate": 1e-2, "batch_size": 4, "kinds": ("knowledge_short",)}
    rollout = {"completions": 2, "max_new_tokens": 6}
    return Phase(
        name="distilled", method="distill", distill={"teacher": teacher}, rollout=rollout, **{**given, **settings}
    )


def losses(result: TrainResult, out: Path, phase: str) -> list[float]:
    import json

    lines = (out / "train" / phase / "metrics.jsonl").read_text().splitlines()
    assert result.phases[-1].steps == len(lines)
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
def test_the_student_comes_to_say_what_its_teacher_says(student: Path, make: SimpleNamespace, tmp_path: Path) -> None:
    samples = make.samples(8)
    phase = Phase(name="taught", kinds=("knowledge_short",), epochs=8, learning_rate=1e-2, batch_size=4)
    teacher = train(Plan(phases=(phase,)), student, samples, tmp_path / "a", make).model
    result = train(Plan(phases=(distilled(str(teacher)),)), student, samples, tmp_path / "b", make)
    found = losses(result, tmp_path / "b", "01-distilled")
    assert sum(found[-4:]) < 0.5 * sum(found[:4])


@pytest.mark.slow
def test_the_model_that_the_plan_starts_from_takes_back_what_was_learned(
    student: Path, make: SimpleNamespace, tmp_path: Path
) -> None:
    learned = Phase(name="learned", kinds=("knowledge_short",), epochs=8, learning_rate=1e-2, batch_size=4)
    plan = Plan(phases=(learned, distilled("parent")))
    result = train(plan, student, make.samples(8), tmp_path / "a", make)
    found = losses(result, tmp_path / "a", "02-distilled")
    assert found[0] > 0.1
    assert found[-1] < 0.5 * found[0]


def test_a_teacher_that_is_not_there_or_has_other_tokens_is_refused(
    student: Path, make: SimpleNamespace, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(student)
    with pytest.raises(ConfigError, match=r"distill.teacher: there is no model in 'gone'"):
        teacher_source(Distill(teacher="gone"), tokenizer)
    load_model(student).save_pretrained(tmp_path)
    make.tokenizer(make.chatml, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>", trained_on="so so").save_pretrained(
        tmp_path
    )
    with pytest.raises(ConfigError, match="has other tokens than the student; use a teacher of the same family"):
        teacher_source(Distill(teacher=str(tmp_path)), tokenizer)


def test_a_teacher_with_another_output_is_refused(student: Path, make: SimpleNamespace, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(student)
    config = LlamaConfig.from_pretrained(student)
    config.vocab_size += 6
    LlamaForCausalLM(config).save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    plan = Plan(phases=(distilled(str(tmp_path / "teacher"), epochs=1),))
    with pytest.raises(ModelError, match=r"the teacher's output has 264 tokens, the student's 258"):
        train(plan, student, make.samples(4), tmp_path / "a", make)
