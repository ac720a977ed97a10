"""The buffer from run to run, the student's own answers, and how far the model moves from its parent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.progress import SilentProgress
from tilth.core.records import Message, Sample
from tilth.llm.likely import NOTHING
from tilth.llm.local import Said
from tilth.llm.precision import compute_dtype
from tilth.train import forgetting, remembering, self_generated
from tilth.train.data import Files, TrainingInputs
from tilth.train.forgetting import Drift, Expected, answer_losses, forward_kl
from tilth.train.load import load_model
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

    def run(
        out: str,
        past: Past | None = None,
        more: Sequence[Phase] = (),
        rate: float = 5e-3,
        base: tuple[Path, Path] | None = None,
        **replay: Any,
    ) -> TrainResult:
        given: dict[str, Any] = {"epochs": 2, "learning_rate": rate, "batch_size": 4, "select": Selection(by="last")}
        phase = Phase(name="p", kinds=("knowledge_short",), replay=Replay(**replay), **given)
        return run_plan(
            Plan(phases=(phase, *more)),
            TrainingInputs(student, Files([new]), Files([earlier]), past or Past(), base),
            out=tmp_path / out,
            config=Config(),
            progress=SilentProgress(),
        )

    return run


@pytest.mark.slow
def test_a_run_leaves_the_buffer_of_the_next_with_the_losses_of_its_model(
    train: Callable[..., TrainResult], student: Path, make: Any, tmp_path: Path
) -> None:
    import torch

    result = train("out", Past(cycle=4), earlier_cycles=0.2, weight="loss")
    entries = read_entries(tmp_path / "out" / "replay.jsonl")
    trained = {json.loads(line)["id"] for line in (tmp_path / "out" / "01-p" / "data.jsonl").read_text().splitlines()}
    assert entries.keys() == trained
    assert len(trained) == 12  # 8 new ones, and 2 in each of two epochs
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


@pytest.mark.slow
def test_losses_are_measured_once_for_each_model(
    train: Callable[..., TrainResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def counted(model: Any, tokenizer: Any, items: Any, *more: Any) -> list[float]:
        measured.append(len(items))
        return answer_losses(model, tokenizer, items, *more)

    monkeypatch.setattr(remembering, "answer_losses", counted)
    buffer = tmp_path / "out" / "replay.jsonl"
    train("out", earlier_cycles=0.2)
    assert (measured, {entry.loss for entry in read_entries(buffer).values()}) == ([], {None})
    train("out", earlier_cycles=0.2, weight="loss")
    first = buffer.read_bytes()
    train("out", earlier_cycles=0.2, weight="loss")
    assert (measured, buffer.read_bytes()) == ([12], first)
    train("out", earlier_cycles=0.2, weight="loss", rate=1e-3)
    assert measured == [12, 12]
    assert buffer.read_bytes() != first


def test_of_logits_there_are_no_more_at_once_than_there_is_room_for(
    student: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_model(student), load_tokenizer(student)
    items = [*make.samples(20), make.sample("Why?", "So. " * 40), make.sample("A page.", "", kind="document")]
    whole = answer_losses(model, tokenizer, items, "", 256)
    sizes: list[int] = []
    forward = type(model).forward

    def seen(self: Any, *given: Any, **named: Any) -> Any:
        output = forward(self, *given, **named)
        sizes.append(output.logits.shape[0] * output.logits.shape[1])
        return output

    monkeypatch.setattr(type(model), "forward", seen)
    monkeypatch.setattr(forgetting, "_PLACES_AT_ONCE", 48)
    found = answer_losses(model, tokenizer, items, "", 256)
    assert max(sizes) <= 48
    assert found[:20] == pytest.approx(whole[:20], rel=2e-2)
    assert found[21] == pytest.approx(whole[21], rel=2e-2)
    assert found[20] != whole[20]  # of a long answer the beginning


@pytest.mark.parametrize(
    "adapter",
    ["lora", pytest.param("qlora", marks=pytest.mark.skipif(not find_spec("bitsandbytes"), reason="not installed"))],
)
@pytest.mark.slow
def test_later_the_parent_is_loaded_in_the_format_that_it_is_asked_in(
    adapter: Any, train: Callable[..., TrainResult], student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[Any, ...]] = []

    def load(folder: Path, *how: Any) -> Any:
        loaded.append((folder, *how))
        return load_model(folder, *how)

    monkeypatch.setattr(forgetting, "load_model", load)
    given: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4}
    train("out", more=[Phase(name="q", kinds=("knowledge_short",), adapter=adapter, **given)])
    assert loaded == [(student, adapter, compute_dtype())]
    [line] = (tmp_path / "out" / "02-q" / "evaluations.jsonl").read_text().splitlines()
    assert json.loads(line)["more"]["kl_new"] > 0


def test_where_no_divergence_is_measured_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    setup: Any = SimpleNamespace(
        phase=Phase(name="p", kinds=("skill",)),
        config=Config.model_validate({"train": {"processes": 2, "distributed": "zero2"}}),
        watch=SimpleNamespace(say=said.append),
        tokenizer=SimpleNamespace(pad_token_id=0),
    )
    Drift(setup, tmp_path / "data.jsonl").ask_parent(None)
    assert said == ["phase p: how far it moves from the parent is not measured under zero2"]


@pytest.mark.slow
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
    given: dict[str, Any] = {"system_prompt": "", "most_tokens": 256, "may_train": lambda _: True, **more}
    return OwnAnswers(
        model=student,
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

    def generate(_folder: Path, conversations: Any, **_: Any) -> list[Said]:
        asked.extend(conversations)
        return [Said(said[conversation[-1].content], NOTHING) for conversation in conversations]

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


@pytest.mark.slow
def test_a_run_replays_what_its_student_says_before_training(
    train: Callable[..., TrainResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter(range(99))  # other answers if it were asked again
    monkeypatch.setattr(
        self_generated, "generate", lambda _, asked, **__: [Said(f"I say {next(told)}.", NOTHING) for _ in asked]
    )
    result = train("out", self_generated=0.5)
    mix = result.phases[0].mix
    assert mix
    assert mix.by_origin["self_generated"].samples == 8
    assert train("out", self_generated=0.5) == result
    assert len(read_entries(tmp_path / "out" / "replay.jsonl")) == 8  # its own answers are not kept for later


@pytest.mark.slow
def test_general_prompts_are_answered_by_the_base_model_once_for_all_runs(
    train: Callable[..., TrainResult], student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def generate(folder: Path, conversations: Sequence[Any], **_: Any) -> list[Said]:
        asked.extend([folder] * len(conversations))
        return [Said("I say nothing.", NOTHING)] * len(conversations)

    monkeypatch.setattr(self_generated, "generate", generate)
    base = shutil.copytree(student, tmp_path / "base"), tmp_path / "answers.jsonl"
    mix = train("first", general=0.5, base=base).phases[0].mix
    assert mix
    assert 0 < mix.by_origin["general"].samples <= 16  # 8 an epoch, those that ask for a number left out
    assert asked == [base[0]] * 16
    again = train("second", general=0.5, base=base).phases[0].mix
    assert again == mix
    assert len(asked) == 16
    later = train("third", Past(cycle=2, after=1), general=0.5, base=base).phases[0].mix
    assert later
    assert later.data_sha256 != mix.data_sha256
    assert set(asked) == {base[0]}
