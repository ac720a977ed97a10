import random

import pytest
from tilth.core.rate import wilson
from tilth.eval.statistics import holm, mcnemar


@pytest.mark.slow
def test_mcnemar_is_the_exact_binomial_test():
    from scipy.stats import binomtest  # half a second that no other test needs

    for gained in range(0, 30, 3):
        for lost in range(0, 30, 4):
            if gained + lost:
                theirs = binomtest(gained, gained + lost, 0.5).pvalue
                assert mcnemar(gained, lost) == pytest.approx(theirs, abs=1e-9)
    assert mcnemar(1200, 1300) == pytest.approx(binomtest(1200, 2500, 0.5).pvalue, abs=1e-9)
    assert mcnemar(0, 0) == 1


def test_holm_rejects_what_the_step_down_procedure_rejects():
    draw = random.Random(7)
    for _ in range(300):
        values = [round(draw.random() ** 3, 3) for _ in range(draw.randint(1, 6))]
        for alpha in (0.01, 0.05, 0.2, 0.5):
            expected = _step_down(values, alpha)
            assert [value <= alpha for value in holm(values)] == expected
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def _step_down(values: list[float], alpha: float) -> list[bool]:
    """Holm as he wrote it: the smallest against alpha/m, the next against alpha/(m-1), until one fails."""
    rejected = [False] * len(values)
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        if (len(values) - rank) * values[index] > alpha:
            break
        rejected[index] = True
    return rejected


@pytest.mark.slow  # to import it takes seconds
def test_they_are_statsmodels():
    from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.proportion import proportion_confint

    draw = random.Random(3)
    for _ in range(40):
        gained, lost, total = draw.randint(0, 40), draw.randint(1, 40), draw.randint(80, 200)
        theirs = their_mcnemar([[5, gained], [lost, total - 5 - gained - lost]], exact=True).pvalue
        assert mcnemar(gained, lost) == pytest.approx(theirs, abs=1e-9)
        ours = wilson(gained, total, level=0.9)
        assert (ours.low, ours.high) == pytest.approx(proportion_confint(gained, total, 0.1, "wilson"), abs=1e-9)
        values = [draw.random() ** 2 for _ in range(draw.randint(1, 8))]
        assert holm(values) == pytest.approx(multipletests(values, method="holm")[1], abs=1e-9)


def test_equal_models_are_seldom_called_different():
    """Four leaves of 20 questions, both models right at random: a false call in at most 5 % of the cycles."""
    draw = random.Random(11)
    runs, false_calls = 600, 0
    for _ in range(runs):
        flips = [[draw.choice((-1, 0, 1)) for _ in range(20)] for _ in range(4)]
        values = [mcnemar(leaf.count(1), leaf.count(-1)) for leaf in flips]
        false_calls += min(holm(values)) <= 0.05
    assert false_calls / runs <= 0.05
