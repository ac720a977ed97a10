import math
import random
from collections.abc import Callable, Iterator
from functools import cache
from statistics import NormalDist, fmean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tilth.core.rate import wilson
from tilth.eval.difference import clustered_interval, paired_difference, questions_needed

ONE_SIDED = 0.9
"""Each end is a bound at 95 %."""


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int, int]:
    total = draw(st.integers(1, 400))
    gained = draw(st.integers(0, total))
    return gained, draw(st.integers(0, total - gained)), total


def test_the_published_example():
    """Bentur et al. 2009, as in Fagerland, Lydersen & Laake 2014 (Statistics in Medicine 33:2850-2875), table V."""
    found = paired_difference(1, 7, 21)
    assert (round(found.value, 3), round(found.low, 3), round(found.high, 3)) == (-0.286, -0.517, -0.026)


@pytest.mark.parametrize("level", [0.8, ONE_SIDED, 0.95, 0.99])
@pytest.mark.slow
def test_the_ends_are_where_the_numerical_score_test_refuses(level: float):
    """No closed form here: the likelihood is maximised by a root finder, and so is the end found."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    for gained, lost, total in [(1, 7, 21), (3, 3, 20), (0, 4, 40), (6, 0, 40), (90, 20, 400), (9, 1, 10)]:
        found = paired_difference(gained, lost, total, level=level)
        assert found.low == pytest.approx(_end(gained, lost, total, z), abs=1e-9)
        assert found.high == pytest.approx(_end(gained, lost, total, -z), abs=1e-9)


def test_the_statistic_is_the_efficient_score():
    """At an end, the slope of the likelihood over its standard error by Fisher's information is the quantile."""
    for gained, lost, total in [(1, 7, 21), (5, 2, 12), (90, 20, 400)]:
        for end in (found := paired_difference(gained, lost, total)).low, found.high:
            more, less = _likeliest(gained, lost, total, end)
            shares = np.array([more, less, 1 - more - less])
            slopes = np.array([[1, 0, -1], [1, 1, -2]])  # of the shares, by the difference and by the share of lost
            score = slopes @ (np.array([gained, lost, total - gained - lost]) / shares)
            information = total * (slopes / shares) @ slopes.T
            assert score[1] == pytest.approx(0, abs=1e-6)
            assert abs(score[0]) * math.sqrt(np.linalg.inv(information)[0, 0]) == pytest.approx(1.959963984540054)


def test_edges():
    square = 1.959963984540054**2
    for total in (1, 12, 100):
        none, all_gained = paired_difference(0, 0, total), paired_difference(total, 0, total)
        assert none.high == pytest.approx(square / (total + square), abs=1e-12)
        assert all_gained.high == 1
        assert all_gained.low == pytest.approx((total - square) / (total + square), abs=1e-12)
        assert paired_difference(0, total, total).low == -1
    nothing = paired_difference(0, 0, 0)
    assert (nothing.value, nothing.low, nothing.high) == (0, -1, 1)


def test_without_losses_the_high_end_is_that_of_a_single_share():
    for gained in range(1, 9):
        assert paired_difference(gained, 0, 40).high == pytest.approx(wilson(gained, 40).high, abs=1e-12)


@pytest.mark.parametrize(("gained", "lost", "total"), [(-1, 0, 3), (0, -1, 3), (2, 2, 3)])
def test_impossible_counts_are_refused(gained: int, lost: int, total: int):
    with pytest.raises(ValueError, match=f"{gained} gained and {lost} lost of {total}"):
        paired_difference(gained, lost, total)


@given(counts(), st.floats(0.01, 0.999))
def test_holds_the_estimate_and_stays_inside(case: tuple[int, int, int], level: float):
    found = paired_difference(*case, level=level)
    assert -1 <= found.low <= found.value <= found.high <= 1


@given(counts())
def test_swapping_the_models_turns_the_interval_round(case: tuple[int, int, int]):
    gained, lost, total = case
    there, back = paired_difference(gained, lost, total), paired_difference(lost, gained, total)
    assert (there.low, there.high, there.value) == (-back.high, -back.low, -back.value)


@given(counts(), st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_a_higher_level_is_wider(case: tuple[int, int, int], one: float, other: float):
    narrow, wide = (paired_difference(*case, level=level) for level in sorted((one, other)))
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@pytest.mark.parametrize("total", [1, 2, 7, 18])
def test_a_question_more_gained_or_less_lost_lowers_no_end(total: int):
    """Of every outcome there is."""
    for gained, lost in _outcomes(total):
        here = paired_difference(gained, lost, total)
        if gained + lost < total:
            better = paired_difference(gained + 1, lost, total)
            assert (here.low < better.low, here.high <= better.high) == (True, True)
        if lost:
            better = paired_difference(gained, lost - 1, total)
            assert (here.low <= better.low, here.high <= better.high) == (True, True)


@given(counts(), st.integers(-500, 500))
def test_as_many_questions_are_needed_as_lift_the_low_end(case: tuple[int, int, int], thousandths: int):
    margin = thousandths / 1000
    found = paired_difference(*case, level=ONE_SIDED)
    needed = questions_needed(found, margin=margin, level=ONE_SIDED)
    assert (needed is None) == (found.value <= margin)
    if needed is None:
        return
    assert (needed == 0) == (found.low > margin)
    wanted = found.total + needed
    enough, short = math.ceil(wanted / found.total), (wanted - 1) // found.total  # times the questions, same shares
    assert paired_difference(*(count * enough for count in case), level=ONE_SIDED).low > margin - 1e-12
    if needed:
        assert paired_difference(*(count * short for count in case), level=ONE_SIDED).low <= margin + 1e-12


def test_questions_needed_examples():
    """No loss of more than a tenth: 25 questions without any flip show it, 24 do not."""
    nothing = paired_difference(0, 0, 0)
    assert questions_needed(nothing, margin=-0.1, level=ONE_SIDED) == 25
    assert questions_needed(paired_difference(0, 0, 12), margin=-0.1, level=ONE_SIDED) == 13
    assert paired_difference(0, 0, 25, level=ONE_SIDED).low > -0.1 > paired_difference(0, 0, 24, level=ONE_SIDED).low
    assert questions_needed(nothing, margin=0, level=ONE_SIDED) is None
    assert questions_needed(paired_difference(2, 3, 100), margin=0, level=ONE_SIDED) is None


@pytest.mark.parametrize(("total", "lowest", "mean"), [(10, 0.91, 0.96), (20, 0.92, 0.955), (40, 0.92, 0.95)])
@pytest.mark.slow
def test_covers_95_percent_whatever_is_true(total: int, lowest: float, mean: float):
    """Exactly, by every outcome: the mean over true shares in steps of 5 points, and the worst of them."""
    lows, highs = _ends(total, 0.95)
    covered = np.array(
        [
            _chances(total, gained, lost)[(lows <= gained - lost + 1e-9) & (gained - lost - 1e-9 <= highs)].sum()
            for gained, lost in _truths(0.05)
        ]
    )
    assert covered.min() >= lowest
    assert mean <= covered.mean() <= 0.97


@pytest.mark.parametrize(("total", "margin"), [(12, 0.1), (20, 0.1), (40, 0.1), (40, 0.05)])
def test_a_loss_of_just_the_margin_is_seldom_let_through(total: int, margin: float):
    """Exactly: the gate's question at significance 0.05, when as much is lost as may not be."""
    lows, _ = _ends(total, ONE_SIDED)
    gained = np.linspace(0, (1 - margin) / 2, 46)
    passed = [_chances(total, share, share + margin)[lows > -margin].sum() for share in gained]
    assert max(passed) <= 0.065
    assert np.mean(passed) <= 0.05


def test_clusters_of_one_question_are_questions():
    draw = random.Random(2)
    values = [draw.choice((-1, 0, 0, 1, 1)) for _ in range(300)]
    low, high = clustered_interval([[value] for value in values], seed=3)
    alone = paired_difference(values.count(1), values.count(-1), 300)
    assert (low, high) == pytest.approx((alone.low, alone.high), abs=0.01)


def test_clusters_that_flip_as_one_count_as_one():
    """Twenty documents of ten questions that all go the same way say as much as twenty questions."""
    draw = random.Random(5)
    flips = [draw.choice((-1, 0, 1)) for _ in range(20)]
    low, high = clustered_interval([[flip] * 10 for flip in flips], seed=3)
    reach = 2.093 * stdev(flips) / math.sqrt(20)  # Student's
    assert (low, high) == pytest.approx((fmean(flips) - reach, fmean(flips) + reach), abs=0.05)
    assert (low, high) == clustered_interval([[flip] for flip in flips], seed=3)


def test_clusters_never_claim_more_than_independent_questions():
    for clusters in ([[0] * 12] * 5, [[1, -1, 0]] * 4, [[1] * 12] * 3):
        values = [value for cluster in clusters for value in cluster]
        alone = paired_difference(values.count(1), values.count(-1), len(values))
        low, high = clustered_interval(clusters, seed=1)
        assert -1 <= low <= alone.low
        assert alone.high <= high <= 1


def test_one_cluster_says_nothing_and_an_empty_one_is_none():
    assert clustered_interval([], seed=1) == (-1, 1)
    assert clustered_interval([[1, 0, 0], []], seed=1) == (-1, 1)
    assert clustered_interval([[1, 0], [], [0, 0, -1]], seed=1) == clustered_interval([[1, 0], [0, 0, -1]], seed=1)


def _end(gained: int, lost: int, total: int, quantile: float) -> float:
    """The difference whose score statistic is `quantile`."""
    observed = (gained - lost) / total

    def excess(difference: float) -> float:
        flips = sum(_likeliest(gained, lost, total, difference))
        return (observed - difference) * math.sqrt(total / (flips - difference**2)) - quantile

    return _root(excess, *((-1 + 1e-12, observed) if quantile > 0 else (observed, 1 - 1e-12)))


def _likeliest(gained: int, lost: int, total: int, difference: float) -> tuple[float, float]:
    """The most likely shares of gained and of lost questions, when they differ by `difference`."""
    more_gained, more_lost, most = max(difference, 0), max(-difference, 0), (1 - abs(difference)) / 2

    def slope(share: float) -> float:
        counts = ((gained, share + more_gained), (lost, share + more_lost), (gained + lost - total, most - share))
        return sum(count / part for count, part in counts if count)

    if gained + lost == total:
        share = most
    elif slope(1e-15 * most) <= 0:
        share = 0.0
    else:
        share = _root(slope, 1e-15 * most, (1 - 1e-12) * most)
    return share + more_gained, share + more_lost


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    found = brentq(function, low, high, xtol=1e-15, rtol=1e-14)
    assert isinstance(found, float)
    return found


def _outcomes(total: int) -> Iterator[tuple[int, int]]:
    return ((gained, lost) for gained in range(total + 1) for lost in range(total + 1 - gained))


@cache
def _ends(total: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    found = [paired_difference(gained, lost, total, level=level) for gained, lost in _outcomes(total)]
    return np.array([item.low for item in found]), np.array([item.high for item in found])


def _chances(total: int, gained: float, lost: float) -> np.ndarray:
    """The probability of each outcome when these shares are true."""
    from scipy.special import gammaln, xlogy

    counts = np.array([(one, other, total - one - other) for one, other in _outcomes(total)])
    shares = np.array([gained, lost, max(0.0, 1 - gained - lost)])
    return np.exp(gammaln(total + 1) + (xlogy(counts, shares) - gammaln(counts + 1)).sum(axis=1))


def _truths(step: float) -> list[tuple[float, float]]:
    steps = round(1 / step)
    return [(one * step, other * step) for one in range(steps + 1) for other in range(steps + 1 - one)]
