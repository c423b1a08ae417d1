"""Steps to target against batch size, as points of a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy
from numpy.typing import NDArray

from bench.conclude.measures import Summary
from bench.stats import MedianInterval, median, smallest_median_interval, smallest_medians

RESAMPLES = 400

Floats = NDArray[numpy.floating]


@dataclass(frozen=True)
class Point:
    """Steps to target at a batch size.

    steps: of every seed of the best metaparameters, math.inf for a miss.  others: the same of the other metaparameters
    that were confirmed, among which the best were chosen.  tried: the steps beyond which a miss is known to lie.
    resolution: the share by which steps may be overstated, for they are only known at evaluations.  first: whether the
    target was met at the first evaluation, so that the steps are no more than an upper bound.
    """

    batch_size: float
    steps: tuple[float, ...]
    tried: float = 0.0
    resolution: float = 0.0
    others: tuple[tuple[float, ...], ...] = ()
    first: bool = False

    @cached_property
    def median(self) -> float:
        return median(self.steps)

    @cached_property
    def interval(self) -> MedianInterval:
        """The median, with an interval that contains the noise of the seeds and of choosing among candidates."""
        return smallest_median_interval([self.steps, *self.others])

    @property
    def to_middle(self) -> float:
        """The logarithm of how far below its steps the middle of what they may be lies, as a ratio; 0 or less."""
        return math.log1p(-min(self.resolution, 0.99)) / 2

    @property
    def log(self) -> float:
        """The logarithm of the steps, in the middle of what the spacing of evaluations leaves open; math.inf for a
        miss, and where steps are only an upper bound.
        """
        return math.inf if self.first else math.log(self.median) + self.to_middle

    @property
    def missed(self) -> str:
        """What a miss is written as: beyond what was tried, where that is known."""
        return f">{self.tried:,.0f}" if self.tried else "missed"


@dataclass(frozen=True)
class Curve:
    """Steps to target against batch size, in rising order: of a workload, or out of anybody's table.

    sizes: of the model, of the data, or of both, as (name, size), where several curves are compared by them.
    """

    label: str
    points: tuple[Point, ...]
    sizes: tuple[tuple[str, float], ...] = ()


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
            best, *rest = row.confirmed.candidates
            met = [each for each in best.each if math.isfinite(each.by)]
            gap, first = (median([each.gap for each in met]), any(each.first for each in met)) if met else (0.0, False)
            others = tuple(candidate.steps for candidate in rest)
            points.append(Point(size, best.steps, row.confirmed.budget, gap, others, first))
        else:
            first = found.attempts[0].crossed.first
            points.append(Point(size, (found.steps,), found.steps, found.resolution, (), first))
    name = rows[0].study.title if rows else ""
    return Curve(name, tuple(sorted(points, key=lambda point: point.batch_size)))


def resampled_logs(point: Point, seed: int) -> Floats:
    """[RESAMPLES] logarithms of the point's steps: its seeds and those of the other candidates drawn with replacement,
    the smallest median of each draw, anywhere within what the spacing of evaluations leaves open.

    All seeds are evaluated at the same steps, so that a draw has one place between evaluations for all of them.
    """
    medians = smallest_medians([point.steps, *point.others], seed, RESAMPLES)
    place = numpy.random.default_rng((seed, 1)).random(RESAMPLES)
    return numpy.asarray(numpy.log(medians) + 2 * point.to_middle * place)
