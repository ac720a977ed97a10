"""The buffer from run to run, the student's own answers, and how far the model moves from its parent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.progress import SilentProgress
from tilth.core.records import Message, Sample
from tilth.train import self_generated
from tilth.train.data import Files
from tilth.train.forgetting import Expected, answer_losses, forward_kl
from tilth.train.load import load_model, weights_sha256
from tilth.train.masking import load_tokenizer, tokenize
from tilth.train.plan import Phase, Plan
from tilth.train.replay_buffer import Entry, Past, Trained, next_entries, read_entries
from tilth.train.results import TrainResult
from tilth.train.run import run_plan
from tilth.train.self_generated import OwnAnswers
from tilth.train.settings import Replay, Selection


def test_an_entry_stays_as_long_as_its_sample_is_there(make: Any) -> None:
    first, second, gone = make.samples(3)
    start = next_entries(Past(cycle=1), [first.id, gone.id], [Trained("a", [first, gone], [5, 6])], {first.id: 2.0})
    assert [(entry.id, entry.cycle, entry.loss) for entry in start] == sorted([(first.id, 1, 2.0), (gone.id, 1, None)])
    past = Past({entry.id: entry for entry in start}, cycle=3)
    phases = [Trained("b", [second], [7]), Trained("c", [second, first, gone], [8, 9, 9])]
    after = {entry.id: entry for entry in next_entries(past, [first.id, second.id], phases, {})}
    assert after.keys() == {first.id, second.id}
    assert after[first.id] == Entry(
        id=first.id, leaf="knowledge/a", commit="c" * 40, cycle=1, phase="a", last_cycle=3, tokens=5, loss=2.0
    )
    assert (after[second.id].cycle, after[second.id].phase, after[second.id].tokens) == (3, "b", 7)


@pytest.fixture
def train(student: Path, make: Any, tmp_path: Path) -> Callable[..., TrainResult]:
    new = make.file(tmp_path / "new.jsonl", make.samples(8))
    earlier = make.file(tmp_path / "earlier.jsonl", make.samples(8, leaf="old"))

    def run(out: str, past: Past | None = None, **replay: Any) -> TrainResult:
        given: dict[str, Any] = {"epochs": 2, "learning_rate": 5e-3, "batch_size": 4, "select": Selection(by="last")}
        phase = Phase(name="p", kinds=("knowledge_short",), replay=Replay(**replay), **given)
        return run_plan(
            Plan(phases=(phase,)),
            new=Files([new]),
            earlier=Files([earlier]),
            student=student,
            out=tmp_path / out,
            config=Config(),
            progress=SilentProgress(),
            past=past,
        )

    return run


def test_a_run_leaves_the_buffer_of_the_next_with_the_losses_of_its_model(
    train: Callable[..., TrainResult], student: Path, make: Any, tmp_path: Path
) -> None:
    import torch

    result = train("out", Past(cycle=4), earlier_cycles=0.2, weight="loss")
    entries = read_entries(tmp_path / "out" / "replay.jsonl")
    trained = {json.loads(line)["id"] for line in (tmp_path / "out" / "01-p" / "data.jsonl").read_text().splitlines()}
    assert entries.keys() == trained
    assert len(trained) == 10
    assert {entry.last_cycle for entry in entries.values()} == {4}
    model, tokenizer = load_model(result.model), load_tokenizer(student)
    [sample, *_] = make.samples(8)
    [row] = tokenize(tokenizer, [sample], "")
    logits = model(torch.tensor([row.input_ids])).logits[0, :-1]
    alone = torch.nn.functional.cross_entropy(logits, torch.tensor(row.labels[1:])).item()
    assert entries[sample.id].loss == pytest.approx(alone, rel=2e-2)
    assert entries[sample.id].tokens == row.tokens
    [first, second] = answer_losses(model, tokenizer, [sample, make.sample("Why?", "So. " * 30)], "", 256)
    assert first == pytest.approx(alone, rel=2e-2)
    assert second != first


def test_how_far_the_model_moved_from_its_parent_is_logged_at_each_epoch(
    train: Callable[..., TrainResult], tmp_path: Path
) -> None:
    train("out", earlier_cycles=0.5)
    lines = [json.loads(line) for line in (tmp_path / "out" / "01-p" / "evaluations.jsonl").read_text().splitlines()]
    moved = [line["more"] for line in lines]
    assert [set(each) for each in moved] == [{"kl_new", "kl_replayed"}] * 2
    assert 0 < moved[0]["kl_new"] < moved[1]["kl_new"]
    assert 0 < moved[0]["kl_replayed"] < moved[1]["kl_replayed"]


def test_the_divergence_is_the_whole_one_but_for_what_was_not_kept() -> None:
    import torch

    torch.manual_seed(0)
    parent, model = torch.randn(5, 200), torch.randn(5, 200)
    kl = torch.nn.functional.kl_div
    exact = kl(model.log_softmax(-1), parent.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    assert torch.allclose(forward_kl(Expected.of(parent), model), exact, atol=1e-4)
    assert torch.allclose(forward_kl(Expected.of(parent), parent), torch.zeros(5), atol=1e-5)
    parent, model = 3 * torch.randn(5, 2000), 3 * torch.randn(5, 2000)
    exact = kl(model.log_softmax(-1), parent.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    told = forward_kl(Expected.of(parent), model)
    assert bool((told <= exact).all())
    assert torch.allclose(told, exact, rtol=0.1)


def own_answers(student: Path, tmp_path: Path, **more: Any) -> OwnAnswers:
    given: dict[str, Any] = {"system_prompt": "", "may_train": lambda _: True, **more}
    return OwnAnswers(
        model=student,
        weights_sha256=weights_sha256(student),
        tokenizer=load_tokenizer(student),
        file=tmp_path / "own.jsonl",
        progress=SilentProgress(),
        **given,
    )


def test_own_answers_are_asked_for_once_and_used_where_they_may_be(
    student: Path, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Message, ...]] = []
    said = {"What is  0?": "", "What is  1?": "It is 1.", "What is  2?": "It goes on. " * 200, "What is  3?": "Leak."}

    def generate(_folder: Path, conversations: Any, **_: Any) -> list[str]:
        asked.extend(conversations)
        return [said[conversation[-1].content] for conversation in conversations]

    monkeypatch.setattr(self_generated, "generate", generate)
    monkeypatch.setattr(self_generated, "_AT_ONCE", 3)
    samples: list[Sample] = make.samples(4)
    own = own_answers(student, tmp_path, system_prompt="Be brief.", may_train=lambda sample: sample.answer != "Leak.")
    [found] = own(samples)
    assert (found.question, found.answer, found.source.teacher) == ("What is  1?", "It is 1.", "student")
    assert [conversation[0].role for conversation in asked] == ["system"] * 4
    assert own(samples[::-1]) == [found]
    assert len(asked) == 4
    assert len(own_answers(student, tmp_path)(samples)) == 2  # another system prompt is another question
    assert len(asked) == 8


def test_a_run_replays_what_its_student_says_before_training(
    train: Callable[..., TrainResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter(range(99))  # other answers if it were asked again
    monkeypatch.setattr(self_generated, "generate", lambda _, asked, **__: [f"I say {next(told)}." for _ in asked])
    result = train("out", self_generated=0.5)
    mix = result.phases[0].mix
    assert mix
    assert mix.by_origin["self_generated"].samples == 8
    assert train("out", self_generated=0.5) == result
    assert len(read_entries(tmp_path / "out" / "replay.jsonl")) == 8  # its own answers are not kept for later
