"""How steps to target fall with the batch size: the fit to a curve with its intervals, and laws of several curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy

from bench.conclude.doubts import doubts_of
from bench.conclude.fit import Fit, fit_each, fit_logs, logs_of
from bench.conclude.points import RESAMPLES, Curve, Floats, resampled_medians
from bench.stats import CONFIDENCE, Interval

OVERHEAD = 0.2
# Below this sum of squares steps do not vary with the batch size, and there is nothing to explain.
_FLAT = 1e-6


@dataclass(frozen=True)
class CurveFit:
    """A fitted curve: its intervals, how well it fits, and every reason to doubt it.

    residuals: log(measured/fitted) at each point; for a miss, how far the fit lies below what was tried, else 0.
    explained: the share of the variance of log S; NaN where it does not vary.
    """

    curve: Curve
    fit: Fit
    reference: float
    overhead: float
    minimum_steps: Interval
    minimum_examples: Interval
    critical_batch: Interval
    overhead_batch: Interval
    residuals: tuple[float, ...]
    explained: float
    doubts: tuple[str, ...]


@lru_cache(maxsize=256)  # several analyses and pictures ask for the same curve's
def fit_curve(curve: Curve, overhead: float = OVERHEAD, reference: float | None = None) -> CurveFit | None:
    """The curve's fit; None where fewer than two batch sizes met the target.

    reference: the batch size to whose examples `overhead` is added; the smallest measured where none is given.
    Intervals: by resampling each point's seeds; where a point has but one, from the scatter about the fit (none for two
    points). What hangs on a term that was not seen has no value (NaN), and its interval is open on that side.
    """
    sizes = numpy.array([point.batch_size for point in curve.points])
    medians = numpy.array([point.median for point in curve.points])
    tried = numpy.array([point.tried for point in curve.points])
    if numpy.isfinite(medians).sum() < 2:
        return None
    best, residuals, derivatives = fit_logs(sizes, numpy.log(medians), logs_of(tried))
    reference = float(reference or sizes[0])
    # A point of one seed says nothing of its own scatter: then what all of them show together is everybody's.
    if all(len(point.steps) > 1 for point in curve.points if math.isfinite(point.median)):
        fits = _resampled(curve, sizes, tried)
    else:
        fits = _scattered(best, residuals, sizes, medians, tried)

    def interval(of: Callable[[Fit], float]) -> Interval:
        ends = [sorted((of(each), of(each.without_unseen))) for each in fits]
        outside = int((1 - CONFIDENCE) / 2 * len(ends))
        low = sorted(low for low, _ in ends)[outside] if ends else 0.0
        high = sorted(high for _, high in ends)[-1 - outside] if ends else math.inf
        least, most = sorted((of(best), of(best.without_unseen)))
        value = of(best) if math.isclose(least, most, rel_tol=0.01) else math.nan
        return Interval(value, min(low, least), max(high, most))

    met = numpy.isfinite(medians)
    logs = numpy.log(medians[met])
    spread = float(((logs - logs.mean()) ** 2).sum())
    return CurveFit(
        curve,
        best,
        reference,
        overhead,
        interval(lambda fit: fit.minimum_steps),
        interval(lambda fit: fit.minimum_examples),
        interval(lambda fit: fit.critical_batch),
        interval(lambda fit: fit.overhead_batch(overhead, reference)),
        tuple(map(float, residuals)),
        1 - float((residuals[met] ** 2).sum()) / spread if spread > _FLAT else math.nan,
        tuple(doubts_of(curve, best, residuals, derivatives)),
    )


def _resampled(curve: Curve, sizes: Floats, tried: Floats) -> list[Fit]:
    medians = numpy.stack([resampled_medians(point, place) for place, point in enumerate(curve.points)], axis=1)
    enough = numpy.isfinite(medians).sum(axis=1) >= 2
    return fit_each(sizes, numpy.log(medians[enough]), logs_of(tried))


def _scattered(best: Fit, residuals: Floats, sizes: Floats, medians: Floats, tried: Floats) -> list[Fit]:
    """Fits to steps drawn about the best one, as far from it as the points lie, wider where few points say how far."""
    met = numpy.isfinite(medians)
    freedom = int(met.sum()) - 2
    if freedom < 1:
        return []
    random = numpy.random.default_rng(0)
    deviation = math.sqrt(float((residuals[met] ** 2).sum()) / freedom)
    draws = deviation * random.standard_normal((RESAMPLES, len(sizes)))
    draws *= numpy.sqrt(freedom / random.chisquare(freedom, size=(RESAMPLES, 1)))
    fitted = numpy.log([best.steps(size) for size in sizes])
    # Student's of one degree of freedom knows no end; a float does.
    drawn = numpy.where(met, numpy.clip(fitted + draws, -300, 300), math.inf)
    return fit_each(sizes, drawn, logs_of(tried))


def power_law(sizes: Sequence[float], batches: Sequence[float]) -> tuple[float, Interval]:
    """(c, exponent) of batch = c size^exponent by least squares in logarithms, with Student's interval.

    The critical batch size against model or data size, as in Zhang et al. 2024. Needs two sizes; two give no interval.
    """
    from scipy.special import stdtrit

    x, y = numpy.log(sizes), numpy.log(batches)
    exponent, intercept = map(float, numpy.polyfit(x, y, 1))
    freedom, reach = len(sizes) - 2, math.inf
    if freedom:
        squares = float(((y - intercept - exponent * x) ** 2).sum()) / freedom
        error = math.sqrt(squares / float(((x - x.mean()) ** 2).sum()))
        reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    return math.exp(intercept), Interval(exponent, exponent - reach, exponent + reach)
