import random

import pytest
from tilth.core.rate import wilson


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_is_scipys(level: float):
    from scipy.stats import binomtest  # half a second that no other test needs

    for total in (1, 2, 12, 37, 1000):
        for correct in {0, 1, total // 3, total - 1, total}:
            ours = wilson(correct, total, level=level)
            theirs = binomtest(correct, total).proportion_ci(level, method="wilson")
            assert ours.low == pytest.approx(theirs.low, abs=1e-9)
            assert ours.high == pytest.approx(theirs.high, abs=1e-9)


def test_wilson_of_nothing_says_nothing():
    rate = wilson(0, 0)
    assert (rate.low, rate.high, rate.value) == (0, 1, 0)


def test_wilson_refuses_more_than_all():
    with pytest.raises(ValueError, match="13 correct of 12"):
        wilson(13, 12)


def test_wilson_covers_95_percent_on_average():
    draw = random.Random(5)
    runs, covered = 8000, 0
    for _ in range(runs):
        truth = draw.random()
        rate = wilson(sum(draw.random() < truth for _ in range(12)), 12)
        covered += rate.low <= truth <= rate.high
    assert covered / runs == pytest.approx(0.95, abs=0.012)
