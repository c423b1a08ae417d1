"""How sure one may be that a candidate differs from its base: p-values and intervals.

A ratio is the candidate's over the base's. Leading axes of arrays are comparisons of their own, so that a simulation
asks the questions that a gate asks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy
from numpy.typing import ArrayLike, NDArray

from bench.stats import CONFIDENCE, Interval

Floats = NDArray[numpy.floating]


class Seeds(NamedTuple):
    """The values of the seeds of one candidate, each known to lie in (after, most], and to be `least` at the least.

    after, least, most [.., n]: of whole steps `least` is the first after `after`; `most` is math.inf for a miss. What
    is known exactly has all three alike.
    """

    after: Floats
    least: Floats
    most: Floats


# The same metaparameters on both sides, or the whole of both: (of the candidate, of the base).
Stratum = tuple[Seeds, Seeds]


def seeds_of(each: Sequence[tuple[float, float]]) -> Seeds:
    """Seeds whose steps are known to lie in (after, by]."""
    after, by = numpy.array(each, float).reshape(-1, 2).T
    return Seeds(after, after + 1, by)


def exactly(values: ArrayLike) -> Seeds:
    """Seeds whose values are known."""
    found = numpy.asarray(values, float)
    return Seeds(found, found, found)


def ranks_p(strata: Sequence[Stratum], ratio: ArrayLike = 1.0) -> tuple[Floats, Floats]:
    """One-sided p-values [..] for "takes more than `ratio` times the base's steps", and for "takes fewer".

    The statistic is the number of pairs, a seed of the candidate with one of the base in the same stratum, of which it
    is known that the candidate's took more; pairs that overlap, and pairs of misses, do not count. Had every step been
    known it could only be larger: it would be Mann and Whitney's U of each stratum, summed (van Elteren 1960). Its
    exact null distribution is therefore an upper bound for any evaluation spacing, any budget and any censoring, where
    at most `ratio` is true of every stratum: the p-value is never too small.

    Where every seed of one side missed, and every seed of the other met the target in fewer steps, what is known is how
    many seeds of each side go beyond a budget: that n of n and none of m do has, whatever the share that does, at most
    the probability n^n m^m/(n + m)^(n + m) (Barnard 1947), which is below that of the ranks.
    """
    times = numpy.asarray(ratio, float)[..., None, None]
    more: NDArray[numpy.integer] = numpy.asarray(0)
    fewer: NDArray[numpy.integer] = numpy.asarray(0)
    for candidate, base in strata:
        more = more + (candidate.least[..., :, None] > times * base.most[..., None, :]).sum(axis=(-2, -1))
        fewer = fewer + (candidate.most[..., :, None] < times * base.least[..., None, :]).sum(axis=(-2, -1))
    tail = _tail(sizes(strata))
    split = math.prod(n**n * m**m / (n + m) ** (n + m) for n, m in sizes(strata))
    beyond = numpy.all([_missed(candidate) & _met(base) for candidate, base in strata], axis=0)
    before = numpy.all([_met(candidate) & _missed(base) for candidate, base in strata], axis=0)
    whole = len(tail) - 1
    return (
        numpy.where(beyond & (more == whole), min(split, tail[whole]), tail[more]),
        numpy.where(before & (fewer == whole), min(split, tail[whole]), tail[fewer]),
    )


def _missed(seeds: Seeds) -> NDArray[numpy.bool_]:
    return numpy.asarray(numpy.isinf(seeds.most).all(axis=-1))


def _met(seeds: Seeds) -> NDArray[numpy.bool_]:
    return numpy.asarray(numpy.isfinite(seeds.most).all(axis=-1))


def ranks_interval(strata: Sequence[Stratum]) -> tuple[float, float]:
    """The ratios that `ranks_p` does not refuse at (1 - CONFIDENCE)/2 on either side; 0 or inf where it refuses none.

    "More" is refused while enough pairs are known to have a larger ratio: the end is the ratio of the last pair needed.
    """
    tail = _tail(sizes(strata))
    needed = int(numpy.argmax(tail <= (1 - CONFIDENCE) / 2))
    if not needed:
        return 0.0, math.inf
    lows, highs = [], []
    for candidate, base in strata:
        lows += (candidate.least[:, None] / base.most[None, :]).ravel().tolist()
        highs += (candidate.most[:, None] / base.least[None, :]).ravel().tolist()
    return sorted(lows, reverse=True)[needed - 1], sorted(highs)[needed - 1]


def sizes(strata: Sequence[Stratum]) -> tuple[tuple[int, int], ...]:
    """The seeds of the candidate and of the base in each stratum."""
    return tuple((candidate.least.shape[-1], base.least.shape[-1]) for candidate, base in strata)


def least_p(of: Sequence[tuple[int, int]]) -> float:
    """The smallest p-value that strata of so many seeds can give: one dealing out of all."""
    return 1 / math.prod(math.comb(candidate + base, candidate) for candidate, base in of)


# Of so many pairs in a stratum the normal approximation of U is as good as exact.
_MOST_PAIRS = 900


@lru_cache(maxsize=256)
def _tail(strata: tuple[tuple[int, int], ...]) -> Floats:
    """[pairs + 1] the probability that the sum of U over strata of so many seeds is at least 0, 1, .., by chance."""
    pairs = sum(candidate * base for candidate, base in strata)
    if any(candidate * base > _MOST_PAIRS for candidate, base in strata):
        variance = sum(candidate * base * (candidate + base + 1) / 12 for candidate, base in strata)
        off = (numpy.arange(pairs + 1) - 0.5 - pairs / 2) / math.sqrt(2 * variance)
        return numpy.array([math.erfc(each) / 2 for each in off])
    whole = numpy.ones(1)
    for size in strata:
        whole = numpy.convolve(whole, _u_distribution(*size))
    found: Floats = numpy.minimum(1.0, numpy.cumsum(whole[::-1])[::-1])
    return found


@lru_cache(maxsize=256)
def _u_distribution(first: int, second: int) -> Floats:
    """[first x second + 1] the distribution of Mann and Whitney's U (1947), by their recursion over the last seed."""
    found = [numpy.ones(1)] * (second + 1)  # of 0 and 0 .. second seeds
    for one in range(1, first + 1):
        row = [numpy.ones(1)]
        for other in range(1, second + 1):
            share = one / (one + other)  # the last of all is of the first sample, and after every one of the second
            both = numpy.zeros(one * other + 1)
            both[other:] += share * found[other]
            both[: one * (other - 1) + 1] += (1 - share) * row[other - 1]
            row.append(both)
        found = row
    return found[second]


class Medians(NamedTuple):
    """How two sides differ, if seeds vary log-normally.

    low, high [..]: what is known of the logarithm of the ratio of their smallest medians, which are only known between
    two evaluations.  error [..]: its standard error.  freedom [..]: of the error.
    """

    low: Floats
    high: Floats
    error: Floats
    freedom: Floats


# The variance between whole studies of a smallest median of one, two or more candidates, over that of a median of the
# seeds of one: the search finds other candidates each time (simulated in tests/perf/gate_errors.py).
_TUNING = (2.0, 1.4, 1.0)


def tuning(candidates: int) -> float:
    """The factor of the variance of a smallest median that choosing among so many candidates of a search leads to."""
    return _TUNING[min(candidates, len(_TUNING)) - 1]


def medians(candidate: Sequence[Seeds], base: Sequence[Seeds]) -> Medians:
    """The smallest medians of two sides that searched for their metaparameters apart, and confirmed several each: what
    the searches found adds noise (`tuning`).

    The deviation is pooled over the seeds of all metaparameters (`pooled`), and rounding is added to it. The median of
    n normal values has a variance of about pi/(2 n + pi - 2) of theirs: exact for n = 1 and for many, 2 % low at 5.

    Rounding to values w apart shifts what varies little by up to w/2, and what has a deviation s by about
    exp(-2 pi^2 s^2/w^2) of that (Widrow and Kollar 2008): so much is not known of a median, whatever its seeds.
    """
    deviation, rounding, freedom = pooled([*candidate, *base])
    share = sum(tuning(len(side)) * math.pi / (2 * side[0].least.shape[-1] + math.pi - 2) for side in (candidate, base))
    (least, most), (base_least, base_most) = (
        [numpy.log(_smallest_median([getattr(seeds, end) for seeds in side])) for end in ("least", "most")]
        for side in (candidate, base)
    )
    low, high = least - base_most, most - base_least
    known = numpy.isfinite(high - low) & (high > low)
    # Of both medians together, and as if both were known to within the same share.
    width = numpy.where(known, high - low, 1.0)
    middle = numpy.where(known, low, 0.0) + width / 2
    smooth = numpy.maximum(deviation**2 - rounding**2, 0) * share / 2
    hidden = width / 2 * numpy.exp(-2 * (2 * math.pi / width) ** 2 * smooth)
    return Medians(
        numpy.where(known, middle - hidden, low),
        numpy.where(known, middle + hidden, high),
        numpy.sqrt((deviation**2 + rounding**2) * share),
        freedom,
    )


def mean_of(each: Sequence[Medians]) -> Medians:
    """The mean of several differences, the freedom of its error after Welch and Satterthwaite (1946)."""
    squares = [found.error**2 for found in each]
    parts = sum(square**2 / numpy.maximum(found.freedom, 1) for square, found in zip(squares, each, strict=True))
    freedom = sum(squares) ** 2 / numpy.where(parts > 0, parts, 1.0)
    low, high = (sum(getattr(found, end) for found in each) / len(each) for end in ("low", "high"))
    return Medians(low, high, numpy.sqrt(sum(squares)) / len(each), numpy.asarray(freedom))


def _smallest_median(samples: Sequence[Floats]) -> Floats:
    # Not numpy.median, whose mean of two infinities is NaN.
    ordered = [numpy.sort(each, axis=-1) for each in samples]
    middles = [(each[..., (each.shape[-1] - 1) // 2] + each[..., each.shape[-1] // 2]) / 2 for each in ordered]
    found: Floats = numpy.min(middles, axis=0)
    return found


def pooled(candidates: Sequence[Seeds]) -> tuple[Floats, Floats, Floats]:
    """(the deviation [..] of the logarithm of a seed within its candidate, that of rounding up to evaluations, degrees
    of freedom [..]).

    Of candidates every seed of which met the target, if there are any: where some did not, the others are the faster
    ones, and vary less.
    """
    whole = [numpy.isfinite(seeds.most).all(axis=-1) for seeds in candidates]
    none = ~numpy.any(whole, axis=0)
    squares, freedom, rounding, seen = (numpy.asarray(0.0) for _ in range(4))
    for seeds, every in zip(candidates, whole, strict=True):
        met = numpy.isfinite(seeds.most) & (every | none)[..., None]
        most = numpy.where(met, seeds.most, seeds.least)
        logs, count = numpy.where(met, numpy.log(seeds.least * most) / 2, 0.0), met.sum(axis=-1)
        mean = logs.sum(axis=-1) / numpy.maximum(count, 1)
        squares = squares + numpy.where(met, (logs - mean[..., None]) ** 2, 0.0).sum(axis=-1)
        freedom = freedom + numpy.maximum(count - 1, 0)
        gap = numpy.where(met, numpy.log(most / numpy.maximum(seeds.after, seeds.least / 2)), 0.0)
        rounding, seen = rounding + (gap**2).sum(axis=-1), seen + count
    deviation = numpy.sqrt(squares / numpy.maximum(freedom, 1))
    return deviation, numpy.sqrt(rounding / numpy.maximum(seen, 1) / 12), freedom


def medians_p(found: Medians, ratio: ArrayLike = 1.0) -> tuple[Floats, Floats]:
    """One-sided p-values [..] for "the smallest median is more than `ratio` times the base's", and for "less"; 1 where
    the seeds tell no spread.
    """
    from scipy.special import stdtr

    limit, known = numpy.log(ratio), (found.freedom > 0) & (found.error > 0)
    error = numpy.where(known, found.error, 1.0)
    more, less = (stdtr(found.freedom, off / error) for off in (limit - found.low, found.high - limit))
    return numpy.where(known, more, 1.0), numpy.where(known, less, 1.0)


def medians_interval(found: Medians) -> tuple[float, float]:
    """The ratios that `medians_p` does not refuse at (1 - CONFIDENCE)/2 on either side."""
    from scipy.special import stdtrit

    if not found.freedom > 0:
        return 0.0, math.inf
    reach = float(stdtrit(found.freedom, (1 + CONFIDENCE) / 2)) * float(found.error)
    return math.exp(float(found.low) - reach), math.exp(min(float(found.high) + reach, 700.0))


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
