"""What is drawn for replay, from where, and within which bounds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tilth.core.config import Config
from tilth.core.errors import DataError
from tilth.core.held_out import find_leaks
from tilth.core.jsonl import read_records
from tilth.core.records import Sample
from tilth.eval.general import general_questions
from tilth.train.data import Pool, TrainingItem, TrainingSample
from tilth.train.drawing import ordered
from tilth.train.general import GENERAL_LEAF, general_prompts, read_general
from tilth.train.masking import tokenize
from tilth.train.mix import Ready, Student, make_mixes, select
from tilth.train.plan import Phase, Plan, load_plan
from tilth.train.replay import OwnWords
from tilth.train.replay_buffer import Entry, Past
from tilth.train.settings import Replay


def plan(**replay: Any) -> Plan:
    given: dict[str, Any] = {"batch_size": 8, "learning_rate": 1e-3, "epochs": 1}
    return Plan(phases=(Phase(name="short", kinds=("knowledge_short",), replay=Replay(**replay), **given),))


def drawn(asked: Plan, pool: Pool, **given: Any) -> list[TrainingItem]:
    items = select(asked, 0, pool, 1, **{"tokens_of": lambda _: 10, **given}).items
    return [item for item in items if item.origin != "new"]


def past(items: list[Sample], **more: Any) -> Past:
    entries = {
        item.id: Entry(
            id=item.id, leaf=item.source.leaf, commit="c", cycle=1, phase="p", tokens=9, **{"last_cycle": 1, **more}
        )
        for item in items
    }
    return Past(entries, cycle=9, after=8)


def test_a_budget_bounds_all_sources_in_proportion_to_their_shares(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "general.jsonl"
    file.write_text("".join(conversation(f"Say {n}.") for n in range(60)))
    pool = Pool(make.samples(60), make.samples(60, leaf="old"))
    shares = {"earlier_cycles": 0.4, "general": 0.2, "general_file": str(file)}
    count = Counter(item.origin for item in drawn(plan(**shares), pool))
    assert count == {"earlier_cycle": 60, "general": 30}
    count = Counter(item.origin for item in drawn(plan(**shares, at_most="12 samples"), pool))
    assert count == {"earlier_cycle": 8, "general": 4}
    count = Counter(item.origin for item in drawn(plan(**shares, at_most="300 tokens"), pool))
    assert count == {"earlier_cycle": 20, "general": 10}
    assert len(drawn(plan(**shares, at_most="9000 samples"), pool)) == 90


def replayed(phases: list[dict[str, Any]], pool: Pool) -> set[str]:
    """Ids of what the last phase has of earlier ones."""
    given: dict[str, Any] = {"kinds": ("skill",), "replay": Replay(earlier_phases=0.5)}
    asked = Plan(phases=tuple(Phase(name=f"p{number}", **(given | each)) for number, each in enumerate(phases)))
    items = select(asked, len(phases) - 1, pool, 1, lambda _: 10).items
    return {item.id for item in items if item.origin == "earlier_phase"}


def test_earlier_phases_are_what_they_trained_whatever_its_kind(make: Any) -> None:
    a, b, facts = make.samples(8, kind="skill", leaf="a"), make.samples(8, kind="skill", leaf="b"), make.samples(8)
    pool = Pool([*a, *b, *facts])
    assert replayed([{"leaves": ("a",)}, {"leaves": ("b",)}], pool) == {item.id for item in a}
    assert replayed([{"leaves": ("a",)}, {"kinds": ("knowledge_short",)}], pool) == {item.id for item in a}
    some = replayed([{"share": 0.25}, {"kinds": ("knowledge_short",), "replay": Replay(earlier_phases=0.9)}], pool)
    assert len(some) == 4
    trained = select(Plan(phases=(Phase(name="p0", kinds=("skill",), share=0.25),)), 0, pool, 1, lambda _: 10).items
    assert some == {item.id for item in trained}
    assert replayed([{}, {"leaves": ("a",)}], pool) == {item.id for item in b}  # not what is new in it


def test_a_reward_model_is_no_earlier_phase_of_the_model(make: Any) -> None:
    pairs = [make.pair(f"Why {number}?", "So.", "No.") for number in range(8)]
    pool, later = Pool([*make.samples(8, kind="skill"), *pairs]), make.samples(8)
    reward, preference = {"method": "reward", "kinds": ("preference",)}, {"method": "dpo", "kinds": ("preference",)}
    short = {"kinds": ("knowledge_short",), "leaves": ("**",)}
    assert replayed([reward, short], Pool([*pool.new, *later])) == set()
    assert replayed([reward, {}, preference], pool) == set()  # of no kind that it can use
    assert len(replayed([{}, reward, short], Pool([*pool.new, *later]))) == 8


def test_what_does_not_fit_into_a_budget_is_passed_over(make: Any) -> None:
    old = [make.sample("How long?", "So. " * 300, leaf="old"), *make.samples(30, leaf="old")]
    pool, count = Pool(make.samples(60), old), {old[0].id: 900}
    found = drawn(plan(earlier_cycles=0.5, at_most="100 tokens"), pool, tokens_of=lambda item: count.get(item.id, 20))
    assert len(found) == 5
    asked = [ordered(old, f"{seed}/1/short/earlier_cycle")[0] for seed in range(200)]
    seed = asked.index(old[0])  # it comes first
    [item] = [
        item
        for item in select(
            plan(earlier_cycles=0.5, at_most="25 tokens"), 0, pool, seed, lambda i: count.get(i.id, 20)
        ).items
        if item.origin != "new"
    ]
    assert item.id != old[0].id


def test_a_budget_alone_is_shared_by_earlier_phases_and_earlier_cycles(make: Any) -> None:
    asked = Plan(
        phases=(
            Phase(name="short", kinds=("knowledge_short",), replay=Replay(at_most="9 samples"), epochs=1),
            Phase(name="skills", kinds=("skill",), replay=Replay(at_most="9 samples"), epochs=1),
            Phase(name="long", kinds=("knowledge_long",), replay=Replay(at_most="95 tokens", per_leaf=4)),
        )
    )
    kinds = ("knowledge_short", "skill", "knowledge_long")
    new = [sample for kind in kinds for sample in make.samples(20, kind=kind, leaf=kind)]

    def counts(index: int, pool: Pool) -> Counter[str]:
        return Counter(item.origin for item in select(asked, index, pool, 1, lambda _: 10).items)

    pool = Pool(new, make.samples(20, leaf="old"))
    assert counts(0, pool) == {"new": 20, "earlier_cycle": 9}
    assert counts(1, pool) == {"new": 20, "earlier_phase": 4, "earlier_cycle": 5}
    assert counts(2, pool) == {"new": 20, "earlier_phase": 4, "earlier_cycle": 4}
    assert counts(0, Pool(new)) == {"new": 20}


def test_what_one_source_gives_does_not_hang_on_the_others(make: Any) -> None:
    pool = Pool(make.samples(20), make.samples(60, leaf="old"))
    of_both = Phase(name="b", kinds=("skill",), replay=Replay(earlier_phases=0.4, earlier_cycles=0.2), epochs=1)
    asked = Plan(phases=(Phase(name="a", kinds=("knowledge_short",)), of_both))
    skills = make.samples(20, kind="skill")
    full = Counter(
        item.origin for item in select(asked, 1, Pool(pool.new + skills, pool.earlier), 1, lambda _: 1).items
    )
    assert full == {"new": 20, "earlier_phase": 20, "earlier_cycle": 10}  # two fifths and a fifth of 50
    first = Counter(item.origin for item in select(asked, 1, Pool(pool.new + skills), 1, lambda _: 1).items)
    assert first == {"new": 20, "earlier_phase": 20}  # half of 40: above two fifths, below the three that were asked


def test_each_epoch_replays_the_next_samples_and_the_first_again_after_the_last(make: Any, tmp_path: Path) -> None:
    tokenizer = make.tokenizer(make.chatml, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")
    phase = plan(earlier_cycles=0.2).phases[0].model_copy(update={"epochs": 4})
    pool = Pool(make.samples(16), make.samples(10, leaf="old"))
    [ready] = make_mixes(Plan(phases=(phase,)), pool, Student(tokenizer, 1, 1024), [tmp_path], Config())
    assert isinstance(ready, Ready)
    written = list(read_records(tmp_path / "data.jsonl", TrainingSample))
    assert all(not item.epochs for item in written if item.origin == "new")
    turns = [item.epochs for item in written if item.origin == "earlier_cycle"]
    assert turns == [(1, 3), (1, 3), (1, 4), (1, 4), (2, 4), (2, 4), (2,), (2,), (3,), (3,)]
    assert (ready.mix.total.samples, ready.mix.an_epoch.samples) == (26, 20)
    assert ready.mix.steps == 4 * 3  # 20 samples, 8 at once
    rows = tokenize(tokenizer, written, "")
    tokens = [len(item.epochs or range(4)) * row.tokens for item, row in zip(written, rows, strict=True)]
    assert ready.mix.an_epoch.tokens == round(sum(tokens) / 4)
    epoch, whole = ready.mix.origins_an_epoch, ready.mix.by_origin
    assert {origin: tally.samples for origin, tally in epoch.items()} == {"new": 16, "earlier_cycle": 4}
    assert epoch["new"] == whole["new"]
    assert whole["earlier_cycle"].samples == 10


def test_answers_that_are_dropped_leave_fewer_an_epoch(make: Any) -> None:
    asked = Plan(phases=(plan(general=0.5).phases[0].model_copy(update={"epochs": 2}),))
    pool, few = Pool(make.samples(20)), OwnWords(base=lambda samples: list(samples)[:3])
    [source] = select(asked, 0, pool, 1, lambda _: 10, few).replayed
    assert (len(source.items), source.an_epoch) == (3, 3)


def test_a_source_leaves_the_others_what_they_have_in_an_epoch(make: Any) -> None:
    asked = Plan(phases=(plan(earlier_cycles=0.4, self_generated=0.4).phases[0].model_copy(update={"epochs": 5}),))
    items = drawn(asked, Pool(make.samples(10), make.samples(40, leaf="old")))
    assert Counter(item.origin for item in items) == {"earlier_cycle": 20, "self_generated": 20}
    assert len({item.id for item in items}) == 40


def test_no_leaf_gives_more_than_its_quota(make: Any) -> None:
    pool = Pool(make.samples(60), make.samples(40, leaf="big") + make.samples(3, leaf="small"))
    found = Counter(item.source.leaf for item in drawn(plan(earlier_cycles=0.5, per_leaf=5), pool))
    assert found == {"big": 5, "small": 3}


def test_what_was_trained_longest_ago_and_what_is_hard_is_drawn_rather(make: Any) -> None:
    recent, ancient = make.samples(40, leaf="recent"), make.samples(40, leaf="ancient")
    entries = {**past(recent, last_cycle=8).entries, **past(ancient).entries}
    pool = Pool(make.samples(20), recent + ancient, Past(entries, cycle=9, after=8))
    asked = {"earlier_cycles": 0.5, "weight": "age"}
    assert Counter(item.source.leaf for item in drawn(plan(**asked), pool)) == {"ancient": 18, "recent": 2}  # 8 to 1
    assert Counter(item.source.leaf for item in drawn(plan(earlier_cycles=0.5), pool))["recent"] == 10
    one_leaf = make.samples(60, leaf="old")
    losses = past(one_leaf[:30], loss=0.1).entries | past(one_leaf[30:], loss=4.0).entries
    pool = Pool(make.samples(20), one_leaf, Past(losses, cycle=2, after=1))
    hard = {item.id for item in one_leaf[30:]}
    assert sum(item.id in hard for item in drawn(plan(earlier_cycles=0.5, weight="loss"), pool)) >= 15
    assert len(drawn(plan(earlier_cycles=0.5, weight="loss"), Pool(pool.new, one_leaf))) == 20  # nothing known yet


def test_any_first_part_of_the_order_has_each_leaf_in_proportion(make: Any) -> None:
    pool = make.samples(50, leaf="a") + make.samples(30, leaf="b") + make.samples(20, leaf="c")
    order = ordered(pool, "seed")
    assert ordered(pool[::-1], "seed") == order
    for count in (10, 20, 70):
        found = Counter(item.source.leaf for item in order[:count])
        assert found == {"a": count // 2, "b": count * 3 // 10, "c": count // 5}


def test_own_answers_replace_those_of_prompts_that_are_not_replayed_as_they_are(make: Any) -> None:
    asked: list[Sample] = []

    def own(samples: Any) -> list[Sample]:
        asked.extend(samples)
        return [make.sample(sample.question, "Mine.", leaf="old") for sample in samples]

    pool = Pool(make.samples(20), make.samples(30, leaf="old") + make.samples(9, leaf="old", kind="document"))
    items = drawn(plan(earlier_cycles=0.4, self_generated=0.2), pool, own=OwnWords(student=own))
    assert Counter(item.origin for item in items) == {"earlier_cycle": 20, "self_generated": 10}
    mine = [item for item in items if item.origin == "self_generated"]
    assert {item.answer for item in mine if isinstance(item, Sample)} == {"Mine."}
    assert not {item.id for item in asked} & {item.id for item in items if item.origin == "earlier_cycle"}
    assert {item.kind for item in asked} == {"knowledge_short"}


def test_the_mix_says_what_was_replayed_of_each_leaf_and_out_of_how_much(make: Any, tmp_path: Path) -> None:
    tokenizer = make.tokenizer(make.chatml, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")
    old, older = make.samples(30, leaf="old"), make.samples(10, leaf="older")
    pool = Pool(make.samples(20), old + older, past(older))
    asked = plan(earlier_cycles=0.5, weight="age", at_most="1000 tokens")
    [ready] = make_mixes(asked, pool, Student(tokenizer, 1_000_000, 1024), [tmp_path], Config())
    assert isinstance(ready, Ready)
    told = ready.mix.replayed["earlier_cycle"]
    assert {leaf: each.available for leaf, each in told.items()} == {"old": 270.0, "older": 80.0}  # never, and long ago
    written = [s for s in read_records(tmp_path / "data.jsonl", TrainingSample) if s.origin == "earlier_cycle"]
    assert Counter(s.source.leaf for s in written) == {leaf: each.samples for leaf, each in told.items()}
    assert 900 < sum(each.tokens for each in told.values()) <= 1000
    again = make_mixes(asked, pool, Student(tokenizer, 1_000_000, 1024), [tmp_path], Config())
    assert again == [ready]


# A general instruction set -------------------------------------------------------------------------------------------


def conversation(*turns: str) -> str:
    roles = ("user", "assistant") * len(turns)
    said = (*turns, "Yes.") if len(turns) % 2 else turns
    messages = [{"role": role, "content": content} for role, content in zip(roles, said, strict=False)]
    return json.dumps({"messages": messages, "source": "elsewhere"}) + "\n"


def test_without_a_file_the_base_model_answers_prompts_of_ours(make: Any) -> None:
    asked: list[Sample] = []

    def base(samples: Any) -> list[Sample]:
        asked.extend(samples)
        return [make.sample(sample.question, "Mine.", leaf=sample.source.leaf) for sample in samples]

    pool = Pool(make.samples(30))
    items = drawn(plan(general=0.25), pool, own=OwnWords(base=base))
    assert {item.origin for item in items} == {"general"}
    assert len(asked) == 10 >= len(items)  # those that ask for a number have none
    assert {item.answer for item in items if isinstance(item, Sample)} == {"Mine."}
    assert {item.id for item in asked} <= {prompt.id for prompt in general_prompts()}
    later = drawn(plan(general=0.25), Pool(make.samples(30), past=Past(cycle=2, after=1)), own=OwnWords(base=base))
    assert {item.source.leaf for item in later} == {GENERAL_LEAF}
    assert {item.id for item in asked[:10]} != {item.id for item in asked[10:]}  # another cycle draws others


def test_a_wrong_sum_of_the_base_model_is_not_replayed(make: Any) -> None:
    def base(samples: Any) -> list[Sample]:
        said = {"6 + 9 = ?": "6 + 9 = 14", "2 + 5 = ?": "2 + 5 is 7."}
        return [make.sample(sample.question, said.get(sample.question, "0")) for sample in samples]

    asked = Plan(phases=(plan(general=0.9).phases[0].model_copy(update={"epochs": 99}),))
    items = drawn(asked, Pool(make.samples(30)), own=OwnWords(base=base))
    questions = {item.question for item in items if isinstance(item, Sample)}
    assert len(items) > 200
    assert questions.isdisjoint({"6 + 9 = ?", "14 - 9 = ?"})
    assert "2 + 5 = ?" in questions


def test_no_general_prompt_is_in_the_set_that_measures() -> None:
    prompts = general_prompts()
    assert len({prompt.question.casefold() for prompt in prompts}) == len(prompts) > 200
    assert find_leaks(general_questions(), prompts) == []


def test_a_general_set_is_read_once_each_and_beside_its_plan(tmp_path: Path) -> None:
    lines = [conversation("Hello?"), conversation("One?", "1.", "Two?", "2."), "\n", conversation("Hello?")]
    (tmp_path / "general.jsonl").write_text("".join(lines))
    samples = read_general(tmp_path / "general.jsonl")
    assert [len(sample.messages) for sample in samples] == [2, 4]
    assert {sample.source.leaf for sample in samples} == {GENERAL_LEAF}
    replay = "{general: 0.1, general_file: general.jsonl}"
    (tmp_path / "plan.yaml").write_text(f"phases: [{{name: a, kinds: [skill], replay: {replay}}}]")
    assert load_plan(tmp_path / "plan.yaml").phases[0].replay.general_file == str(tmp_path / "general.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", r"general.jsonl:2: not a conversation: .*messages.*; write each line as"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "do not speak in turn"),
        ('{"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "a"}]}', "is empty"),
        ("what?", "not a conversation"),
    ],
)
def test_a_general_set_that_is_none_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "general.jsonl"
    file.write_text(conversation("Hello?") + line + "\n")
    with pytest.raises(DataError, match=message):
        read_general(file)
    with pytest.raises(DataError, match=r"nowhere.jsonl: cannot be read .*; set replay.general_file"):
        read_general(tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"general_file": "a.jsonl", "earlier_cycles": 0.1}, "is their share: write that too"),
        ({"weight": "age"}, "nothing is replayed"),
        ({"per_leaf": 3}, "nothing is replayed.*or `at_most` a budget"),
        ({"earlier_cycles": 0.6, "self_generated": 0.4}, "less than 1"),
        ({"earlier_cycles": 0.6, "at_most": "many"}, "at_most"),
    ],
)
def test_a_replay_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Replay(**settings)


def test_own_answers_are_for_supervised_phases() -> None:
    with pytest.raises(ValidationError, match="are for sft"):
        Phase(name="p", method="dpo", kinds=("preference",), replay=Replay(self_generated=0.1))


def test_a_budget_counts_the_answers_that_models_gave(make: Any) -> None:
    asked = plan(general=0.4, at_most="500 tokens")
    long = OwnWords(base=lambda samples: [make.sample(item.messages[0].content, "word " * 80) for item in samples])

    def words(item: Any) -> int:
        return sum(len(message.content.split()) for message in item.messages)

    items = select(asked, 0, Pool(make.samples(30)), 1, words, long).items
    assert 0 < sum(words(item) for item in items if item.origin == "general") <= 500
