"""The interval of a mean whose values come in clusters: questions of a document, documents of a leaf.

Questions of one document are learned and forgotten together, so that a hundred of them say less than a hundred of a
hundred documents. In pure Python, checked against scipy in the tests.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import NormalDist

HALVINGS = 64
"""What lies within [-1, 1] is known to the last bit after so many halvings."""


def mean_interval(
    clusters: Sequence[Sequence[float]], *, level: float, seed: int, draws: int = 2_000
) -> tuple[float, float]:
    """The bootstrap interval of the mean of all values when whole clusters are drawn, none of them empty.

    It is the basic interval (Davison & Hinkley 1997, "Bootstrap Methods and their Application", section 5.2): the low
    end is as far below the mean as the high quantile of the resampled means lies above it, and the other way round.
    Both are moved out as much as Student's quantile is larger than the normal one, and by sqrt(n / (n - 1)), by which
    the spread of n drawn clusters is too small: without that it is far too narrow where clusters are few (Hesterberg
    2015, The American Statistician 69:371-386). The ends may lie outside what the values can be. Infinite for less than
    two clusters.

    It takes `draws` times the number of clusters picks: a few seconds for 10,000.
    """
    if len(clusters) < 2:
        return -math.inf, math.inf
    points = [complex(math.fsum(cluster), len(cluster)) for cluster in clusters]  # one sum adds up both
    draw = random.Random(seed)  # noqa: S311 (a reproducible choice, not a secret)
    resampled = (sum(draw.choices(points, k=len(points))) for _ in range(draws))
    means = sorted(total.real / total.imag for total in resampled)
    whole = sum(points)
    mean = whole.real / whole.imag
    tail = int(draws * (1 - level) / 2)
    widen = _widening(len(clusters), level)
    return mean - widen * (means[-1 - tail] - mean), mean + widen * (mean - means[tail])


def student_quantile(level: float, degrees: int) -> float:
    """How far from 0 a Student variable lies at most with probability `level`.

    The distribution is a finite sum of powers of a cosine (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4), solved for the
    angle by halving.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(HALVINGS):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, degrees) < level else (low, angle)
    return math.sqrt(degrees) * math.tan(low)


def _widening(num_clusters: int, level: float) -> float:
    normal = NormalDist().inv_cdf((1 + level) / 2)
    few = math.sqrt(num_clusters / (num_clusters - 1))
    return few * student_quantile(level, num_clusters - 1) / normal


def _within(angle: float, degrees: int) -> float:
    """The probability that a Student variable is at most sqrt(degrees) * tan(angle) away from 0."""
    odd = degrees % 2
    sine, cosine = math.sin(angle), math.cos(angle)
    term = cosine if odd else 1.0
    series = term if degrees > 1 else 0.0
    for power in range(2 + odd, degrees - 1, 2):
        term *= cosine * cosine * (power - 1) / power
        series += term
    return 2 / math.pi * (angle + sine * series) if odd else sine * series
