"""Local slopes of a fitted curve on log-log axes, and the regimes they tell of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.conclude.curve_fit import CurveFit, fit_curve
from bench.conclude.measures import Summary
from bench.conclude.points import Curve, curve_of
from bench.stats import Interval

# On log-log axes a slope of -1 is perfect scaling and 0 maximal data parallelism (Shallue et al. 2019, section 3).
# Steps that follow S_min (1 + B_crit/B) pass these two at 0.18 and at 5.7 times the critical batch size.
PERFECT, MAXIMAL = -0.85, -0.15
# With this share of fits in one regime, 1 to 6 % of batch sizes are named wrongly (tests/perf/coverage.py).
NAMED = 0.8

Regime = Literal["perfect scaling", "diminishing returns", "maximal data parallelism", "rising", "undecided"]
_UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Slope:
    """The slope d log S / d log B of the fit at a batch size, its interval and the regime it tells of."""

    batch_size: float
    slope: Interval
    regime: Regime


def slopes(curve: Curve) -> list[Slope]:
    """The slope of the curve's fit at each of its batch sizes.

    All points decide every slope, so that one is as sure as the whole curve makes it. A regime is named where at least
    `NAMED` of the fits to resamples lie in it. Where steps rise with the batch size, or without a fit, there is no
    slope.
    """
    fitted = fit_curve(curve)
    return [_slope(point.batch_size, fitted) for point in curve.points]


def _slope(batch_size: float, fitted: CurveFit | None) -> Slope:
    if fitted is None:
        return Slope(batch_size, _UNKNOWN, "undecided")
    if batch_size in fitted.rising:
        return Slope(batch_size, _UNKNOWN, "rising")
    slope = fitted.interval(lambda law: law.slope(batch_size), least=-math.inf, most=0.0)
    return Slope(batch_size, slope, _regime(batch_size, fitted))


def _regime(batch_size: float, fitted: CurveFit) -> Regime:
    if fitted.draws is None:
        return "undecided"
    low, high = fitted.draws.bounds(lambda law: law.slope(batch_size))
    shares: dict[Regime, float] = {
        "perfect scaling": (high <= PERFECT).mean(),
        "diminishing returns": ((low > PERFECT) & (high < MAXIMAL)).mean(),
        "maximal data parallelism": (low >= MAXIMAL).mean(),
    }
    likeliest = max(shares, key=lambda regime: shares[regime])
    return likeliest if shares[likeliest] >= NAMED else "undecided"


def perfect_until(fitted: CurveFit) -> Interval:
    """The batch size up to which a fitted curve scales perfectly; 0 where no slope is as steep as `PERFECT`."""
    return fitted.interval(lambda law: law.batch_of_slope(PERFECT))


def maximal_from(fitted: CurveFit) -> Interval:
    """The batch size from which a fitted curve's slope is no steeper than `MAXIMAL`."""
    return fitted.interval(lambda law: law.batch_of_slope(MAXIMAL))


def perfect_scaling_until(rows: Sequence[Summary]) -> int | None:
    """The largest batch size of a workload up to which the steps scaled perfectly, beyond doubt; None where they did
    not at the smallest.
    """
    until = None
    for slope in slopes(curve_of(rows)):
        if slope.regime != "perfect scaling":
            break
        until = int(slope.batch_size)
    return until
