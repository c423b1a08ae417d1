"""Fits S = S_min + E_min/B to steps to target, by least squares of logarithms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy

from bench.conclude.points import Floats

# Of a term that is nowhere this share of the steps nothing is learnt but that it is no more.
_UNSEEN = 1e-3
# This share of that is as good as nothing.
_NOTHING = 1e-6
_MOST_STEPS = 200


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
    return fit_logs(sizes, numpy.log(medians), logs_of(medians if tried is None else tried))[0]


def logs_of(tried: Sequence[float] | Floats) -> Floats:
    """The logarithm of steps that were tried, for the functions below."""
    return numpy.asarray(numpy.log(numpy.maximum(tried, 1.0)))


def fit_logs(sizes: Floats, logs: Floats, tried: Floats) -> tuple[Fit, Floats, Floats]:
    """The fit to logarithms of steps, its residuals [n] and their derivatives [n, 2] by (log S_min, log E_min)."""
    (solved,), (fitted,) = _solved(sizes, logs[None], tried)
    residuals, derivatives = _residuals(solved[None], sizes, logs[None], tried)
    return fitted, residuals[0], derivatives[0]


def fit_each(sizes: Floats, logs: Floats, tried: Floats) -> list[Fit]:
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
    damped steps (Marquardt 1963). `scipy.optimize.least_squares` finds the same, but one by one: too slow for the
    resamples of every curve of an archive.
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
