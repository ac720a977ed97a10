from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from tilth.core.config import Config
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress
from tilth.core.records import Message
from tilth.train import reward_model
from tilth.train.data import Files
from tilth.train.plan import Phase, Plan
from tilth.train.reward_model import load_reward_model, scores
from tilth.train.run import run_plan

Conversation = Sequence[Message]


@pytest.fixture(scope="module")
def trained(student: Path, make: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model that has seen answers preferred to evasions, beside a student that has learned from the same."""
    folder = tmp_path_factory.mktemp("reward")
    pairs = [make.pair(f"What is {i}?", f"It is {i}.", "No idea" + "!" * (i % 3)) for i in range(12)]
    phase = Phase(name="judge", method="reward", kinds=("preference",), epochs=4, learning_rate=5e-3, batch_size=4)
    student_phase = Phase(name="student", method="dpo", kinds=("preference",), epochs=1, batch_size=4)
    result = run_plan(
        Plan(phases=(phase, student_phase)),
        new=Files((), [make.file(folder / "preferences.jsonl", pairs)]),
        earlier=Files(),
        student=student,
        out=folder / "out",
        config=Config(),
        progress=SilentProgress(),
    )
    assert [phase.makes for phase in result.phases] == ["reward_model", "policy"]
    assert result.model == folder / "out" / "02-student" / "model"
    return folder / "out" / "01-judge" / "model"


def conversation(question: str, answer: str) -> Conversation:
    return (Message(role="user", content=question), Message(role="assistant", content=answer))


ASKED = [f"What is {i}?" for i in range(20, 29)]


def test_it_ranks_answers_that_it_has_not_seen(trained: Path) -> None:
    found = scores(trained, [conversation(q, a) for q in ASKED for a in (f"It is {q[8:10]}.", "No idea.")])
    assert all(good > bad + 0.5 for good, bad in zip(found[::2], found[1::2], strict=True))


def test_a_score_does_not_depend_on_its_neighbours(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(reward_model, "compute_dtype", lambda: torch.float32)
    model = load_reward_model(trained)
    asked = [conversation(q, "It is " * (place % 4) + "so.") for place, q in enumerate(ASKED)]
    together = model.scores(asked)
    assert together == pytest.approx([model.scores([each])[0] for each in asked], abs=1e-5)
    monkeypatch.setattr(reward_model, "_BATCH_TOKENS", 150)
    assert together == pytest.approx(model.scores(asked), abs=1e-5)
    assert len({round(score, 4) for score in together}) > 3
    assert model.scores([]) == []


def test_what_everyone_else_uses_gives_the_same_scores(trained: Path, student: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert tokenizer.pad_token is None  # as the student's
    assert (trained / "tokenizer.json").read_text() == (student / "tokenizer.json").read_text()
    model = AutoModelForSequenceClassification.from_pretrained(trained)
    tokenizer.pad_token = tokenizer.eos_token
    asked = [conversation(q, "It is " * (place % 4)) for place, q in enumerate(ASKED)]
    texts = [tokenizer.apply_chat_template([each.model_dump() for each in turns], tokenize=False) for turns in asked]
    logits = model(**tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")).logits
    assert logits[:, 0].tolist() == pytest.approx(scores(trained, asked), abs=0.05)


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the model cannot be loaded"):
        scores(tmp_path, [conversation("Who?", "I.")])
