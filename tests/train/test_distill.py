from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.errors import CheckFailed, ConfigError
from tilth.core.progress import SilentProgress
from tilth.train.data import Files, TrainingInputs
from tilth.train.explain import explain_plan
from tilth.train.load import load_model
from tilth.train.masking import load_tokenizer
from tilth.train.methods.distill import _pad_output, teacher_source
from tilth.train.plan import Phase, Plan
from tilth.train.results import TrainResult
from tilth.train.run import run_plan
from tilth.train.settings import Distill


def train(plan: Plan, student: Path, samples: list[Any], out: Path, make: SimpleNamespace) -> TrainResult:
    out.mkdir()
    return run_plan(
        plan,
        TrainingInputs(student, Files([make.file(out / "samples.jsonl", samples)])),
        out=out / "train",
        config=Config(),
        progress=SilentProgress(),
    )


def distilled(teacher: str, **settings: Any) -> Phase:
    given: dict[str, Any] = {"epochs": 8, "learning_rate": 1e-2, "batch_size": 4, "kinds": ("knowledge_short",)}
    rollout = {"completions": 2, "max_new_tokens": settings.pop("max_new_tokens", 6)}
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


def test_a_teacher_that_holds_fewer_tokens_bounds_the_rows(
    student: Path, make: SimpleNamespace, tmp_path: Path
) -> None:
    model = load_model(student)
    model.config.max_position_embeddings = 48
    model.save_pretrained(tmp_path / "small")
    load_tokenizer(student).save_pretrained(tmp_path / "small")
    phase = distilled(str(tmp_path / "small"), max_new_tokens=30)
    with pytest.raises(CheckFailed, match=r"48 is all that student and teacher hold: lower its rollout.max_new_tokens"):
        train(Plan(phases=(phase,)), student, make.samples(4), tmp_path / "a", make)


@pytest.fixture
def padded(student: Path, tmp_path: Path) -> Path:
    """The student with rows of its output that are of no token; they would be said all the time."""
    import torch

    model = load_model(student)
    model.resize_token_embeddings(264, mean_resizing=False)
    with torch.no_grad():
        model.get_output_embeddings().weight[258:] = 5.0
    model.save_pretrained(tmp_path / "padded")
    load_tokenizer(student).save_pretrained(tmp_path / "padded")
    return tmp_path / "padded"


@pytest.mark.slow
def test_a_teacher_whose_output_is_padded_teaches_what_it_has_in_common(
    student: Path, padded: Path, make: SimpleNamespace, tmp_path: Path
) -> None:
    plan = Plan(phases=(distilled(str(padded), epochs=1),))
    result = train(plan, student, make.samples(4), tmp_path / "a", make)
    assert losses(result, tmp_path / "a", "01-distilled") == [pytest.approx(0, abs=1e-3)]
    assert load_model(result.model).config.vocab_size == 258


@pytest.mark.slow
def test_a_student_may_be_padded_more_than_its_teacher(
    student: Path, padded: Path, make: SimpleNamespace, tmp_path: Path
) -> None:
    import torch

    plan = Plan(phases=(distilled(str(student), epochs=1),))
    result = train(plan, padded, make.samples(4), tmp_path / "a", make)
    assert losses(result, tmp_path / "a", "01-distilled")[0] > 0
    weights = load_model(result.model).get_output_embeddings().weight
    assert weights.shape[0] == 264
    assert not torch.equal(weights, load_model(padded).get_output_embeddings().weight)
    teacher = load_model(student)
    _pad_output(teacher, 264)
    assert (teacher.get_output_embeddings().weight[258:] == 0).all()  # not what the library draws
    logits = teacher(input_ids=torch.tensor([[1, 2, 3]])).logits
    assert logits.softmax(-1)[..., 258:].sum() == 0
    as_before = load_model(student)(input_ids=torch.tensor([[1, 2, 3]])).logits
    assert torch.allclose(logits[..., :258], as_before, atol=1e-5)


def test_a_teacher_with_fewer_outputs_than_tokens_is_refused_before_anything_is_trained(
    student: Path, make: SimpleNamespace, tmp_path: Path
) -> None:
    import json

    teacher = tmp_path / "teacher"
    load_tokenizer(student).save_pretrained(teacher)
    sizes = {"model_type": "gemma3_text", "vocab_size": 200}  # as in models that see, too
    (teacher / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": sizes}))
    learned = Phase(name="learned", kinds=("knowledge_short",), epochs=1, learning_rate=1e-2, batch_size=4)
    plan = Plan(phases=(learned, distilled(str(teacher))))
    with pytest.raises(
        ConfigError, match=r"distill.teacher: the output of '.*' has 200 tokens, its tokenizer 258; use"
    ):
        train(plan, student, make.samples(4), tmp_path / "a", make)
    assert not (tmp_path / "a" / "train" / "01-learned" / "model").exists()


def test_a_parent_that_would_teach_itself_is_left_out(student: Path, make: SimpleNamespace, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-2, "batch_size": 4}
    skills = Phase(name="skills", kinds=("skill",), **settings)
    short = Phase(name="short", kinds=("knowledge_short",), **settings)
    why = "no phase before it trains: the parent would be its own teacher"
    with pytest.raises(CheckFailed, match=f"phase 'distilled': {why}"):
        train(Plan(phases=(skills, distilled("parent"))), student, make.samples(4), tmp_path / "a", make)
    inputs = TrainingInputs(student, Files([make.file(tmp_path / "samples.jsonl", make.samples(4))]))
    plan = Plan(phases=(skills, distilled("parent"), short))
    told = explain_plan(plan, inputs, out=tmp_path, config=Config(), askable=False)
    assert [phase.skipped for phase in told.phases] == ["no new sample of kind skill", why, ""]
