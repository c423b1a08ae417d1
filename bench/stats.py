"""Statistics that know what a miss is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

CONFIDENCE = 0.9
# Five values can be drawn again in so many ways: their bootstrap is exact.
RESAMPLES = 5**5


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it; NaN where the data do not resolve it, though they may bound it."""

    value: float
    low: float
    high: float

    @property
    def resolved(self) -> bool:
        return not math.isnan(self.value)


@dataclass(frozen=True)
class MedianInterval:
    """A median and the interval around it; math.inf stands for "a miss": beyond everything that was tried."""

    median: float
    low: float
    high: float
    confidence: float


def median(values: Sequence[float]) -> float:
    """The middle of them in their order, or half-way between the two; a miss is math.inf, and so is half-way to it."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def median_interval(values: Sequence[float]) -> MedianInterval:
    """The median and an interval for the population's, from order statistics alone; a miss is math.inf.

    [x_(l), x_(n+1-l)] covers the median with probability 1 - 2 P(Binomial(n, 1/2) < l), whatever the distribution.
    Taken is the narrowest that covers with at least `CONFIDENCE`; where n is too small for any, the widest. Its own
    coverage is returned beside it: five values give 0.9375. Misses need no more than their order, so they count
    without being given a number. Raises ValueError for no values or a NaN.
    """
    ordered = sorted(values)
    if not ordered or any(map(math.isnan, ordered)):
        raise ValueError("the median of nothing, or of NaN, is not a number")
    count = len(ordered)

    rank, coverage, below = 1, 1 - 1 / (1 << (count - 1)), 1
    for narrower in range(2, (count + 1) // 2 + 1):
        below += math.comb(count, narrower - 1)
        covered = 1 - below / (1 << (count - 1))
        if covered < CONFIDENCE:
            break
        rank, coverage = narrower, covered
    return MedianInterval(median(ordered), ordered[rank - 1], ordered[count - rank], max(0.0, coverage))


def smallest_medians(
    samples: Sequence[Sequence[float]], seed: int = 0, resamples: int = RESAMPLES
) -> NDArray[numpy.floating]:
    """[resamples] of the smallest median of several samples, each resampled with replacement; a miss is math.inf.

    The spread of these holds the noise of the values and that of choosing the sample with the smallest median.
    """
    import numpy

    medians = []
    for place, sample in enumerate(samples):
        ordered, (below, above) = numpy.sort(sample), _middles(len(sample), resamples, seed * 1_000 + place)
        # Not numpy.median, whose mean of two infinities is NaN.
        medians.append((ordered[below] + ordered[above]) / 2)
    return numpy.asarray(numpy.min(medians, axis=0))


@lru_cache(maxsize=1024)
def _middles(count: int, resamples: int, seed: int) -> tuple[NDArray[numpy.integer], NDArray[numpy.integer]]:
    """Of resamples of `count` values, each the places [resamples] of its two middle values among these in order.

    Every way there is to draw again, in an order of chance and as often as needed; of more than five values a random
    choice of ways.
    """
    import numpy

    random = numpy.random.default_rng(seed)
    if count <= 5:
        ways = numpy.stack(numpy.meshgrid(*[numpy.arange(count)] * count), axis=-1).reshape(-1, count)
        drawn = numpy.sort(numpy.resize(ways[random.permutation(len(ways))], (resamples, count)), axis=1)
    else:
        drawn = numpy.sort(random.integers(count, size=(resamples, count)), axis=1)
    return drawn[:, (count - 1) // 2], drawn[:, count // 2]


def smallest_median_interval(samples: Sequence[Sequence[float]]) -> MedianInterval:
    """The smallest median of several samples, with a bootstrap interval over the values of all of them.

    A miss is math.inf. One value says nothing of its spread: its interval has confidence 0.
    """
    value = min(map(median, samples))
    if max(map(len, samples)) < 2:
        return MedianInterval(value, value, value, 0.0)
    draws = sorted(smallest_medians(samples).tolist())
    outside = int((1 - CONFIDENCE) / 2 * len(draws))
    return MedianInterval(value, min(value, draws[outside]), max(value, draws[-1 - outside]), CONFIDENCE)


def two_batch_estimate(small: float, large: float, small_size: int, large_size: int) -> tuple[float, float]:
    """|G|^2 and tr(Sigma) from the mean square of a gradient at two batch sizes b < B, where it is |G|^2 + tr(Sigma)/B.

    small, large: mean |G_b|^2 and |G_B|^2 (McCandlish et al. 2018, appendix A.1). Both answers are unbiased, so both
    are averaged before they are divided; the first may be negative where the noise hides the gradient.
    """
    gradient = (large_size * large - small_size * small) / (large_size - small_size)
    return gradient, (small - large) / (1 / small_size - 1 / large_size)


def ratio_of_means(
    numerators: Sequence[float], denominators: Sequence[float], confidence: float = CONFIDENCE
) -> Interval:
    """The mean of the numerators over that of the denominators, each from pairs of independent estimates.

    The mean of ratios is another number, and biased. The interval is Student's around the logarithm, its deviation from
    the jackknife over pairs; it is all of (0, inf) for one pair. Where either mean is not positive the ratio is
    unresolved: NaN.
    """
    count, above, below = len(numerators), sum(numerators), sum(denominators)
    if not count or not (above > 0 and below > 0):
        return Interval(math.nan, math.nan, math.nan)
    without = [(above - one, below - other) for one, other in zip(numerators, denominators, strict=True)]
    if count == 1 or any(one <= 0 or other <= 0 for one, other in without):
        return Interval(above / below, 0.0, math.inf)
    return around(above / below, [one / other for one, other in without], count - 1, confidence)


def around(value: float, without: Sequence[float], freedom: int, confidence: float = CONFIDENCE) -> Interval:
    """A positive estimate with Student's interval around its logarithm, from the estimates without each observation
    (the jackknife).
    """
    # All of scipy.stats takes most of a second to import, this a fifth of one.
    from scipy.special import stdtrit

    logs = [math.log(each) for each in without]
    mean = sum(logs) / len(logs)
    deviation = math.sqrt((len(logs) - 1) / len(logs) * sum((log - mean) ** 2 for log in logs))
    reach, centre = float(stdtrit(freedom, (1 + confidence) / 2)) * deviation, math.log(value)
    return Interval(value, math.exp(centre - reach), math.exp(min(centre + reach, 700.0)))
