"""Local slopes of a curve on log-log axes, and the regimes they tell of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy

from bench.conclude.measures import Summary
from bench.conclude.points import Curve, Point, curve_of, resampled_medians
from bench.stats import CONFIDENCE, Interval

# On log-log axes a slope of -1 is perfect scaling and 0 maximal data parallelism (Shallue et al. 2019, section 3).
# Steps that follow S_min + E_min/B pass these two at 0.18 and at 5.7 times the critical batch size. As far above
# 0 as that a slope is neither: steps rise.
PERFECT, MAXIMAL = -0.85, -0.15

Regime = Literal["perfect scaling", "diminishing returns", "maximal data parallelism", "rising", "undecided"]


@dataclass(frozen=True)
class Slope:
    """The slope of log S against log B from the batch size before to this one, its interval and what it says."""

    batch_size: float
    slope: Interval
    regime: Regime


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
            draws = numpy.log(resampled_medians(after, place + 1)) - numpy.log(resampled_medians(before, place))
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
