from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tilth.core.config import Config, Student, Train
from tilth.core.errors import CheckFailed
from tilth.core.jsonl import read_records
from tilth.train.auto import Resolved
from tilth.train.data import Files, Pool, TrainingInputs, TrainingItem, TrainingSample
from tilth.train.drawing import draw
from tilth.train.mix import Mix, Ready, Skipped, in_words, make_mixes, read_rows, select
from tilth.train.mix import Student as Model
from tilth.train.order import epoch_order
from tilth.train.phase import Models, PhaseJob
from tilth.train.plan import Phase, Plan, Replay
from tilth.train.tally import Tally


@pytest.fixture(scope="module")
def tokenizer(make: Any) -> Any:
    return make.tokenizer(make.chatml, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")


def phase(name: str, *kinds: Any, **settings: Any) -> Phase:
    given: dict[str, Any] = {"batch_size": 8, "micro_batch_size": 8, "max_length": 1024, "epochs": 1, **settings}
    return Phase(name=name, kinds=kinds, **{"learning_rate": 1e-3, **given})


PLAN = Plan(
    phases=(
        phase("short", "knowledge_short", replay=Replay(earlier_cycles=0.25)),
        phase("long", "knowledge_long", replay=Replay(earlier_phases=0.2, earlier_cycles=0.3)),
        phase("skills", "skill", replay=Replay(earlier_phases=0.5)),
    )
)


def selected(index: int, pool: Pool) -> list[TrainingItem]:
    return select(PLAN, index, pool, 1, lambda _: 1).items


def mix_all(plan: Plan, samples: Pool, tokenizer: Any, out: Path, config: Config | None = None) -> list[Any]:
    folders = [out / phase.name for phase in plan.phases]
    student = Model(tokenizer, 1_000_000, tokenizer.model_max_length)
    made = make_mixes(plan, samples, student, folders, config or Config())
    return [each.mix if isinstance(each, Ready) else each for each in made]


def test_replay_shares_are_shares_of_the_whole_phase(make: Any) -> None:
    new = make.samples(60) + make.samples(30, kind="knowledge_long") + make.samples(20, kind="skill")
    earlier = make.samples(40, leaf="old") + make.samples(40, leaf="old", kind="skill")
    samples = Pool(new, earlier)
    origins = [Counter(s.origin for s in selected(index, samples)) for index in range(3)]
    assert origins[0] == {"new": 60, "earlier_cycle": 20}  # 20 of 80 are a quarter
    assert origins[1] == {"new": 30, "earlier_phase": 12, "earlier_cycle": 18}  # of 60: a fifth, three tenths
    assert origins[2] == {"new": 20, "earlier_phase": 20}
    everything = [selected(index, samples) for index in range(3)]
    assert all(len({s.id for s in phase}) == len(phase) for phase in everything)
    assert {s.kind for s in everything[1] if s.origin == "earlier_phase"} == {"knowledge_short"}
    assert {s.kind for s in everything[1] if s.origin == "earlier_cycle"} == {"knowledge_short", "skill"}


def test_replay_is_capped_by_what_exists_and_repeats_nothing(make: Any) -> None:
    items = selected(0, Pool(make.samples(60), make.samples(5, leaf="old")))
    assert Counter(s.origin for s in items) == {"new": 60, "earlier_cycle": 5}


def test_the_draw_follows_the_seed_and_not_the_order_of_the_pool(make: Any) -> None:
    pool = make.samples(50)
    assert draw(pool, 10, "a") == draw(pool[::-1], 10, "a") != draw(pool, 10, "b")


def test_the_draw_gives_each_leaf_its_share_and_each_fact_its_turn(make: Any) -> None:
    pool = make.samples(30, leaf="big") + make.samples(15, leaf="small")
    pool += [
        make.sample(f"Q{fact}.{form}?", "A.", leaf="facts", fact=str(fact)) for fact in range(5) for form in range(9)
    ]
    drawn = draw(pool, 12, "a")
    assert Counter(s.source.leaf for s in drawn) == {"big": 4, "facts": 6, "small": 2}
    assert len({s.source.fact for s in drawn if s.source.leaf == "facts"}) == 5


def test_a_sample_of_this_cycle_is_not_an_earlier_one_too(make: Any, tmp_path: Path) -> None:
    new = make.file(tmp_path / "new.jsonl", make.samples(4), make.samples(4))
    earlier = make.file(tmp_path / "old.jsonl", make.samples(6))
    samples = Pool.read(TrainingInputs(Path(), Files([new, new]), Files([earlier])))
    assert (len(samples.new), len(samples.earlier)) == (4, 2)


def test_a_sample_is_of_its_leaf_as_that_is_called_now(make: Any, tmp_path: Path) -> None:
    moved, other = tmp_path / "moved", tmp_path / "other"
    moved.mkdir()
    other.mkdir()
    new = make.file(moved / "samples.jsonl", make.samples(2, leaf="a/old"))
    pairs = make.file(moved / "preferences.jsonl", [make.pair("Q?", "Yes.", "No.", leaf="a/old")])
    files = Files([new, make.file(other / "samples.jsonl", make.samples(4, leaf="b"))], [pairs], {moved: "a/new"})
    items = Pool.read(TrainingInputs(Path(), files)).new
    assert Counter((item.kind, item.source.leaf) for item in items) == {
        ("knowledge_short", "a/new"): 2,
        ("preference", "a/new"): 1,
        ("knowledge_short", "b"): 4,
    }


def test_the_manifest_counts_what_the_file_holds(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples = Pool(make.samples(8) + make.samples(6, kind="knowledge_long", leaf="b"), make.samples(9, leaf="old"))
    mixes = mix_all(PLAN, samples, tokenizer, tmp_path)
    mix = mixes[1]
    assert isinstance(mix, Mix)
    assert mix == Mix.model_validate(json.loads((tmp_path / "long" / "mix.json").read_text()))
    written = list(read_records(tmp_path / "long" / "data.jsonl", TrainingSample))
    assert mix.total.samples == len(written) == 6 + 2 + 4
    assert {name: tally.samples for name, tally in mix.by_origin.items()} == Counter(s.origin for s in written)
    assert {name: tally.samples for name, tally in mix.by_kind.items()} == Counter(s.kind for s in written)
    assert {name: tally.samples for name, tally in mix.by_leaf.items()} == Counter(s.source.leaf for s in written)
    for groups in (mix.by_origin, mix.by_kind, mix.by_leaf):
        assert sum(tally.tokens for tally in groups.values()) == mix.total.tokens
    trained = sum(len(s.answer.encode()) + 1 for s in written)  # a token per byte, and the end of the turn
    assert mix.total.trained_tokens == trained
    assert mix.steps == 2


def test_a_phase_without_new_samples_is_skipped_with_the_reason(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    mixes = mix_all(PLAN, Pool(make.samples(4), make.samples(9, leaf="old")), tokenizer, tmp_path)
    assert [type(mix) for mix in mixes] == [Mix, Skipped, Skipped]
    assert mixes[2].reason == "no new sample of kind skill"
    assert not (tmp_path / "skills").exists()


def test_the_reason_names_a_pattern_without_leaves_and_who_makes_what_is_missing(
    make: Any, tokenizer: Any, tmp_path: Path
) -> None:
    phases = (
        phase("short", "knowledge_short"),
        phase("misspelt", "knowledge_short", leaves=("knowlege/**", "b")),
        phase("elsewhere", "skill", leaves=("old",)),
        phase("texts", "document"),
    )
    mixes = mix_all(Plan(phases=phases), Pool(make.samples(4), make.samples(9, leaf="old")), tokenizer, tmp_path)
    assert [mix.reason for mix in mixes if isinstance(mix, Skipped)] == [
        "no leaf that has samples matches 'knowlege/**' or 'b'",
        "no new sample of kind skill in a leaf that matches 'old'",
        "no new sample of kind document; recipe `standard` makes some",
    ]


def test_nothing_to_train_at_all_is_refused(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples = Pool(make.samples(3, kind="document"), make.samples(9, leaf="old"))
    with pytest.raises(CheckFailed, match=r"no new sample of any kind and leaf that the plan trains .*; generate"):
        mix_all(PLAN, samples, tokenizer, tmp_path)


def test_too_much_that_is_too_long_is_refused_with_the_number_and_the_fix(make: Any, tmp_path: Path) -> None:
    tokenizer = make.tokenizer(make.chatml, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")
    samples = Pool([*make.samples(9), make.sample("Why?", "So. " * 40)], [])
    plan = Plan(phases=(phase("short", "knowledge_short", max_length=100),))
    message = r"'short': 1 of 10 samples .* 100 tokens \(the longest \d+\).* \d+\.\d+% .* raise its max_length"
    with pytest.raises(CheckFailed, match=message):
        mix_all(plan, samples, tokenizer, tmp_path)
    tokenizer.model_max_length = 90
    with pytest.raises(CheckFailed, match=r"more than 90 tokens .* all that the model holds"):
        mix_all(plan, samples, tokenizer, tmp_path)


@pytest.mark.parametrize("earlier", [0, 20])
def test_a_phase_that_is_left_with_nothing_new_is_refused_in_a_line(
    make: Any, tokenizer: Any, tmp_path: Path, earlier: int
) -> None:
    new = [make.sample("Why?", "So. " * (40 + i)) for i in range(4)]
    samples = Pool(new, make.samples(earlier, leaf="old"))
    given = {"max_length": 100, "too_long": {"lost_share": 1.0}, "replay": {"earlier_cycles": 0.5}}
    message = "'short': it would train on nothing new: all of its 4 new samples have more than 100 tokens; raise its "
    with pytest.raises(CheckFailed, match=message) as refused:
        mix_all(Plan(phases=(phase("short", "knowledge_short", **given),)), samples, tokenizer, tmp_path)
    given["max_length"] = int(str(refused.value).rsplit(" ", 1)[-1])
    [mix] = mix_all(Plan(phases=(phase("short", "knowledge_short", **given),)), samples, tokenizer, tmp_path)
    assert mix.by_origin["new"].samples == 1
    tokenizer = make.tokenizer(make.chatml, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")
    tokenizer.model_max_length = 100
    with pytest.raises(CheckFailed, match=r"100 is all that the model holds: make the samples shorter$"):
        mix_all(Plan(phases=(phase("short", "knowledge_short", **given),)), samples, tokenizer, tmp_path)


def test_a_row_is_never_longer_than_what_the_model_holds(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples = [*make.samples(20), make.sample("Why?", "So. " * 400)]
    cut = phase("short", "knowledge_short", max_length=1024, too_long={"policy": "cut", "lost_share": 0.9})
    student = Model(tokenizer, 1_000_000, context=256)  # of which the tokenizer knows nothing
    [ready] = make_mixes(Plan(phases=(cut,)), Pool(samples), student, [tmp_path], Config())
    assert isinstance(ready, Ready)
    rows = read_rows(ready.phase, tmp_path / "data.jsonl", tokenizer, "")
    assert max(row.length for row in rows) == ready.phase.max_length == ready.mix.longest == 256
    assert ready.auto["max_length"].startswith("256 instead of 1,024 (all that the model holds")


def test_what_runs_in_each_of_several_processes_is_what_is_told(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples = Pool(make.samples(40))
    config = Config(train=Train(processes=4))
    student = Model(tokenizer, 1_000_000, tokenizer.model_max_length)
    plan = Plan(phases=(phase("short", "knowledge_short"),))
    [ready] = make_mixes(plan, samples, student, [tmp_path], config)
    assert isinstance(ready, Ready)
    assert (ready.phase.batch_size, ready.phase.micro_batch_size, ready.mix.largest.samples) == (8, 2, 2)


def test_a_phase_that_is_done_stays_so_with_more_processes(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    student, plan = Model(tokenizer, 1_000_000, 1024), Plan(phases=(phase("short", "knowledge_short"),))
    parent = Models(parent=tmp_path, parent_sha256="0")
    inputs: list[str] = []
    for processes in (1, 4):
        config = Config(train=Train(processes=processes))
        [ready] = make_mixes(plan, Pool(make.samples(40)), student, [tmp_path], config)
        assert isinstance(ready, Ready)
        inputs.append(PhaseJob(ready, tmp_path, seed=1).inputs(parent))
    assert inputs[0] == inputs[1]


@pytest.mark.parametrize(("method", "same"), [("sft", True), ("rloo", False), ("distill", False), ("ppo", True)])
def test_a_micro_batch_decides_where_answers_are_drawn_by_it(method: str, same: bool, tmp_path: Path) -> None:
    rollout = {"rollout": {"rewards": [{"answer": "exact"}]}} if method in {"rloo", "ppo"} else {}
    taught = {"distill": {"teacher": "parent"}} if method == "distill" else {}
    inputs: set[str] = set()
    for size in (2, 4):
        asked = Resolved(
            name="p", method=method, kinds=("knowledge_short",), batch_size=8, micro_batch_size=size, max_length=64,
            learning_rate=1e-3, **rollout, **taught,
        )  # fmt: skip
        hashes = dict.fromkeys(("data_sha256", "tokens_sha256", "outside_sha256", "validation_sha256"), "")
        ready: Any = SimpleNamespace(phase=asked, mix=SimpleNamespace(**hashes))
        inputs.add(PhaseJob(ready, tmp_path, seed=1).inputs(Models(parent=tmp_path, parent_sha256="0")))
    assert (len(inputs) == 1) == same


def test_the_largest_micro_batch_is_that_of_the_longest_rows(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples = Pool([make.sample("Why?", "So" * (i + 1)) for i in range(20)])
    plan = Plan(phases=(phase("short", "knowledge_short", micro_batch_size=2),))
    [mix] = mix_all(plan, samples, tokenizer, tmp_path)
    assert mix.largest == Tally(samples=2, tokens=2 * mix.longest - 2, trained_tokens=2 * 20 + 2 * 19 + 2)
    assert mix.places == 2 * 20 + 1


def test_a_phase_is_told_in_a_line(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples = [*make.samples(150), make.sample("Why? " * 30, "So.")]
    job = phase("short", "knowledge_short", max_length=100, learning_rate=None, replay={"earlier_cycles": 0.25})
    student = Model(tokenizer, 135_000_000, 1024)
    pool = Pool(samples, make.samples(10, leaf="old"))
    [ready] = make_mixes(Plan(phases=(job,)), pool, student, [tmp_path], Config())
    assert isinstance(ready, Ready)
    total = ready.mix.total
    assert in_words(ready) == (
        f"phase short: 160 samples (10 replayed), {total.tokens:,} tokens an epoch ({total.trained_tokens:,} trained), "
        "20 steps; auto: learning_rate 0.00014, select last; 1 too long, left out"
    )


def test_a_phase_that_would_train_on_no_token_is_refused(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    [sample] = make.samples(1)
    unanswered = sample.model_copy(update={"messages": sample.messages[:1]})
    with pytest.raises(CheckFailed, match="'short': it would train on no token"):
        mix_all(PLAN, Pool([unanswered], []), tokenizer, tmp_path)


def test_what_is_held_back_and_too_long_is_counted(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples = [*make.samples(60), *(make.sample(f"Long {i}?", "word " * 200) for i in range(40))]
    held = {"by": "validation_loss", "validation": 0.5}
    asked = phase("short", "knowledge_short", max_length=100, too_long={"lost_share": 1.0}, select=held)
    [mix] = mix_all(Plan(phases=(asked,)), Pool(samples, []), tokenizer, tmp_path)
    assert mix.validation.samples > 0
    assert mix.total.samples + mix.validation.samples + mix.too_long.samples == 100


def test_a_little_that_is_too_long_is_dropped_and_counted(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples = [*make.samples(150), make.sample("Why? " * 30, "So.")]
    plan = Plan(phases=(phase("short", "knowledge_short", max_length=100),))
    [mix] = mix_all(plan, Pool(samples, []), tokenizer, tmp_path)
    assert (mix.total.samples, mix.too_long.samples, mix.too_long.trained_tokens) == (150, 1, 4)
    assert mix.longest <= 100


def test_the_system_prompt_is_part_of_what_a_mix_is(make: Any, tokenizer: Any, tmp_path: Path) -> None:
    samples, brief = Pool(make.samples(4), []), Config(student=Student(system_prompt="Be brief."))
    plain, prompted = (mix_all(PLAN, samples, tokenizer, tmp_path, config)[0] for config in (None, brief))
    assert plain.data_sha256 == prompted.data_sha256
    assert plain.tokens_sha256 != prompted.tokens_sha256
    assert plain.total.trained_tokens == prompted.total.trained_tokens


def test_an_epoch_visits_every_sample_once_in_an_order_of_its_own() -> None:
    lengths = [index * 7 % 31 for index in range(43)]
    first, second = epoch_order(lengths, 4, 1, 0), epoch_order(lengths, 4, 1, 1)
    assert sorted(first) == sorted(second) == list(range(43))
    assert first == epoch_order(lengths, 4, 1, 0) != second
    batches = [first[start : start + 4] for start in range(0, 40, 4)]
    spread = sum(max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches)
    assert spread < 10 * 12  # a random batch of four spans about 18
