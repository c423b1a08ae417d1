"""How steps to target fall with the batch size: S = S_min + E_min/B, local slopes, regimes, critical batch sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Literal

import numpy
from numpy.typing import NDArray

from bench.measures import Summary
from bench.stats import CONFIDENCE, Interval

OVERHEAD = 0.2
RESAMPLES = 200
# On log-log axes a slope of -1 is perfect scaling and 0 maximal data parallelism (Shallue et al. 2019, section 3).
# Steps that follow S_min + E_min/B pass these two at 0.18 and at 5.7 times the critical batch size. As far above
# 0 as that a slope is neither: steps rise.
PERFECT, MAXIMAL = -0.85, -0.15

# Of a term that is nowhere this share of the steps nothing is learnt but that it is no more.
_UNSEEN = 1e-3
# This share of that is as good as nothing.
_NOTHING = 1e-6
_MOST_STEPS = 200

Regime = Literal["perfect scaling", "diminishing returns", "maximal data parallelism", "rising", "undecided"]
Floats = NDArray[numpy.floating]


@dataclass(frozen=True)
class Point:
    """Steps to target at a batch size.

    steps: of every seed, math.inf for a miss.  tried: the steps beyond which a miss is known to lie.  resolution: the
    share by which steps may be overstated, for they are only known at evaluations.
    """

    batch_size: float
    steps: tuple[float, ...]
    tried: float = 0.0
    resolution: float = 0.0

    @cached_property
    def median(self) -> float:
        return _median(self.steps)


@dataclass(frozen=True)
class Curve:
    """Steps to target against batch size, in rising order: of a workload, or out of anybody's table.

    size: of the model or the data, where several curves are compared by it.
    """

    label: str
    points: tuple[Point, ...]
    size: float | None = None


@dataclass(frozen=True)
class Fit:
    """S = S_min + E_min/B with S_min `minimum_steps`, in steps, and E_min `minimum_examples`, in examples.

    unseen: the term of which the steps say only that it is no more than what stands here; None where they show both.
    """

    minimum_steps: float
    minimum_examples: float
    unseen: Literal["minimum_steps", "minimum_examples"] | None = None

    @property
    def critical_batch(self) -> float:
        """B_crit = E_min/S_min, where a run takes twice the least steps and twice the least examples (McCandlish et al.
        2018, eq. 2.11); infinite without S_min.
        """
        return self.minimum_examples / self.minimum_steps if self.minimum_steps else math.inf

    @property
    def without_unseen(self) -> Fit:
        """What is as possible as the fit itself: the unseen term is nothing."""
        return Fit(
            0.0 if self.unseen == "minimum_steps" else self.minimum_steps,
            0.0 if self.unseen == "minimum_examples" else self.minimum_examples,
        )

    def steps(self, batch_size: float) -> float:
        return self.minimum_steps + self.minimum_examples / batch_size

    def overhead_batch(self, overhead: float, reference: float) -> float:
        """The batch size that needs 1 + `overhead` times the examples that the batch size `reference` needs: the 20 %
        critical batch size of Zhang et al. 2024, in general (delta b + (1 + delta) B0 a)/a.
        """
        return overhead * self.critical_batch + (1 + overhead) * reference


@dataclass(frozen=True)
class Slope:
    """The slope of log S against log B from the batch size before to this one, its interval and what it says."""

    batch_size: float
    slope: Interval
    regime: Regime


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


def curve_of(rows: Sequence[Summary]) -> Curve:
    """The curve of a workload, from the summaries of its studies.

    A study that is not measured, or timed alone, or whose batch grows, gives no point, one whose every trial missed
    gives a miss.
    """
    points = []
    for row in rows:
        if row.status != "measured" or not row.trained or row.grows:
            continue
        found, size = row.found, row.study.batch_size
        if found is None:
            points.append(Point(size, (math.inf,), row.study.content["max_steps"]))
        elif row.confirmed is not None:
            points.append(Point(size, row.confirmed.each, row.confirmed.budget, found.resolution))
        else:
            points.append(Point(size, (found.steps,), found.steps, found.resolution))
    name = rows[0].study.workload if rows else ""
    return Curve(name, tuple(sorted(points, key=lambda point: point.batch_size)))


def fit(batch_sizes: Sequence[float], steps: Sequence[float], tried: Sequence[float] | None = None) -> Fit:
    """Least squares of log S against log(S_min + E_min/B).

    A miss is math.inf: the fit is drawn up to the steps that were `tried` there, and no further. Raises ValueError
    where fewer than two batch sizes were met, or a number is not positive.
    """
    sizes, medians = numpy.asarray(batch_sizes, float), numpy.asarray(steps, float)
    met = numpy.isfinite(medians)
    if len(set(sizes[met])) < 2:
        raise ValueError("a fit needs steps to target at two batch sizes or more")
    if not (sizes > 0).all() or not (medians > 0).all():
        raise ValueError("batch sizes and steps to target are positive numbers")
    return _fit(sizes, numpy.log(medians), _logs(medians if tried is None else tried))[0]


def _logs(tried: Sequence[float] | Floats) -> Floats:
    return numpy.asarray(numpy.log(numpy.maximum(tried, 1.0)))


def _fit(sizes: Floats, logs: Floats, tried: Floats) -> tuple[Fit, Floats, Floats]:
    """The fit to logarithms of steps, its residuals [n] and their derivatives [n, 2] by (log S_min, log E_min)."""
    (solved,), (fitted,) = _solved(sizes, logs[None], tried)
    residuals, derivatives = _residuals(solved[None], sizes, logs[None], tried)
    return fitted, residuals[0], derivatives[0]


def _fits(sizes: Floats, logs: Floats, tried: Floats) -> list[Fit]:
    """The fit to each row of logarithms of steps [fits, n]."""
    return _solved(sizes, logs, tried)[1]


def _solved(sizes: Floats, logs: Floats, tried: Floats) -> tuple[Floats, list[Fit]]:
    """(log S_min, log E_min) [fits, 2], and what it says, of each row of logs [fits, n]."""
    known = numpy.where(numpy.isfinite(logs), logs, numpy.inf)
    start = numpy.stack([known.min(axis=1), (known + numpy.log(sizes)).min(axis=1)], axis=1)
    least = start + math.log(_UNSEEN)
    nothing = least + math.log(_NOTHING)
    found = _least_squares(lambda points: _residuals(points, sizes, logs, tried), start, nothing)
    below, found = found < least, numpy.maximum(found, least)
    fits = []
    for (minimum, examples), (no_minimum, no_examples) in zip(numpy.exp(found), below, strict=True):
        # Neither vanishes where the other does, for their sum is the steps.
        unseen: Literal["minimum_steps", "minimum_examples"] | None = (
            "minimum_steps" if no_minimum else "minimum_examples" if no_examples else None
        )
        fits.append(Fit(float(minimum), float(examples), unseen))
    return found, fits


def _residuals(points: Floats, sizes: Floats, logs: Floats, tried: Floats) -> tuple[Floats, Floats]:
    """Residuals [fits, n] of points [fits, 2], and their derivatives [fits, n, 2]; a miss has none up to `tried`."""
    met = numpy.isfinite(logs)
    parts = points[:, :1], points[:, 1:] - numpy.log(sizes)
    over = numpy.where(met, logs, tried) - numpy.logaddexp(*parts)
    acts = met | (over > 0)
    share = numpy.exp(-numpy.logaddexp(0.0, parts[1] - parts[0]))
    return numpy.where(acts, over, 0.0), -numpy.stack([share, 1 - share], axis=2) * acts[..., None]


def _least_squares(residuals: Callable[[Floats], tuple[Floats, Floats]], start: Floats, floor: Floats) -> Floats:
    """The points [fits, 2] of least squares, none below `floor`, from all starts at once: Levenberg and Marquardt's
    damped steps (Marquardt 1963). `scipy.optimize.least_squares` finds the same, one by one, in the time in which a
    whole archive is to be shown.
    """
    points, damping = start, numpy.full(len(start), 1e-3)
    values, slopes = residuals(points)
    for _ in range(_MOST_STEPS):
        squares = slopes.swapaxes(1, 2) @ slopes
        downhill = -(slopes.swapaxes(1, 2) @ values[..., None])[..., 0]
        # What lies at the floor and would sink stays, and the other goes on alone.
        free = (points > floor) | (downhill > 0)
        squares = squares * (free[:, :, None] & free[:, None, :])
        damped = squares + numpy.eye(2) * (squares * damping[:, None, None] + 1e-15)
        step = numpy.clip(numpy.linalg.solve(damped, (downhill * free)[..., None])[..., 0], -2.0, 2.0)
        tried = numpy.maximum(points + step, floor)
        if (numpy.abs(tried - points) <= 1e-12 * numpy.abs(points)).all():
            break
        new_values, new_slopes = residuals(tried)
        better = (new_values**2).sum(axis=1) <= (values**2).sum(axis=1)
        points = numpy.where(better[:, None], tried, points)
        values = numpy.where(better[:, None], new_values, values)
        slopes = numpy.where(better[:, None, None], new_slopes, slopes)
        damping = numpy.where(better, damping / 5, damping * 5)
    return points


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
    best, residuals, derivatives = _fit(sizes, numpy.log(medians), _logs(tried))
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
        tuple(_doubts(curve, best, residuals, derivatives)),
    )


def _resampled(curve: Curve, sizes: Floats, tried: Floats) -> list[Fit]:
    medians = numpy.stack([_resampled_medians(point, place) for place, point in enumerate(curve.points)], axis=1)
    enough = numpy.isfinite(medians).sum(axis=1) >= 2
    return _fits(sizes, numpy.log(medians[enough]), _logs(tried))


def _resampled_medians(point: Point, seed: int) -> Floats:
    """[RESAMPLES] medians of the point's seeds, drawn with replacement."""
    draws = numpy.random.default_rng(seed).choice(point.steps, (RESAMPLES, len(point.steps)))
    ordered = numpy.sort(draws, axis=1)
    # Not numpy.median, whose mean of two infinities is NaN.
    seeds = ordered.shape[1]
    return numpy.asarray((ordered[:, (seeds - 1) // 2] + ordered[:, seeds // 2]) / 2)


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
    return _fits(sizes, drawn, _logs(tried))


# Below this sum of squares steps do not vary with the batch size, and there is nothing to explain.
_FLAT = 1e-6
# A residual that a person would see on the plot.
_LARGE = 0.25


def _doubts(curve: Curve, best: Fit, residuals: Floats, derivatives: Floats) -> list[str]:
    """Every reason not to believe the fit, a sentence each."""
    doubts = []
    points = curve.points
    met = [point for point in points if math.isfinite(point.median)]
    sizes = [point.batch_size for point in met]
    missed = [point for point in points if point not in met]
    if bounded := [f"{point.batch_size:,.0f}" for point in missed if point.tried]:
        doubts.append(
            f"no steps to target at batch size {', '.join(bounded)}: the fit knows them only as more than was tried"
        )
    if unknown := [f"{point.batch_size:,.0f}" for point in missed if not point.tried]:
        doubts.append(
            f"no steps to target at batch size {', '.join(unknown)}, nor how many were tried: the fit knows nothing of "
            "them"
        )
    if len(met) < 4:
        doubts.append(f"{len(met)} batch sizes met the target; a fit of two numbers wants four or more")
    if best.critical_batch > max(sizes):
        doubts.append(
            f"only the side of perfect scaling was seen: B_crit lies beyond the largest batch size, {max(sizes):,.0f}"
        )
    if best.critical_batch < min(sizes):
        doubts.append(
            f"only the side of maximal data parallelism was seen: B_crit lies below the smallest batch size, "
            f"{min(sizes):,.0f}"
        )
    rises = [f"{after.batch_size:,.0f}" for before, after in pairwise(met) if after.median > before.median]
    if rises:
        doubts.append(f"steps rise with the batch size at {', '.join(rises)}, which the model cannot follow")
    worst = max(range(len(points)), key=lambda place: abs(residuals[place]))
    if abs(residuals[worst]) > _LARGE:
        doubts.append(
            f"the fit is {abs(math.expm1(-residuals[worst])):.0%} {'below' if residuals[worst] > 0 else 'above'} "
            f"what was measured at batch size {points[worst].batch_size:,.0f}"
        )
    known = [point in met for point in points]
    if _bent(numpy.log(sizes), residuals[known], derivatives[known]):
        doubts.append("the residuals bend from one end to the other: the curve has another shape than the model")
    return doubts


def _bent(logs: Floats, residuals: Floats, derivatives: Floats) -> bool:
    """Whether a parabola beside the model's two terms lowers the residuals more than chance would (F test at 5 %, one
    degree of freedom for the parabola), and they matter at all.
    """
    from scipy.special import fdtrc

    freedom = len(logs) - 3
    if freedom < 2 or numpy.abs(residuals).max() < 0.05:
        return False
    parabola = (logs - logs.mean()) ** 2
    beside = numpy.column_stack([derivatives, parabola])
    before, after = (
        float(((residuals - columns @ numpy.linalg.lstsq(columns, residuals)[0]) ** 2).sum())
        for columns in (derivatives, beside)
    )
    return after <= 0 or float(fdtrc(1, freedom, (before - after) / (after / freedom))) < 0.05


def slopes(curve: Curve) -> list[Slope]:
    """The slope from each batch size to the next, with an interval from resampled seeds and the evaluations' spacing.

    A slope beside a miss is unresolved, and its regime undecided.
    """
    found = []
    for place, (before, after) in enumerate(pairwise(curve.points)):
        apart = math.log(after.batch_size / before.batch_size)
        if not math.isfinite(before.median) or not math.isfinite(after.median):
            found.append(Slope(after.batch_size, Interval(math.nan, math.nan, math.nan), "undecided"))
            continue
        # Where both medians of a draw are misses, the slope between them may be anything.
        with numpy.errstate(invalid="ignore"):
            draws = numpy.log(_resampled_medians(after, place + 1)) - numpy.log(_resampled_medians(before, place))
        low, high = (
            float(numpy.quantile(numpy.where(numpy.isnan(draws), unknown, draws), share, method="nearest")) / apart
            for unknown, share in ((-math.inf, (1 - CONFIDENCE) / 2), (math.inf, (1 + CONFIDENCE) / 2))
        )
        slope = Interval(
            math.log(after.median / before.median) / apart,
            low + _shrunk(after) / apart,
            high - _shrunk(before) / apart,
        )
        found.append(Slope(after.batch_size, slope, _regime(slope)))
    return found


def _shrunk(point: Point) -> float:
    """The logarithm of how much smaller the steps may be than was seen."""
    return math.log1p(-min(point.resolution, 0.99))


def _regime(slope: Interval) -> Regime:
    if slope.high <= PERFECT:
        return "perfect scaling"
    if slope.low > -MAXIMAL:
        return "rising"
    if slope.low >= MAXIMAL:
        return "maximal data parallelism"
    if slope.low > PERFECT and slope.high < MAXIMAL:
        return "diminishing returns"
    return "undecided"


def perfect_scaling_until(rows: Sequence[Summary]) -> int | None:
    """The largest batch size of a workload up to which every step in batch size scaled perfectly, beyond doubt; None
    where the first already did not.
    """
    until = None
    for slope in slopes(curve_of(rows)):
        if slope.regime != "perfect scaling":
            break
        until = int(slope.batch_size)
    return until


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


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
