"""How sure one may be that a candidate differs from its base: p-values and intervals.

A ratio is the candidate's over the base's. Leading axes of arrays are comparisons of their own, so that a simulation
asks the questions that a gate asks.
"""

from __future__ import annotations

import itertools
import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import numpy
from numpy.typing import ArrayLike, NDArray

from bench.stats import CONFIDENCE, Interval

Floats = NDArray[numpy.floating]

_RELABELLINGS = 10_000


def steps_p(
    candidate: ArrayLike,
    base: ArrayLike,
    ratio: ArrayLike = 1.0,
    budgets: tuple[float, float] = (math.inf, math.inf),
) -> tuple[Floats, Floats]:
    """One-sided p-values [..] for "takes more than `ratio` times the base's steps", and for "takes fewer".

    candidate [.., n], base [.., m]: steps to target of each seed, math.inf for a miss.  budgets: of candidate and base,
    beyond which steps are not known.

    The base is stretched by `ratio`, both are cut at the budget they then have in common, and the sum of the
    candidate's ranks, a miss after every number, is referred to all the ways in which the seeds could have been dealt
    to the two sides. That is Gehan's test for one censoring time (1965), which is Wilcoxon's, and it is exact for any
    number of seeds. The log-rank test, whose latest events weigh most, loses its power to the misses: with ten seeds,
    15 % of which miss, it sees six of ten regressions of 50 % where this sees nine; and its normal approximation
    (`scipy.stats.logrank`) calls 6 of 100 equal pairs of five seeds different at 5 %.
    """
    base, ratio = numpy.asarray(base, float), numpy.asarray(ratio, float)
    candidate, stretched = _alike(numpy.asarray(candidate, float), base * ratio[..., None])
    times = numpy.concatenate([candidate, stretched], axis=-1)
    until = numpy.minimum(budgets[0], budgets[1] * ratio)[..., None]
    times = numpy.where(times <= until, times, numpy.inf)
    before = numpy.sum(times[..., None, :] < times[..., :, None], axis=-1)
    after = numpy.sum(times[..., None, :] > times[..., :, None], axis=-1)
    return _permuted(before - after, candidate.shape[-1])


def _alike(*arrays: Floats) -> list[Floats]:
    leading = numpy.broadcast_shapes(*(array.shape[:-1] for array in arrays))
    return [numpy.broadcast_to(array, (*leading, array.shape[-1])) for array in arrays]


def _permuted(ranks: NDArray[numpy.integer], first: int) -> tuple[Floats, Floats]:
    """The shares of relabellings whose first sample sums to as much as was seen or more, and to as little or less."""
    sums = ranks.astype(numpy.float32) @ _relabellings(ranks.shape[-1], first)
    seen = ranks[..., :first].sum(axis=-1, keepdims=True)
    return (sums >= seen).mean(axis=-1), (sums <= seen).mean(axis=-1)


@lru_cache(maxsize=16)
def _relabellings(count: int, first: int) -> Floats:
    """[count, R] which of `count` are of the first sample: every way there is, or, of too many, what was seen and a
    fixed random choice.
    """
    if math.comb(count, first) <= _RELABELLINGS:
        rows = [[place in chosen for place in range(count)] for chosen in itertools.combinations(range(count), first)]
        return numpy.array(rows, numpy.float32).T
    seen = numpy.arange(count) < first
    others = numpy.random.default_rng(0).permuted(numpy.tile(seen, (_RELABELLINGS - 1, 1)), axis=1)
    return numpy.concatenate([seen[None], others]).astype(numpy.float32).T


def steps_interval(
    candidate: Sequence[float], base: Sequence[float], budgets: tuple[float, float]
) -> tuple[float, float]:
    """The ratios that `steps_p` does not refuse at (1 - CONFIDENCE)/2 on either side; (0, inf) where it refuses none.

    The p-values change only where a stretched seed of the base passes one of the candidate, a miss at its budget; and
    as the ratio rises, that for "more" does, and that for "fewer" falls. So the ends are found by halving.
    """
    ends = [{min(value, budget) for value in sample} for sample, budget in zip((candidate, base), budgets, strict=True)]
    ratios = sorted(
        {one / other for one in ends[0] for other in ends[1] if math.isfinite(one) and math.isfinite(other)}
    )
    if not ratios:
        return 0.0, math.inf
    outside = (1 - CONFIDENCE) / 2
    # Each ratio tried stands for all from one border to the next.
    between = [math.sqrt(low * high) for low, high in itertools.pairwise(ratios)]
    tried = [ratios[0] / 2, *between, ratios[-1] * 2]
    first = bisect_left(tried, True, key=lambda ratio: bool(steps_p(candidate, base, ratio, budgets)[0] > outside))
    end = bisect_left(tried, True, key=lambda ratio: bool(steps_p(candidate, base, ratio, budgets)[1] <= outside))
    return ([0.0, *ratios][first], [*ratios, math.inf][end - 1]) if first < end else (math.nan, math.nan)


def pairs_p(logs: ArrayLike, ratio: float = 1.0) -> tuple[Floats, Floats]:
    """One-sided p-values [..] for "the ratio is above `ratio`" and for "below".

    logs [.., n]: the logarithms of paired ratios. Student's t; pairs that agree to the last bit decide for sure, unless
    they lie at `ratio` itself.
    """
    from scipy.special import stdtr

    found = numpy.asarray(logs, float)
    count = found.shape[-1]
    off = found.mean(axis=-1) - math.log(ratio)
    error = found.std(axis=-1, ddof=1) / math.sqrt(count)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        t = numpy.where(off == 0, 0.0, off / error)
    return stdtr(count - 1, -t), stdtr(count - 1, t)


def pairs_ratio(logs: Sequence[float]) -> Interval:
    """The geometric mean of paired ratios, with Student's interval, from their logarithms."""
    from scipy.special import stdtrit

    found = numpy.asarray(logs, float)
    count, mean = len(found), float(found.mean())
    if count < 2:
        return Interval(math.exp(mean), 0.0, math.inf)
    reach = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * float(found.std(ddof=1)) / math.sqrt(count)
    return Interval(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach))


def adjusted(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that refusing those of at most alpha has a false discovery rate of at most alpha.

    Benjamini and Hochberg 1995. The same numbers as `scipy.stats.false_discovery_control`, whose import alone takes
    most of the second a gate may take.
    """
    places = sorted(range(len(p_values)), key=lambda place: p_values[place], reverse=True)
    found, least = [1.0] * len(p_values), 1.0
    for rank, place in zip(range(len(p_values), 0, -1), places, strict=True):
        least = min(least, p_values[place] * len(p_values) / rank)
        found[place] = least
    return found


def least_p(candidate: int, base: int) -> float:
    """The smallest p-value that so many seeds can give: one dealing out of all."""
    return 1 / math.comb(candidate + base, candidate)


def rcp_bound(reference: Sequence[float], runs: int, alpha: float) -> float:
    """The least mean that so many runs may have: MLPerf's reference convergence points.

    Without the fastest and the slowest run of each side, the reference's mean less t(1 - alpha, n1 + n2 - 2) sd
    sqrt(1/n1 + 1/n2), sd being the reference's population deviation (as in MLCommons' rcp_checker).

    A trimmed sample's deviation is too small for this t: at alpha 5 % the rule refuses 17 % of equal normal runs with
    5 seeds a side, 9 % with 10 of the reference and 5, 7 % with 20 and 10 (a simulation of 4,000 each).
    """
    from scipy.special import stdtrit

    middle, error, freedom = _rcp(reference, runs)
    return middle - float(stdtrit(freedom, 1 - alpha)) * error


def rcp_p(reference: Sequence[float], candidate: Sequence[float]) -> float:
    """The alpha at which the candidate's mean, without its fastest and slowest run, is `rcp_bound`."""
    from scipy.special import stdtr

    middle, error, freedom = _rcp(reference, len(candidate))
    off = statistics.fmean(sorted(candidate)[1:-1]) - middle
    return float(stdtr(freedom, off / error)) if error else float(off >= 0)


def _rcp(reference: Sequence[float], runs: int) -> tuple[float, float, int]:
    """The reference's mean, the standard error of its difference from that of so many runs, and degrees of freedom."""
    kept = sorted(reference)[1:-1]
    share = 1 / len(kept) + 1 / (runs - 2)
    return statistics.fmean(kept), statistics.pstdev(kept) * math.sqrt(share), len(kept) + runs - 2 - 2
