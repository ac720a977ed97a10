from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tilth.core.config import Config
from tilth.core.errors import CheckFailed
from tilth.core.jsonl import read_records
from tilth.core.yaml_source import YamlProblems
from tilth.train.data import Pool, TrainingSample
from tilth.train.mix import Ready, Student, make_mixes
from tilth.train.plan import Phase, Plan, load_plan
from tilth.train.selection import (
    LEAST,
    Evaluation,
    best,
    chosen_in_words,
    ends_early,
    held_back,
    in_words,
    kept,
    over_fitting_since,
)
from tilth.train.settings import Replay, Selection


def phase(name: str = "short", *kinds: Any, **settings: Any) -> Phase:
    given: dict[str, Any] = {"batch_size": 8, "micro_batch_size": 8, "max_length": 256, "learning_rate": 1e-3}
    return Phase(name=name, kinds=kinds or ("knowledge_short",), **(given | settings))


def plan(*phases: Phase) -> Plan:
    return Plan(phases=phases)


def evaluations(validation: list[float], training: list[float] | None = None) -> list[Evaluation]:
    falling = training or [1.0 - number / 10 for number in range(len(validation))]
    return [
        Evaluation(epoch=number, step=10 * number, training={"loss": own}, validation={"loss": loss, "accuracy": 0.5})
        for number, (loss, own) in enumerate(zip(validation, falling, strict=True), start=1)
    ]


def test_a_share_of_each_leaf_is_held_back_whatever_the_order(make: Any) -> None:
    items = [
        make.sample(f"Q{leaf}.{fact}.{form}?", "A.", leaf=leaf, fact=str(fact))
        for leaf, facts in (("a", 20), ("b", 10))
        for fact in range(facts)
        for form in range(5)
    ]
    asked = plan(phase(select=Selection(validation=0.2)))
    held = held_back(asked, items, 1)
    assert Counter(item.source.leaf for item in items if item.id in held) == {"a": 20, "b": 10}
    assert held == held_back(asked, items[::-1], 1) != held_back(asked, items, 2)


def test_no_fact_loses_its_only_sample(make: Any) -> None:
    items = [make.sample(f"Q{fact}?", "A.", fact=str(fact)) for fact in range(30)]
    items += [make.sample(f"Q{fact} again?", "A.", fact=str(fact)) for fact in range(6)]
    held = held_back(plan(phase(select=Selection(validation=0.5))), items, 1)
    assert len(held) == 6
    assert {item.source.fact for item in items if item.id not in held} == {str(fact) for fact in range(30)}


def test_by_default_a_twentieth_is_held_back_where_that_is_enough_to_choose_by(make: Any) -> None:
    assert held_back(plan(phase()), make.samples(20 * LEAST - 20), 1) == frozenset()
    assert len(held_back(plan(phase()), make.samples(20 * LEAST), 1)) == LEAST
    asked = phase(select=Selection(by="validation_loss"))
    assert len(held_back(plan(asked), make.samples(60), 1)) == 12
    assert held_back(plan(phase(select=Selection(by="last"))), make.samples(2000), 1) == frozenset()


def mixes(asked: Plan, pool: Pool, make: Any, out: Path) -> list[Ready]:
    tokenizer = make.tokenizer(make.chatml, ("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")
    folders = [out / each.name for each in asked.phases]
    made = make_mixes(asked, pool, Student(tokenizer, 1_000_000, 1024), folders, Config())
    return [each for each in made if isinstance(each, Ready)]


def ids(file: Path) -> set[str]:
    return {sample.id for sample in read_records(file, TrainingSample)}


def test_what_one_phase_measures_by_no_phase_trains_or_replays(make: Any, tmp_path: Path) -> None:
    short = phase(select=Selection(validation=0.25), replay=Replay(earlier_cycles=0.5))
    again = phase("again", "knowledge_short", "skill", replay=Replay(earlier_cycles=0.2))
    last = phase("last", "knowledge_long", replay=Replay(earlier_phases=0.9))
    kinds = ("knowledge_short", "skill", "knowledge_long")
    new = [sample for kind in kinds for sample in make.samples(40, kind=kind, leaf=kind)]
    pool = Pool(new, make.samples(100, leaf="old"))
    made = mixes(plan(short, again, last), pool, make, tmp_path)
    held = ids(tmp_path / "short" / "validation.jsonl")
    assert len(held) == made[0].mix.validation.samples == 10
    for name in ("short", "again", "last"):
        assert not held & ids(tmp_path / name / "data.jsonl")
    assert (made[0].mix.by_origin["new"].samples, made[0].mix.an_epoch.samples) == (30, 60)
    assert held == ids(tmp_path / "again" / "validation.jsonl")  # of what it is about, it measures by the same
    assert not (tmp_path / "last" / "validation.jsonl").exists()
    assert [each.phase.select.by for each in made] == ["last"] * 3
    assert made[0].auto["select"] == "last (10 of 40 new samples held back, to choose takes 64)"


def test_what_is_held_back_of_a_share_is_part_of_it(make: Any, tmp_path: Path) -> None:
    tenth = phase(share=0.1, select=Selection(by="validation_loss", validation=0.5))
    [ready] = mixes(plan(tenth), Pool(make.samples(200), []), make, tmp_path)
    assert (ready.mix.total.samples, ready.mix.validation.samples, ready.phase.select.validation) == (10, 10, 0.5)


def test_enough_held_back_selects_by_it_and_says_so(make: Any, tmp_path: Path) -> None:
    [ready] = mixes(plan(phase(select=Selection(validation=0.5))), Pool(make.samples(130), []), make, tmp_path)
    assert (ready.phase.select.by, ready.phase.select.validation) == ("validation_loss", 0.5)
    assert ready.auto["select"] == "validation_loss (65 of 130 new samples held back)"
    assert ready.mix.total.samples == 65


def test_selection_by_what_cannot_be_held_back_is_refused(make: Any, tmp_path: Path) -> None:
    asked = plan(phase(select=Selection(by="validation_loss")))
    facts = [make.sample(f"What is {fact}?", "It.", fact=str(fact)) for fact in range(30)]
    with pytest.raises(CheckFailed, match="each is the only one of its fact; "):
        mixes(asked, Pool(facts, []), make, tmp_path)
    with pytest.raises(
        CheckFailed, match=r"'short': none of its 1 new samples can .* only one of its fact; let .*by: last"
    ):
        mixes(asked, Pool(make.samples(1), []), make, tmp_path)


@pytest.mark.parametrize(("count", "held"), [(2, 1), (9, 1), (60, 12), (900, 64)])
@pytest.mark.slow
def test_selection_by_validation_loss_has_what_it_needs_at_any_size(
    make: Any, tmp_path: Path, count: int, held: int
) -> None:
    asked = plan(phase(select=Selection(by="validation_loss")))
    [ready] = mixes(asked, Pool(make.samples(count), []), make, tmp_path)
    assert (ready.mix.validation.samples, ready.mix.total.samples) == (held, count - held)
    assert ready.phase.select.by == "validation_loss"


def test_the_best_epoch_is_the_first_with_the_lowest_loss_or_the_most_right() -> None:
    measured = evaluations([3.0, 2.0, 2.0, 2.5])
    assert best(measured, Selection(by="last")) is None
    found = best(measured, Selection(by="validation_loss"))
    assert found is not None
    assert found.epoch == 2
    asked = [each.model_copy(update={"held_out": right}) for each, right in zip(measured, (4, 7, 9, 9), strict=True)]
    found = best(asked, Selection(by="held_out"))
    assert found is not None
    assert found.epoch == 3


def test_as_many_of_the_best_epochs_are_kept_as_the_plan_says() -> None:
    measured = evaluations([3.0, 2.0, 2.0, 2.5])
    kept_of = [[each.epoch for each in kept(measured, Selection(by="validation_loss", keep=k))] for k in (1, 3, 9)]
    assert kept_of == [[2], [2, 3, 4], [2, 3, 4, 1]]
    assert kept(measured, Selection(by="last")) == []
    asked = phase(epochs=4, select=Selection(by="validation_loss", keep=3))
    assert chosen_in_words(measured[:3], asked).partition("; ")[2].startswith("beside it model-epoch-3, model-epoch-1;")
    last = phase(epochs=2, select=Selection(by="validation_loss"))
    assert chosen_in_words(measured[:2], last) == ""


def test_patience_is_counted_from_the_best_epoch() -> None:
    patient = Selection(by="validation_loss", patience=2)
    measured = evaluations([3.0, 2.0, 2.1, 2.0])
    assert [ends_early(measured[:epochs], patient) for epochs in range(5)] == [False, False, False, False, True]
    assert not ends_early(measured, Selection(by="validation_loss"))


@pytest.mark.parametrize(
    ("validation", "training", "since"),
    [
        ([3.0, 2.0, 2.1, 2.2], None, 3),
        ([3.0, 2.0, 2.1], None, 0),  # once may be chance
        ([3.0, 2.0, 2.1, 2.2, 2.1], None, 0),  # it is over
        ([2.0, 2.1, 2.0, 2.1, 2.2], None, 4),
        ([3.0, 2.0, 2.1, 2.2], [1.0, 0.9, 0.9, 1.0], 0),  # no over-fitting: it gets worse at both
        ([3.0], None, 0),
    ],
)
def test_over_fitting_is_a_rising_loss_where_the_trained_one_falls(
    validation: list[float], training: list[float] | None, since: int
) -> None:
    assert over_fitting_since(evaluations(validation, training)) == since


def test_an_epoch_is_told_in_a_line() -> None:
    measured = evaluations([3.0, 2.0, 2.1, 2.25])
    assert in_words(measured, phase(epochs=6)) == (
        "phase short, epoch 4 of 6: loss 0.700 on training; loss 2.250 (50% right) on samples held back; "
        "over-fitting since epoch 3"
    )
    patient = phase(epochs=6, select=Selection(by="validation_loss", patience=2))
    assert chosen_in_words(measured, patient) == (
        "phase short: the model is that of epoch 2 of 6 (its lowest validation loss); training ended after epoch 4, "
        "none having been better since"
    )
    assert chosen_in_words(measured, phase(select=Selection(by="last"))) == ""


def test_of_a_phase_that_learns_from_answers_it_is_told_whether_the_reward_rises() -> None:
    earned = [
        Evaluation(epoch=epoch, step=epoch, training={"loss": -0.02, "reward": reward}, more={"kl_new": 0.1})
        for epoch, reward in ((1, -0.77), (2, -0.34))
    ]
    ppo = phase(epochs=2, method="ppo", rollout={"rewards": [{"answer": "exact"}]})
    assert in_words(earned, ppo) == (
        "phase short, epoch 2 of 2: reward -0.340 on its own answers (-0.770 in epoch 1), loss -0.020; "
        "moved 0.100 from the parent"
    )
    assert in_words(earned[:1], ppo).startswith("phase short, epoch 1 of 2: reward -0.770 on its own answers, loss ")
    unknown = earned[0].model_copy(update={"training": {"loss": -0.02}})
    assert in_words([unknown, earned[1]], ppo).startswith(
        "phase short, epoch 2 of 2: reward -0.340 on its own answers, "
    )
    distilled = [each.model_copy(update={"training": {"loss": 0.5}}) for each in earned]
    taught = phase(epochs=2, method="distill", distill={"teacher": "/teacher"})
    assert ": loss 0.500 on its own answers; moved " in in_words(distilled, taught)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("select: {by: validation_loss, validation: 0}", "needs a `validation` share above 0"),
        ("select: {patience: 2}", "patience needs `by: validation_loss` or `by: held_out`"),
        ("select: {by: last, keep: 2}", "keep needs `by: validation_loss` or `by: held_out`"),
        ("select: {validation: 0.6}", "validation is 0.6"),
        (
            "method: grpo\n    rollout: {rewards: [{answer: exact}]}\n    select: {by: validation_loss}",
            "grpo learns from answers of its own",
        ),
        ("method: reward\n    kinds: [preference]\n    select: {by: held_out}", "answers no held-out question"),
    ],
)
def test_a_selection_that_cannot_be_is_refused(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "plan.yaml"
    kinds = "" if "kinds" in line else "    kinds: [skill]\n"
    file.write_text(f"phases:\n  - name: one\n    learning_rate: 1.0e-5\n{kinds}    {line}\n")
    with pytest.raises(YamlProblems, match=message):
        load_plan(file)


@pytest.mark.parametrize("seed", range(4))
def test_no_fact_loses_all_its_samples_where_phases_overlap(make: Any, seed: int) -> None:
    items = [make.sample(f"Q{fact}.{form}?", "A.", fact=str(fact)) for fact in range(30) for form in range(2)]
    half = Selection(by="validation_loss", validation=0.5)
    both = plan(phase("one", select=half), phase("two", "knowledge_short", "knowledge_long", select=half))
    left = {item.source.fact for item in items if item.id not in held_back(both, items, seed)}
    assert len(left) == 30


def test_what_is_held_back_of_few_samples_is_no_more_than_a_plan_may_ask(make: Any, tmp_path: Path) -> None:
    asked = plan(phase(select=Selection(by="validation_loss", validation=0.5)))
    [ready] = mixes(asked, Pool(make.samples(5), []), make, tmp_path)
    assert ready.mix.validation.samples == 3
    assert Selection.model_validate(ready.phase.select.model_dump()) == ready.phase.select
