import itertools
import math
import random
from collections.abc import Sequence
from statistics import fmean

import pytest
from tilth.eval.clusters import mean_interval, student_quantile
from tilth.eval.difference import clustered_interval, paired_difference


def test_student_quantiles_are_scipys():
    from scipy.special import stdtrit

    for degrees in (1, 2, 3, 4, 5, 10, 11, 99, 1000):
        for level in (0.5, 0.9, 0.95, 0.999):
            theirs = float(stdtrit(degrees, (1 + level) / 2))
            assert student_quantile(level, degrees) == pytest.approx(theirs, rel=1e-9)


def test_the_ends_follow_from_all_ways_to_draw_the_clusters():
    clusters = [[1.0, 0.0, 0.0], [1.0, 1.0], [0.0], [-1.0, 0.0, 1.0, 1.0], [0.5]]
    drawn = (list(itertools.chain(*chosen)) for chosen in itertools.product(clusters, repeat=5))
    means = sorted(sum(values) / len(values) for values in drawn)
    mean = 4.5 / 11
    lowest, highest = (means[round(len(means) * share)] - mean for share in (0.05, 0.95))
    widening = 2.1318 / 1.6449 * math.sqrt(5 / 4)  # Student's and the normal quantile
    found = mean_interval(clusters, level=0.9, seed=4, draws=20_000)
    assert found == pytest.approx((mean - widening * highest, mean - widening * lowest), abs=0.02)


@pytest.mark.slow
def test_the_drawn_means_are_scipys():
    import numpy as np
    from scipy.stats import bootstrap

    draw = random.Random(8)
    values = [draw.gauss(0.2, 1) for _ in range(60)]
    theirs = bootstrap(
        (values,), np.mean, method="basic", n_resamples=4_000, rng=np.random.default_rng(1)
    ).confidence_interval
    mean = math.fsum(values) / 60
    widening = 2.0010 / 1.9600 * math.sqrt(60 / 59)
    found = mean_interval([[value] for value in values], level=0.95, seed=1)
    expected = [mean + widening * (end - mean) for end in (theirs.low, theirs.high)]
    assert found == pytest.approx(expected, abs=0.03)


def test_the_same_seed_gives_the_same_interval():
    clusters = [[1.0, 0.0], [0.0], [0.0, -1.0, 1.0]]
    assert mean_interval(clusters, level=0.9, seed=1) == mean_interval(clusters, level=0.9, seed=1)
    assert mean_interval(clusters[:1], level=0.9, seed=1) == (-math.inf, math.inf)


@pytest.mark.slow
def test_forty_documents_cover_what_independent_questions_do_not():
    """In 150 draws; chance moves the share by two points. Where questions flip together, the score interval misses."""
    clustered, alone = _coverage(OFTEN, 40, together=0.2, runs=150, draws=200)
    assert clustered >= 0.9
    assert alone <= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("num_clusters", [3, 10, 40])
@pytest.mark.parametrize("together", [0.0, 0.3])
def test_clusters_cover_95_percent(num_clusters: int, together: float):
    clustered, _ = _coverage(OFTEN, num_clusters, together=together, runs=600, draws=300)
    assert clustered >= 0.94


@pytest.mark.slow
@pytest.mark.parametrize("num_clusters", [5, 20])
def test_clusters_cover_little_less_where_few_questions_flip(num_clusters: int):
    clustered, _ = _coverage(SELDOM, num_clusters, together=0.2, runs=600, draws=300)
    assert clustered >= 0.92


OFTEN = (1, 1, -1, 0, 0, 0, 0, 0, 0, 0)
SELDOM = (1, -1, -1, -1, -1, *[0] * 95)


def _coverage(
    flips: Sequence[int], num_clusters: int, *, together: float, runs: int, draws: int
) -> tuple[float, float]:
    """How often the interval over clusters of twelve, and that of independent questions, hold the true difference.

    Each question does as one of `flips`. Two of a cluster do the same with probability `together`: each does as its
    cluster, with a probability of the root of that.
    """
    draw = random.Random(num_clusters)
    truth = fmean(flips)
    clustered = alone = 0
    for _ in range(runs):
        common = [draw.choice(flips) for _ in range(num_clusters)]
        clusters = [
            [flip if draw.random() < math.sqrt(together) else draw.choice(flips) for _ in range(12)] for flip in common
        ]
        low, high = clustered_interval(clusters, seed=1, draws=draws)
        values = [value for cluster in clusters for value in cluster]
        found = paired_difference(values.count(1), values.count(-1), len(values))
        clustered += low <= truth <= high
        alone += found.low <= truth <= found.high
    return clustered / runs, alone / runs
