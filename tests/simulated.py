"""Curves of steps to target as noisy and as discrete as those of archives, made by hand: no archive, no training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy

from bench.conclude.points import Curve, Point

SIZES = [8.0 * 2**place for place in range(7)]
WIDE = [2.0 * 2**place for place in range(12)]
GRID = 0.05


def simulated(
    chance: numpy.random.Generator,
    *,
    sizes: Sequence[float] = SIZES,
    minimum_steps: float = 25,
    critical_batch: float = 100,
    exponent: float = 1,
    seed_noise: float = 0.2,
    tuning_noise: float = 0.1,
    run_noise: float = 0,
    candidates: int = 3,
    seeds: int = 5,
    missed: float = 0,
    missed_at: Mapping[float, float] | None = None,
) -> Curve:
    """A workload of which the best few trials were confirmed with a few seeds each, at every batch size.

    Steps are S_min (1 + (B_crit/B)^exponent), times the tuning of each candidate, which is never better than the best
    there is (half of a normal of deviation `tuning_noise`), times the luck of the seed (log-normal of coefficient of
    variation `seed_noise`); they are whole, and read at evaluations that lie `GRID` apart.
    run_noise: the deviation of what all candidates of a batch size share.
    missed: the chance of each seed to miss.  missed_at: batch sizes where all miss,
    and the share of the true steps that was tried there.
    """
    deviation = math.sqrt(math.log1p(seed_noise**2))
    tried, points = missed_at or {}, []
    for size in sizes:
        true = minimum_steps * (1 + (critical_batch / size) ** exponent) * math.exp(run_noise * chance.normal())
        tuned = true * numpy.exp(tuning_noise * numpy.abs(chance.standard_normal((candidates, 1))))
        steps = numpy.rint(tuned * numpy.exp(deviation * chance.standard_normal((candidates, seeds))))
        after, by = _evaluations(steps)
        met = chance.random(steps.shape) >= (1 if size in tried else missed)
        steps = numpy.sort(numpy.where(met, by, math.inf), axis=1)
        best, *others = sorted(map(tuple, steps.tolist()), key=lambda each: each[(seeds - 1) // 2])
        gap = float(numpy.median(numpy.maximum(by - after - 1, 0) / by))
        points.append(Point(size, best, float(round(tried.get(size, 3) * true)), gap, tuple(others)))
    return Curve("simulated", tuple(points))


def _evaluations(steps: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The evaluation before each step and the one at it or after it."""
    place = numpy.ceil(numpy.log(steps) / GRID - 1e-9)
    return numpy.ceil(numpy.exp((place - 1) * GRID) - 1e-9), numpy.ceil(numpy.exp(place * GRID) - 1e-9)
