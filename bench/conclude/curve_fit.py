"""How steps to target fall with the batch size: the fit to a curve with its intervals, and reasons to give none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy

from bench.conclude.doubts import Noise, doubts_of, exponent_p, listed, rising
from bench.conclude.fit import Fit, Fits, Law, Prior, fit_each, fit_logs, logs_of, rising_misses
from bench.conclude.points import RESAMPLES, Curve, Floats, Point, resampled_logs
from bench.stats import CONFIDENCE, Interval

OVERHEAD = 0.2
# How far true exponents lie from 1, as one standard deviation of their logarithm. With it the intervals cover where the
# true exponent is 0.9, 1 or 1.1 (tests/perf/coverage.py); that of a published curve is 1.07 (Zhang et al. 2024, 151M).
EXPONENT_DEVIATION = 0.12
# The free exponent takes the place of exponent 1 where exponent 1 would give so bent a curve less often than this.
REJECTED = 0.05
# Below this sum of squares steps do not vary with the batch size, and there is nothing to explain.
_FLAT = 1e-6
# Steps that only seem to rise are fitted by the flattest curve, whose least slope costs this share of them at most.
_NOTHING = 0.01
# A model that cannot rise, and explains less than this share of steps that do, does not describe them.
_DESCRIBES = 0.5


@dataclass(frozen=True)
class CurveFit:
    """A fitted curve: its intervals, how well it fits, and every reason to doubt it.

    fit: the one whose numbers are shown, with exponent 1 unless the points rule that out.  free: with a free exponent;
    None where fewer than four batch sizes met the target.  minimum_examples: if the exponent is 1, since no other has a
    least number of examples; NaN where the points rule 1 out.
    residuals: log(measured/fitted) at each point; for a miss, how far the fit lies below what was tried, else 0.
    explained: the share of the variance of log S; NaN where it does not vary.
    exponent_p: how often exponent 1 would give a curve as bent as this by chance; NaN where that is not known.
    rising: the batch sizes where steps rise: beyond chance, or since a miss was tried for more than a smaller one took.
    draws: fits to resamples, each with its own exponent: what may be true instead of `fit`; None without any.
    """

    curve: Curve
    fit: Fit
    exponent_one: Fit
    free: Fit | None
    reference: float
    overhead: float
    minimum_steps: Interval
    minimum_examples: Interval
    critical_batch: Interval
    overhead_batch: Interval
    residuals: tuple[float, ...]
    explained: float
    exponent_p: float
    rising: tuple[float, ...]
    doubts: tuple[str, ...]
    draws: Fits | None = field(compare=False, repr=False)

    def interval(self, of: Callable[[Law], Floats], least: float = 0.0, most: float = math.inf) -> Interval:
        """A number of the fit, with the interval that its resamples give it; [least, most] where there are none."""
        return _interval(self.fit, self.draws, of, least, most)


def fit_curve(curve: Curve, overhead: float = OVERHEAD, reference: float | None = None) -> CurveFit | None:
    """The curve's fit; None where fewer than two batch sizes met the target, or the model does not describe them.

    reference: the batch size to whose examples `overhead` is added; the smallest measured where none is given.

    The intervals hold the noise of the seeds and that of choosing among candidates, by resampling both; what else the
    points scatter about the fit; the spacing of evaluations; and an exponent that is not known to be 1
    (`EXPONENT_DEVIATION`). Where a point has one seed, all noise is taken from the scatter, and two points have no
    interval. What hangs on a term that was not seen has no value (NaN), and its interval is open on that side.
    """
    found = _attempt(curve, overhead, reference)
    return found if isinstance(found, CurveFit) else None


def no_fit(curve: Curve) -> str | None:
    """Why a curve that met the target at two batch sizes or more has no fit, in a sentence; None where it has one."""
    found = _attempt(curve, OVERHEAD, None)
    return found if isinstance(found, str) else None


@lru_cache(maxsize=256)  # several analyses and pictures ask for the same curve's
def _attempt(curve: Curve, overhead: float, reference: float | None) -> CurveFit | str | None:
    """The fit, or why there is none; None where fewer than two batch sizes met the target."""
    sizes = numpy.array([point.batch_size for point in curve.points])
    logs = numpy.array([point.log for point in curve.points])
    tried = logs_of([0.0 if point.first else point.tried for point in curve.points])
    met = numpy.isfinite(logs)
    if met.sum() < 2:
        first = [point.batch_size for point in curve.points if point.first]
        if int(met.sum()) + len(first) < 2:
            return None
        return (
            f"the target was met at the first evaluation at batch size {listed(first)}: steps there are only known to "
            "be no more than that; evaluate more often, or set a target that takes more steps"
        )
    one, residuals, derivatives = fit_logs(sizes, logs, tried)
    seeds, freedom = _seed_noise([point for point, known in zip(curve.points, met, strict=True) if known])
    left = int(met.sum()) - 2
    noise = Noise(seeds, freedom, float((residuals[met] ** 2).sum()) / left if left else 0.0, left)
    best, free, p = one, None, math.nan
    if met.sum() > 3:
        free, free_residuals, free_derivatives = fit_logs(sizes, logs, tried, free=True)
        gained = float((residuals**2).sum() - (free_residuals**2).sum())
        p = exponent_p(gained, free_residuals[met], seeds) if gained > _FLAT else 1.0
        if p < REJECTED:
            best, residuals, derivatives = free, free_residuals, free_derivatives
    spread = float(((logs[met] - logs[met].mean()) ** 2).sum())
    explained = 1 - float((residuals[met] ** 2).sum()) / spread if spread > _FLAT else math.nan
    risen = rising(sizes[met], logs[met], noise)
    if explained < -_NOTHING or (risen and explained < _DESCRIBES):
        why = f"; steps rise with the batch size at {listed(risen)}" if risen else ""
        return f"S_min (1 + (B_crit/B)^alpha) explains {explained:.1%} of log S{why}: the model does not describe them"
    reference = float(reference or sizes[0])
    ones, draws = _drawn(curve, sizes, logs, tried, noise)
    return CurveFit(
        curve,
        best,
        one,
        free,
        reference,
        overhead,
        _interval(best, draws, lambda law: law.minimum),
        _interval(one, ones, lambda law: law.scale) if best is one else Interval(math.nan, math.nan, math.nan),
        _interval(best, draws, lambda law: law.critical_batch),
        _interval(best, draws, lambda law: law.overhead_batch(overhead, reference)),
        tuple(map(float, residuals)),
        explained,
        p,
        (*risen, *map(float, sizes[rising_misses(logs[None], tried)[0]])),
        tuple(doubts_of(curve, best, residuals, derivatives, noise, risen, p if p < REJECTED else None)),
        draws,
    )


def _interval(
    best: Fit, draws: Fits | None, of: Callable[[Law], Floats], least: float = 0.0, most: float = math.inf
) -> Interval:
    """A number of a fit, with the middle `CONFIDENCE` of what resamples allow it to be; [least, most] without any."""
    low, high = least, most
    if draws is not None:
        lows, highs = (numpy.sort(ends) for ends in draws.bounds(of))
        outside = int((1 - CONFIDENCE) / 2 * len(lows))
        low, high = float(lows[outside]), float(highs[-1 - outside])
    itself = Fits(
        Law(*(numpy.array([each]) for each in best.law)),
        numpy.array([[best.unseen == "minimum_steps", best.unseen == "scale"]]),
    )
    least, most = (float(end[0]) for end in itself.bounds(of))
    value = float(of(best.law)) if math.isclose(least, most, rel_tol=0.01) else math.nan
    return Interval(value, min(low, least), max(high, most))


def _seed_noise(points: Sequence[Point]) -> tuple[float, int]:
    """The variance of the logarithm of a point's steps by resampling seeds and candidates, the mean over points, and
    its degrees of freedom.

    A point of one seed says nothing of its own noise: then nothing is known of any (0, 0).
    """
    if any(len(point.steps) == 1 for point in points):
        return 0.0, 0
    draws = [resampled_logs(point, place) for place, point in enumerate(points)]
    variance = float(numpy.mean([draw[numpy.isfinite(draw)].var() for draw in draws]))
    return variance, sum(len(point.steps) - 1 for point in points)


def _drawn(curve: Curve, sizes: Floats, logs: Floats, tried: Floats, noise: Noise) -> tuple[Fits | None, Fits | None]:
    """Fits to steps as they may have been: with exponent 1, and with one near 1."""
    random = numpy.random.default_rng(0)
    drawn = numpy.tile(logs, (RESAMPLES, 1))
    if noise.by_seeds:
        drawn = numpy.stack([_about(point.log, resampled_logs(point, at)) for at, point in enumerate(curve.points)], 1)
    elif not noise.left:
        return None, None
    if noise.left:
        beyond = math.sqrt(max(0.0, noise.scatter - noise.seeds)) * random.standard_normal(drawn.shape)
        # Wider where few points say how far they scatter.
        beyond *= numpy.sqrt(noise.left / random.chisquare(noise.left, size=(RESAMPLES, 1)))
        # Student's of one degree of freedom knows no end; a float does.
        drawn = drawn + numpy.clip(beyond, -300, 300)
    drawn = drawn[numpy.isfinite(drawn).sum(axis=1) >= 2]
    centres = EXPONENT_DEVIATION * random.standard_normal(len(drawn))
    prior = Prior(centres, EXPONENT_DEVIATION, math.sqrt(max(noise.scatter, noise.seeds)))
    return fit_each(sizes, drawn, tried), fit_each(sizes, drawn, tried, prior)


def _about(log: float, draws: Floats) -> Floats:
    """Draws moved so that they lie about what was measured: the smallest of several medians is drawn too small."""
    met = numpy.isfinite(draws)
    return draws + (log - draws[met].mean()) if math.isfinite(log) and met.any() else numpy.full_like(draws, log)
