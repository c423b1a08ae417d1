"""Steps to target against batch size, as points of a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy
from numpy.typing import NDArray

from bench.conclude.measures import Summary
from bench.stats import median

RESAMPLES = 200

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

    @property
    def missed(self) -> str:
        """What a miss is written as: beyond what was tried, where that is known."""
        return f">{self.tried:,.0f}" if self.tried else "missed"


@dataclass(frozen=True)
class Curve:
    """Steps to target against batch size, in rising order: of a workload, or out of anybody's table.

    size: of the model or the data, where several curves are compared by it.
    """

    label: str
    points: tuple[Point, ...]
    size: float | None = None


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


def resampled_medians(point: Point, seed: int) -> Floats:
    """[RESAMPLES] medians of the point's seeds, drawn with replacement."""
    draws = numpy.random.default_rng(seed).choice(point.steps, (RESAMPLES, len(point.steps)))
    ordered = numpy.sort(draws, axis=1)
    # Not numpy.median, whose mean of two infinities is NaN.
    seeds = ordered.shape[1]
    return numpy.asarray((ordered[:, (seeds - 1) // 2] + ordered[:, seeds // 2]) / 2)
