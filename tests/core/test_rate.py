import math

import pytest
from tilth.core.rate import wilson


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.slow
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


@pytest.mark.parametrize(("total", "lowest"), [(10, 0.85), (12, 0.88), (20, 0.9), (40, 0.92)])
def test_wilson_covers_95_percent_on_average(total: int, lowest: float):
    """Exactly, by every outcome, over 199 true rates; the worst are near 0 and 1."""
    rates = [wilson(correct, total) for correct in range(total + 1)]
    covered: list[float] = []
    for truth in (step / 200 for step in range(1, 200)):
        inside = (rate.correct for rate in rates if rate.low <= truth <= rate.high)
        chances = (math.comb(total, count) * truth**count * (1 - truth) ** (total - count) for count in inside)
        covered.append(sum(chances))
    assert 0.945 <= sum(covered) / len(covered) <= 0.96
    assert min(covered) >= lowest
