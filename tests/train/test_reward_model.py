from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tilth.core.config import Config
from tilth.core.errors import ModelError
from tilth.core.progress import SilentProgress
from tilth.core.records import Message
from tilth.train import reward_model
from tilth.train.data import Files, TrainingInputs
from tilth.train.plan import Phase, Plan
from tilth.train.reward_model import load_reward_model
from tilth.train.rewards import Answered, Rewards
from tilth.train.run import run_plan
from tilth.train.settings import Reward

Conversation = tuple[Message, ...]


@pytest.fixture(scope="module")
def trained(student: Path, make: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model that has seen answers preferred to evasions, beside a student that has learned from the same."""
    folder = tmp_path_factory.mktemp("reward")
    pairs = [make.pair(f"What is {i}?", f"It is {i}.", "No idea" + "!" * (i % 3)) for i in range(12)]
    phase = Phase(name="judge", method="reward", kinds=("preference",), epochs=4, learning_rate=5e-3, batch_size=4)
    student_phase = Phase(name="student", method="dpo", kinds=("preference",), epochs=1, batch_size=4)
    result = run_plan(
        Plan(phases=(phase, student_phase)),
        TrainingInputs(student, Files((), [make.file(folder / "preferences.jsonl", pairs)])),
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


@pytest.mark.slow
def test_it_ranks_answers_that_it_has_not_seen(trained: Path) -> None:
    found = load_reward_model(trained).scores(
        [conversation(q, a) for q in ASKED for a in (f"It is {q[8:10]}.", "No idea.")]
    )
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
    assert logits[:, 0].tolist() == pytest.approx(load_reward_model(trained).scores(asked), abs=0.05)


def test_an_answer_that_was_cut_is_scored_without_its_end_of_turn(trained: Path) -> None:
    model = load_reward_model(trained)
    asked = conversation("What is 7?", "It is 7.")
    rows = [model.row(asked, ended=ended) for ended in (True, False)]
    whole, cut = map(model.tokenizer.decode, rows)
    assert whole == f"{cut}<|im_end|>\n"
    assert cut.endswith("It is 7.")
    answers = [Answered(tuple(asked[:1]), "It is 7.", "7", ended=ended) for ended in (True, False)]
    with Rewards([Reward(model=str(trained))], {}, Config(), trained) as rewards:
        found = rewards.earned(answers).totals
    assert found == pytest.approx(model.scores_of(rows), abs=0.02)
    assert abs(found[0] - found[1]) > 0.1  # else nothing would be told apart


def test_an_answer_that_the_template_cannot_write_earns_nothing_that_is_known(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "model")
    template = folder / "chat_template.jinja"
    kept = "{{ message['content'].split('</think>')[-1] }}"
    template.write_text(template.read_text().replace("{{ message['content'] }}", kept))
    answers = [Answered(conversation("Who?", "")[:1], text, "", ended=True) for text in ("I.", "Who?</think>I.", "I.")]
    with Rewards([Reward(model=str(folder))], {}, Config(), tmp_path) as rewards:
        first, taken_apart, last = rewards.earned(answers).totals
    assert taken_apart is None
    assert first == pytest.approx(last)


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the model cannot be loaded"):
        load_reward_model(tmp_path)
