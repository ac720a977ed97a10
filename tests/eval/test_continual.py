import math
import random

import pytest
from tilth.core.rate import Rate, wilson
from tilth.eval.continual import Matrix, Row, Summary, summarise


def row(name: str, first: str, **correct: int | None) -> Row:
    """Twenty questions a leaf."""
    rates = {leaf: None if count is None else wilson(count, 20) for leaf, count in correct.items()}
    return Row(name=name, first_trained=tuple(first.split()), rates=rates)


BASE = row("base", "", a=2, b=0, c=1, d=0)
FIRST = row("release 1", "a", a=18, b=2, c=1, d=0)
SECOND = row("release 2", "b c", a=19, b=20, c=16, d=3)
THIRD = row("release 3", "d", a=14, b=20, c=17, d=19)
MATRIX = Matrix(base=BASE, rows=(FIRST, SECOND, THIRD))


def test_each_number_is_what_its_paper_says():
    found = summarise(MATRIX, seed=1)
    assert MATRIX.tasks == ("a", "b", "c", "d")
    assert terms(found) == {
        "average_accuracy": {"a": 14, "b": 20, "c": 17, "d": 19},
        "learning_accuracy": {"a": 18, "b": 20, "c": 16, "d": 19},
        "backward_transfer": {"a": -4, "b": 0, "c": 1},
        "forward_transfer": {"b": 2, "c": 0, "d": 3},
        "forgetting": {"a": 5, "b": 0, "c": -1},
    }
    assert found.average_accuracy is not None
    assert found.average_accuracy.value == pytest.approx(70 / 80)
    assert found.forgetting is not None
    assert found.forgetting.value == pytest.approx(4 / 60)


def test_what_was_not_measured_is_in_no_mean():
    """`c` was added in cycle 2 and could not be asked before; `a` was removed in cycle 3; of `d` nothing was asked."""
    first = row("release 1", "a", a=18, b=2, c=None)
    third = Row(name="release 3", first_trained=("d",), rates={"b": wilson(19, 20), "c": wilson(8, 20), "d": nothing()})
    found = summarise(Matrix(base=BASE, rows=(first, SECOND, third)), seed=1)
    assert terms(found) == {
        "average_accuracy": {"b": 19, "c": 8},
        "learning_accuracy": {"a": 18, "b": 20, "c": 16},
        "backward_transfer": {"b": -1, "c": -8},
        "forward_transfer": {"b": 2, "d": 3},
        "forgetting": {"b": 1, "c": 8},
    }


def test_after_one_cycle_nothing_can_be_forgotten():
    found = summarise(Matrix(base=BASE, rows=(row("release 1", "a b", a=18, b=20),)), seed=1)
    assert terms(found) == {"average_accuracy": {"a": 18, "b": 20}, "learning_accuracy": {"a": 18, "b": 20}}
    assert terms(summarise(Matrix(base=BASE, rows=()), seed=1)) == {}


def test_forgetting_counts_from_the_best_release_even_before_the_leaf_was_trained():
    known = row("release 1", "a", a=18, b=19)
    forgotten = row("release 3", "c", a=18, b=12, c=20)
    found = summarise(Matrix(base=BASE, rows=(known, row("release 2", "b", a=18, b=15), forgotten)), seed=1)
    assert terms(found)["forgetting"] == {"a": 0, "b": 7}


def test_intervals_hold_the_value_and_end_where_a_share_does():
    for name, low in (("average_accuracy", 0), ("learning_accuracy", 0), ("backward_transfer", -1), ("forgetting", -1)):
        found = getattr(summarise(MATRIX, seed=1), name)
        assert low <= found.low < found.value < found.high <= 1
    only = summarise(Matrix(base=BASE, rows=(FIRST,)), seed=1).average_accuracy
    assert only is not None
    assert (only.low, only.high) == (0, 1)  # how leaves differ is not known from one


def test_leaves_that_are_all_alike_leave_what_their_questions_leave_open():
    """The spread over leaves is 0; what remains is the published interval of 56 of 70 less 48 of 80, for two leaves.

    Newcombe 1998 (Statistics in Medicine 17:873-890), table II, method 10.
    """
    before = Row(name="release 1", first_trained=("a", "b"), rates=dict.fromkeys("ab", wilson(48, 80)))
    after = Row(name="release 2", rates=dict.fromkeys("ab", wilson(56, 70)))
    found = summarise(Matrix(base=BASE, rows=(before, after)), seed=1).backward_transfer
    assert found is not None
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.2 - (0.2 - 0.0524) / math.sqrt(2), abs=5e-5)
    assert found.high == pytest.approx(0.2 + (0.3339 - 0.2) / math.sqrt(2), abs=5e-5)


def test_a_higher_level_is_wider_and_the_same_seed_the_same():
    narrow, wide = summarise(MATRIX, seed=1, level=0.8).forgetting, summarise(MATRIX, seed=1, level=0.99).forgetting
    assert narrow is not None
    assert wide is not None
    assert wide.low < narrow.low < narrow.high < wide.high
    assert summarise(MATRIX, seed=1) == summarise(MATRIX, seed=1)


@pytest.mark.slow
def test_intervals_cover_the_accuracy_and_the_change_over_all_leaves():
    """Five leaves from a world in which they differ, twenty questions each; a cycle later about a tenth is lost."""
    draw = random.Random(4)
    runs = 200
    covered = {"average_accuracy": 0, "backward_transfer": 0}
    for _ in range(runs):
        learned = [draw.betavariate(16, 4) for _ in range(5)]
        kept = [share * draw.betavariate(18, 2) for share in learned]
        leaves = [f"leaf {place}" for place in range(5)]
        rows = (asked(draw, leaves, learned, first=True), asked(draw, leaves, kept, first=False))
        found = summarise(Matrix(base=BASE, rows=rows), seed=1)
        for name, truth in (("average_accuracy", 0.8 * 0.9), ("backward_transfer", -0.8 * 0.1)):
            covered[name] += getattr(found, name).low <= truth <= getattr(found, name).high
    assert min(covered.values()) / runs >= 0.94


def asked(draw: random.Random, leaves: list[str], shares: list[float], *, first: bool) -> Row:
    rates = {
        leaf: wilson(sum(draw.random() < share for _ in range(20)), 20)
        for leaf, share in zip(leaves, shares, strict=True)
    }
    return Row(name="release", first_trained=tuple(leaves) if first else (), rates=rates)


def nothing() -> Rate:
    return wilson(0, 0)


def terms(summary: Summary) -> dict[str, dict[str, int]]:
    """In questions of twenty."""
    found = {name: getattr(summary, name) for name in Summary.model_fields}
    return {
        name: {leaf: round(value * 20) for leaf, value in estimate.terms.items()}
        for name, estimate in found.items()
        if estimate is not None
    }
