"""Fits S = S_min (1 + (B_crit/B)^alpha) to steps to target, by least squares of logarithms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy
from numpy.typing import NDArray

from bench.conclude.points import Floats

# Where a term is nowhere more than this share of the steps, the steps say only that it is no larger.
_UNSEEN = 1e-3
# A term may fall this much further below that before the search for it stops.
_NOTHING = 1e-6
# A free exponent is searched between 1/2 and 2.
_WIDEST = math.log(2)
_MOST_STEPS = 200
# The search ends where no number moves by more than this: a fit has all its digits, a resample those of an interval.
_EXACT, _CLOSE = 1e-12, 1e-5
# Batch sizes are looked for up to e^50.
_FARTHEST = 50.0

Bools = NDArray[numpy.bool_]
Term = Literal["minimum_steps", "scale"]


class Law(NamedTuple):
    """S = minimum + (scale/B)^exponent, any number of such laws at once: every field is an array of one shape.

    minimum: S_min, in steps.  scale: where the falling term alone would be one step; for exponent 1 it is E_min.
    """

    minimum: Floats
    scale: Floats
    exponent: Floats

    @property
    def critical_batch(self) -> Floats:
        """B_crit, where S = 2 S_min; infinite without S_min."""
        with numpy.errstate(divide="ignore", over="ignore"):
            return numpy.asarray(self.scale / self.minimum ** (1 / self.exponent))

    def steps(self, batch_size: Floats | float) -> Floats:
        return numpy.asarray(self.minimum + (self.scale / batch_size) ** self.exponent)

    def slope(self, batch_size: float) -> Floats:
        """d log S / d log B at a batch size: -exponent far below B_crit, and 0 far above."""
        falling = (self.scale / batch_size) ** self.exponent
        with numpy.errstate(invalid="ignore"):
            return numpy.asarray(-self.exponent * falling / (self.minimum + falling))

    def batch_of_slope(self, slope: float) -> Floats:
        """The batch size at which the slope is `slope`, such as -0.85; 0 where it is less steep everywhere."""
        ratio = numpy.maximum(self.exponent / -slope - 1, 0.0)
        with numpy.errstate(invalid="ignore"):
            return numpy.asarray(numpy.where(ratio > 0, self.critical_batch * ratio ** (1 / self.exponent), 0.0))

    def overhead_batch(self, overhead: float, reference: float) -> Floats:
        """The batch size that needs 1 + `overhead` times the examples that the batch size `reference` needs.

        For exponent 1 it is (delta b + (1 + delta) B0 a)/a (Zhang et al. 2024). For others it is searched above
        `reference` and above the batch size of fewest examples; infinite where so many examples are never needed.
        """
        with numpy.errstate(divide="ignore", over="ignore"):
            closed = overhead * self.scale / self.minimum + (1 + overhead) * reference
        if (self.exponent == 1).all():
            return numpy.asarray(closed)
        wanted = numpy.log((1 + overhead) * reference * self.steps(reference))
        # Examples are fewest where (exponent - 1) of the falling term equals S_min.
        farthest = math.exp(_FARTHEST)
        turn = numpy.minimum(self.critical_batch, farthest) * numpy.maximum(self.exponent - 1, 0) ** (1 / self.exponent)
        low = numpy.log(numpy.clip(turn, reference, farthest))
        high = numpy.full_like(low, _FARTHEST)
        for _ in range(60):
            middle = (low + high) / 2
            enough = middle + numpy.log(self.steps(numpy.exp(middle))) >= wanted
            low, high = numpy.where(enough, low, middle), numpy.where(enough, middle, high)
        searched = numpy.where(high > _FARTHEST - 1e-6, math.inf, numpy.exp(high))
        return numpy.asarray(numpy.where(self.exponent == 1, closed, searched))


class Fits(NamedTuple):
    """Laws that were fitted, and which of their terms were not seen [fits, 2]: (minimum, falling term)."""

    law: Law
    unseen: Bools

    @property
    def without_unseen(self) -> Law:
        """What is as possible as the fits themselves: terms that were not seen are nothing."""
        minimum, falling = self.unseen.T
        return Law(numpy.where(minimum, 0.0, self.law.minimum), numpy.where(falling, 0.0, self.law.scale), self.law[2])

    def bounds(self, of: Callable[[Law], Floats]) -> tuple[Floats, Floats]:
        """The least and the most that each fit allows of a number; they are the same where both terms were seen."""
        ends = of(self.law), of(self.without_unseen)
        return numpy.minimum(*ends), numpy.maximum(*ends)


@dataclass(frozen=True)
class Fit:
    """One fit, S = S_min + (scale/B)^alpha, with S_min `minimum_steps` and alpha `exponent`.

    unseen: the term of which the steps say only that it is no more than what stands here; None where they show both.
    """

    minimum_steps: float
    scale: float
    exponent: float = 1.0
    unseen: Term | None = None

    @property
    def law(self) -> Law:
        return Law(*map(numpy.float64, (self.minimum_steps, self.scale, self.exponent)))  # type: ignore[arg-type]

    @property
    def minimum_examples(self) -> float:
        """E_min, which only exponent 1 has (McCandlish et al. 2018, eq. 2.11); NaN for another."""
        return self.scale if self.exponent == 1 else math.nan

    @property
    def critical_batch(self) -> float:
        """B_crit, where a run takes twice the least steps; infinite without S_min. For exponent 1 it is E_min/S_min,
        and a run takes twice the least examples too.
        """
        return float(self.law.critical_batch)

    def steps(self, batch_size: float) -> float:
        return float(self.law.steps(batch_size))

    def overhead_batch(self, overhead: float, reference: float) -> float:
        """The 20 % critical batch size of Zhang et al. 2024: see `Law.overhead_batch`."""
        return float(self.law.overhead_batch(overhead, reference))


@dataclass(frozen=True)
class Prior:
    """How close to 1 the exponent is held: residuals of noise `noise` stand beside (log exponent - centre)/deviation.

    centres: of each fit, drawn about 0; drawing them makes the fits to resamples vary as the exponent may.
    """

    centres: Floats
    deviation: float
    noise: float


def fit(
    batch_sizes: Sequence[float], steps: Sequence[float], tried: Sequence[float] | None = None, *, free: bool = False
) -> Fit:
    """Least squares of log S against the logarithm of the model, with exponent 1 or with a free one.

    A miss is math.inf: the fit is pulled up to the steps that were `tried` there, and no further, and not at all where
    the miss is rising (`rising_misses`). Raises ValueError where fewer than two batch sizes were met, or a number is
    not positive.
    """
    sizes, medians = numpy.asarray(batch_sizes, float), numpy.asarray(steps, float)
    met = numpy.isfinite(medians)
    if len(set(sizes[met])) < 2:
        raise ValueError("a fit needs steps to target at two batch sizes or more")
    if not (sizes > 0).all() or not (medians > 0).all():
        raise ValueError("batch sizes and steps to target are positive numbers")
    return fit_logs(sizes, numpy.log(medians), logs_of(medians if tried is None else tried), free=free)[0]


def logs_of(tried: Sequence[float] | Floats) -> Floats:
    """The logarithm of steps that were tried, for the functions below."""
    return numpy.asarray(numpy.log(numpy.maximum(tried, 1.0)))


def rising_misses(logs: Floats, tried: Floats) -> Bools:
    """Which misses [fits, n] lie, by the steps `tried` there, above the steps of some smaller batch size.

    Steps would rise with the batch size there, which no S_min can explain, however large.
    """
    known = numpy.where(numpy.isfinite(logs), logs, math.inf)
    before = numpy.minimum.accumulate(known, axis=1)
    smaller = numpy.concatenate([numpy.full((len(logs), 1), math.inf), before[:, :-1]], axis=1)
    return numpy.asarray(~numpy.isfinite(logs) & (tried > smaller))


def fit_logs(sizes: Floats, logs: Floats, tried: Floats, *, free: bool = False) -> tuple[Fit, Floats, Floats]:
    """The fit to logarithms of steps [n], its residuals [n], and their derivatives [n, 2] by (log S_min, log scale), or
    [n, 3] with the exponent where that is free.
    """
    fits, residuals, derivatives = _solved(sizes, logs[None], tried, _WIDEST if free else 0.0)
    minimum, scale, exponent = (float(each[0]) for each in fits.law)
    # Neither vanishes where the other does, for their sum is the steps.
    unseen: Term | None = "minimum_steps" if fits.unseen[0, 0] else "scale" if fits.unseen[0, 1] else None
    return Fit(minimum, scale, exponent, unseen), residuals[0], derivatives[0, :, : 3 if free else 2]


def fit_each(sizes: Floats, logs: Floats, tried: Floats, prior: Prior | None = None) -> Fits:
    """The fit to each row of logarithms of steps [fits, n]: with exponent 1, or with one that a prior holds near 1."""
    return _solved(sizes, logs, tried, _WIDEST if prior else 0.0, prior, _CLOSE)[0]


def _solved(
    sizes: Floats, logs: Floats, tried: Floats, widest: float, prior: Prior | None = None, close: float = _EXACT
) -> tuple[Fits, Floats, Floats]:
    """The fits to rows of logs [fits, n], their residuals [fits, n] and derivatives [fits, n, 3].

    The three numbers are the logarithms of S_min, of the falling term at the middle of the batch sizes, and of the
    exponent, which stays within `widest` of 0.
    """
    centre = float(numpy.log(sizes).mean())
    apart = numpy.log(sizes) - centre
    tried = numpy.where(rising_misses(logs, tried), -math.inf, tried)
    known = numpy.where(numpy.isfinite(logs), logs, math.inf)
    exponents = numpy.zeros(len(logs)) if prior is None else numpy.clip(prior.centres, -widest, widest)
    start = numpy.stack([known.min(axis=1), (known + apart).min(axis=1), exponents], axis=1)
    least = start[:, :2] + math.log(_UNSEEN)
    low = numpy.column_stack([least + math.log(_NOTHING), numpy.full(len(logs), -widest)])
    high = numpy.column_stack([numpy.full((len(logs), 2), math.inf), numpy.full(len(logs), widest)])

    def residuals(points: Floats) -> tuple[Floats, Floats]:
        values, slopes = _residuals(points, apart, logs, tried)
        if prior is None or not prior.noise:
            return values, slopes
        weight = prior.noise / prior.deviation
        away = weight * (points[:, 2:] - prior.centres[:, None])
        pull = numpy.zeros((len(points), 1, 3))
        pull[..., 2] = weight
        return numpy.concatenate([values, away], axis=1), numpy.concatenate([slopes, pull], axis=1)

    found = _least_squares(residuals, start, low, high, close)
    unseen = found[:, :2] < least
    found = numpy.column_stack([numpy.maximum(found[:, :2], least), found[:, 2]])
    exponent = numpy.exp(found[:, 2])
    law = Law(numpy.exp(found[:, 0]), numpy.exp(found[:, 1] / exponent + centre), exponent)
    return Fits(law, unseen), *_residuals(found, apart, logs, tried)


def _residuals(points: Floats, apart: Floats, logs: Floats, tried: Floats) -> tuple[Floats, Floats]:
    """Residuals [fits, n] of points [fits, 3], and their derivatives [fits, n, 3]; a miss has none up to `tried`."""
    met = numpy.isfinite(logs)
    reach = numpy.exp(points[:, 2:]) * apart
    parts = points[:, :1], points[:, 1:2] - reach
    over = numpy.where(met, logs, tried) - numpy.logaddexp(*parts)
    acts = met | (over > 0)
    falling = numpy.exp(-numpy.logaddexp(0.0, parts[0] - parts[1]))
    slopes = numpy.stack([falling - 1, -falling, falling * reach], axis=2)
    return numpy.where(acts, over, 0.0), slopes * acts[..., None]


def _least_squares(
    residuals: Callable[[Floats], tuple[Floats, Floats]], start: Floats, low: Floats, high: Floats, close: float
) -> Floats:
    """The points [fits, k] of least squares within [low, high], from all starts at once: Levenberg and Marquardt's
    damped steps (Marquardt 1963). `scipy.optimize.least_squares` finds the same, but one by one: too slow for the
    resamples of every curve of an archive.
    """
    points, damping = start, numpy.full(len(start), 1e-3)
    values, slopes = residuals(points)
    for _ in range(_MOST_STEPS):
        squares = slopes.swapaxes(1, 2) @ slopes
        downhill = -(slopes.swapaxes(1, 2) @ values[..., None])[..., 0]
        # What lies at a bound and would cross it stays, and the others go on alone.
        free = ((points > low) | (downhill > 0)) & ((points < high) | (downhill < 0))
        squares = squares * (free[:, :, None] & free[:, None, :])
        damped = squares + numpy.eye(points.shape[1]) * (squares * damping[:, None, None] + 1e-15)
        step = numpy.clip(numpy.linalg.solve(damped, (downhill * free)[..., None])[..., 0], -2.0, 2.0)
        tried = numpy.clip(points + step, low, high)
        if (numpy.abs(tried - points) <= close * numpy.maximum(numpy.abs(points), close)).all():
            break
        new_values, new_slopes = residuals(tried)
        better = (new_values**2).sum(axis=1) <= (values**2).sum(axis=1)
        points = numpy.where(better[:, None], tried, points)
        values = numpy.where(better[:, None], new_values, values)
        slopes = numpy.where(better[:, None, None], new_slopes, slopes)
        damping = numpy.where(better, damping / 5, damping * 5)
    return points
