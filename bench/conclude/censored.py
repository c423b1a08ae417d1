"""Steps to target of the same metaparameters on two sides, if seeds vary log-normally: a model that uses every seed.

Seeds are only known to lie between two evaluations, or beyond a step. The model takes them as that, so the spacing of
evaluations does not bias it. Nor does stopping a seed, if the step beyond which it is known to lie depends on nothing
but what was settled by then (independent censoring, Andersen et al. 1993): see `stopped`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy
from numpy.typing import ArrayLike, NDArray

from bench.conclude.evidence import Floats, Seeds, Stratum
from bench.stats import CONFIDENCE

Bools = NDArray[numpy.bool_]

_APART = 1e-9
# A deviation much below half a percent is penalised, so that there is a best one where all seeds are alike.
_LEAST_DEVIATION = 0.005
_MOST_ITERATIONS, _HALVINGS, _ENOUGH = 100, 12, 1e-6
# The ends of an interval lie within this logarithm of the middle, or are open.
_FAR = math.log(1000)
_CELLS, _ROUNDS = 32, 3


def stopped(seeds: Seeds, slowest: ArrayLike, budget: ArrayLike) -> Seeds:
    """Seeds [.., n] of which those that were stopped before their budget [..] are known to take more steps than the
    slowest seed of the best metaparameters [..], and no more.

    They are stopped once every seed of the best is settled. Some have crossed by then without being settled, and are
    known to lie beyond that crossing; but to use a bound that depends on the seed itself would bias the model.
    """
    limit, until = numpy.asarray(slowest, float)[..., None], numpy.asarray(budget, float)[..., None]
    cut = numpy.isinf(seeds.most) & (seeds.after < until) & (seeds.after > limit)
    return Seeds(numpy.where(cut, limit, seeds.after), numpy.where(cut, limit + 1, seeds.least), seeds.most)


def model_p(strata: Sequence[Stratum], ratio: ArrayLike = 1.0) -> tuple[Floats, Floats]:
    """One-sided p-values [..] for "takes more than `ratio` times the base's steps", and for "takes fewer".

    The logarithm of a seed is normal about a mean of its stratum, with one deviation, and with one ratio of the sides,
    for all strata. The likelihood of `ratio` is held against that of the best ratio, LR being twice the logarithm of
    theirs, and read as Student's t with the f degrees of freedom that a linear model of the n seeds that met the target
    has: t^2 = f (exp(LR/n) - 1). That is the usual t-test where every step is known. 1 where nothing is left for f.
    """
    from scipy.special import stdtr

    lows, highs, sides, means = _flat(strata)
    log = numpy.log(numpy.asarray(ratio, float))
    shift = log[..., None] * sides
    free, best = _fitted(lows, highs, numpy.column_stack([means, sides]))
    held, _ = _fitted(lows - shift, highs - shift, means)
    met = numpy.isfinite(highs).sum(axis=-1)
    freedom = numpy.maximum(met - len(strata) - 1, 0)
    squared = freedom * numpy.expm1(2 * numpy.maximum(free - held, 0) / numpy.maximum(met, 1))
    t = numpy.sign(best[..., -1] / best[..., 0] - log) * numpy.sqrt(squared)
    more, fewer = (numpy.where(freedom > 0, stdtr(numpy.maximum(freedom, 1), off), 1.0) for off in (-t, t))
    return more, fewer


def model_interval(strata: Sequence[Stratum]) -> tuple[float, float]:
    """The ratios that `model_p` does not refuse at (1 - CONFIDENCE)/2 on either side, 0 or inf where it refuses none.

    The likelihood falls from the best ratio on, so each end lies in the first of some cells whose outer end is refused,
    and then in the first of the cells of that one.
    """
    lows, highs, sides, means = _flat(strata)
    _, best = _fitted(lows, highs, numpy.column_stack([means, sides]))
    inner = numpy.full(2, best[-1] / best[0])
    outer = inner + numpy.array([-_FAR, _FAR])
    refused_far = numpy.zeros(2, bool)
    for _ in range(_ROUNDS):
        tried = inner[:, None] + (outer - inner)[:, None] * numpy.arange(1, _CELLS + 1) / _CELLS
        more, fewer = model_p(strata, numpy.exp(tried))
        refused = numpy.stack([more[0], fewer[1]]) <= (1 - CONFIDENCE) / 2
        refused_far |= refused.any(axis=1)
        first = numpy.where(refused.any(axis=1), refused.argmax(axis=1), _CELLS - 1)
        outer = tried[[0, 1], first]
        inner = numpy.where(first > 0, tried[[0, 1], first - 1], inner)
    low, high = numpy.exp(outer).tolist()
    return low if refused_far[0] else 0.0, high if refused_far[1] else math.inf


def _flat(strata: Sequence[Stratum]) -> tuple[Floats, Floats, Floats, Floats]:
    """Of all seeds in a row: the logarithms [.., n] of the ends between which they are known to lie, whether they are
    the candidate's [n], and which stratum they are of [n, strata].
    """
    samples = [
        (side, place, seeds) for place, both in enumerate(strata) for side, seeds in zip((1, 0), both, strict=True)
    ]
    counts = [seeds.most.shape[-1] for _, _, seeds in samples]
    with numpy.errstate(divide="ignore"):
        lows, highs = (
            numpy.log(numpy.concatenate([getattr(seeds, end) for _, _, seeds in samples], axis=-1))
            for end in ("after", "most")
        )
    sides = numpy.repeat([float(side) for side, _, _ in samples], counts)
    means = numpy.eye(len(strata))[numpy.repeat([place for _, place, _ in samples], counts)]
    return lows, highs, sides, means


class _Known(NamedTuple):
    """What is known of values: logarithms of ends [lanes, n] between which each lies, and which of the ends are finite.

    Where an end is infinite, a 0 stands for it.
    """

    low: Floats
    high: Floats
    has_low: Bools
    has_high: Bools

    def of(self, lanes: NDArray[numpy.integer]) -> _Known:
        return _Known(*(each[lanes] for each in self))


class _At(NamedTuple):
    """The log-likelihood [lanes] at some parameters, and what Newton's step needs of each value [lanes, n]: both ends
    in deviations from the mean, and the density at each over the probability between them.
    """

    likelihood: Floats
    low: Floats
    high: Floats
    below: Floats
    above: Floats


def _fitted(lows: Floats, highs: Floats, design: Floats) -> tuple[Floats, Floats]:
    """(the greatest log-likelihood [..], its parameters [.., 1 + k]): of values known to lie in (low, high] [.., n],
    normal about the design [n, k] times k coefficients.

    The parameters are 1/deviation, then the coefficients over the deviation. In these the likelihood has one maximum
    (Burridge 1981), which Newton's method finds.
    """
    leading = lows.shape[:-1]
    lows, highs = lows.reshape(-1, lows.shape[-1]), highs.reshape(-1, highs.shape[-1])
    has = numpy.isfinite(lows), numpy.isfinite(highs)
    # However many steps there are, floats tell so much of a share apart.
    highs = numpy.maximum(highs, lows + _APART)
    values = _Known(numpy.where(has[0], lows, 0.0), numpy.where(has[1], highs, 0.0), *has)
    found = _first_guess(values, design)
    best = _at(values, found, design).likelihood
    lanes = numpy.arange(len(found))  # those that still rise
    for _ in range(_MOST_ITERATIONS):
        known, here = values.of(lanes), found[lanes]
        at = _at(known, here, design)
        step, share = _newton(known, at, here, design), numpy.ones((len(lanes), 1))
        for _ in range(_HALVINGS):
            there = here + share * step
            reached = _at(known, there, design).likelihood
            short = ~(reached >= at.likelihood)
            if not short.any():
                break
            share[short] /= 3
        rise = numpy.where(short, 0.0, reached - at.likelihood)
        found[lanes] = numpy.where(short[:, None], here, there)
        best[lanes] = at.likelihood + rise
        lanes = lanes[rise > _ENOUGH]
        if not len(lanes):
            break
    return best.reshape(leading), found.reshape(*leading, -1)


def _first_guess(values: _Known, design: Floats) -> Floats:
    """Least squares of the middles."""
    middles = numpy.where(values.has_low, values.low, values.high)
    middles = (middles + numpy.where(values.has_high, values.high, middles)) / 2
    coefficients = middles @ numpy.linalg.pinv(design).T
    deviation = (middles - coefficients @ design.T).std(axis=-1, keepdims=True) + 0.02
    return numpy.concatenate([1 / deviation, coefficients / deviation], axis=-1)


def _at(values: _Known, found: Floats, design: Floats) -> _At:
    from scipy.special import log_ndtr

    scale, mean = found[:, :1], found[:, 1:] @ design.T
    low, high = scale * values.low - mean, scale * values.high - mean
    ends = numpy.where(values.has_low, low, -numpy.inf), numpy.where(values.has_high, high, numpy.inf)
    # The probability between the ends, in the left tail, where both of its parts are known to all their digits.
    turned = values.has_low & (~values.has_high | (low + high > 0))
    more, less = log_ndtr(numpy.where(turned, -ends[0], ends[1])), log_ndtr(numpy.where(turned, -ends[1], ends[0]))
    logs = more + numpy.log(-numpy.expm1(numpy.minimum(less - more, -1e-300)))
    below, above = (
        numpy.exp(numpy.where(has, -(end**2) / 2 - logs, -numpy.inf)) / math.sqrt(2 * math.pi)
        for has, end in zip(values[2:], (low, high), strict=True)
    )
    total = logs.sum(axis=-1) - (_LEAST_DEVIATION * found[:, 0]) ** 2 / 2
    return _At(numpy.where(found[:, 0] > 0, total, -numpy.inf), low, high, below, above)


def _newton(values: _Known, at: _At, found: Floats, design: Floats) -> Floats:
    """The step [lanes, 1 + k] to the maximum of a quadratic with the slope and curvature of the likelihood here."""
    by_mean, by_scale = at.above - at.below, at.above * values.high - at.below * values.low
    high, low = at.above * at.high, at.below * at.low
    size = design.shape[1]
    slope, curvature = numpy.empty((len(found), size + 1)), numpy.empty((len(found), size + 1, size + 1))
    slope[:, 0] = by_scale.sum(axis=-1) - _LEAST_DEVIATION**2 * found[:, 0]
    slope[:, 1:] = -by_mean @ design
    curvature[:, 0, 0] = (by_scale**2 + high * values.high**2 - low * values.low**2).sum(axis=-1) + _LEAST_DEVIATION**2
    curvature[:, 0, 1:] = curvature[:, 1:, 0] = -(by_mean * by_scale + high * values.high - low * values.low) @ design
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    curvature[:, 1:, 1:] = ((by_mean**2 + high - low) @ products).reshape(-1, size, size)
    # Where no seed tells of a mean the likelihood is flat: so little curvature keeps the step finite.
    curvature += 1e-9 * (1 + numpy.trace(curvature, axis1=-2, axis2=-1)[:, None, None]) * numpy.eye(size + 1)
    step: Floats = numpy.linalg.solve(curvature, slope[..., None])[..., 0]
    return step
