"""Every reason not to believe a fit, and the tests behind those that chance could explain.

Each test has a chance of at most 5 % to be positive where the model is true: over all points together where it looks at
several.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy

from bench.conclude.fit import Fit, logs_of, rising_misses
from bench.conclude.points import Curve, Floats, Point

ALPHA = 0.05
# A difference that nobody minds, however sure it is.
_SMALL = 0.1
# Steps that may be overstated by more than this share are a doubt.
COARSE = 0.1
_DRAWS = 4000


@dataclass(frozen=True)
class Noise:
    """Variances of the logarithm of a point's steps, and the degrees of freedom that they are known with.

    seeds: by resampling seeds and candidates, the mean over points; 0 where a point has one seed.
    scatter: by the residuals about the fit of exponent 1, which is the larger where the exponent is another.
    left: points beyond the two numbers of that fit.
    """

    seeds: float
    freedom: int
    scatter: float
    left: int

    @property
    def by_seeds(self) -> bool:
        return self.freedom > 0


def doubts_of(
    curve: Curve,
    best: Fit,
    residuals: Floats,
    derivatives: Floats,
    noise: Noise,
    risen: Sequence[float],
    exponent: float | None,
) -> list[str]:
    """Every reason not to believe the fit, a sentence each.

    risen: the batch sizes where steps rise beyond chance.  exponent: how often exponent 1 would give such a curve,
    where it is ruled out.
    """
    points = curve.points
    met = [point for point in points if math.isfinite(point.log)]
    sizes = [point.batch_size for point in met]
    doubts = [*_bounds(points)]
    if len(met) < 4:
        doubts.append(f"{len(met)} batch sizes met the target; a fit of two numbers wants four or more")
    if coarse := [point for point in met if point.resolution > COARSE]:
        doubts.append(
            f"evaluations lie far apart at batch size {listed(point.batch_size for point in coarse)}: steps there may "
            f"be overstated by up to {max(point.resolution for point in coarse):.0%}"
        )
    if best.critical_batch > max(sizes):
        doubts.append(
            f"only the side of perfect scaling was seen: B_crit lies beyond the largest batch size, {max(sizes):,.0f}"
        )
    if best.critical_batch < min(sizes):
        doubts.append(
            f"only the side of maximal data parallelism was seen: B_crit lies below the smallest batch size, "
            f"{min(sizes):,.0f}"
        )
    if risen:
        doubts.append(f"steps rise with the batch size at {listed(risen)}, which the model cannot follow")
    if exponent is not None:
        doubts.append(
            f"the points bend as with exponent {best.exponent:.2f}: by chance exponent 1 would give such a curve in "
            f"{exponent:.1%} of cases; the numbers are those of the free exponent"
        )
    known = numpy.array([math.isfinite(point.log) for point in points])
    if (worst := _misfit(residuals[known], derivatives[known], noise)) is not None:
        away = float(residuals[known][worst])
        doubts.append(
            f"the fit is {abs(math.expm1(-away)):.0%} {'below' if away > 0 else 'above'} "
            f"what was measured at batch size {sizes[worst]:,.0f}"
        )
    return doubts


def _bounds(points: Sequence[Point]) -> Iterable[str]:
    """What is said of points that bound the steps from one side."""
    logs, tried = numpy.array([point.log for point in points]), logs_of([point.tried for point in points])
    risen = [point for point, rises in zip(points, rising_misses(logs[None], tried)[0], strict=True) if rises]
    rose = [point.batch_size for point in risen if not point.first]
    missed = [point for point in points if math.isinf(point.median)]
    if rose:
        yield (
            f"no steps to target at batch size {listed(rose)}, though more were tried than a smaller batch size took: "
            "steps rise with the batch size there, and the fit leaves these out"
        )
    if bounded := [point.batch_size for point in missed if point.tried and point not in risen]:
        yield f"no steps to target at batch size {listed(bounded)}: the fit knows them only as more than was tried"
    if unknown := [point.batch_size for point in missed if not point.tried]:
        yield (
            f"no steps to target at batch size {listed(unknown)}, nor how many were tried: the fit knows nothing of "
            "them"
        )
    if first := [point.batch_size for point in points if point.first and point not in missed]:
        yield (
            f"the target was met at the first evaluation at batch size {listed(first)}: steps there are only an upper "
            "bound, and the fit leaves them out"
        )


def listed(sizes: Iterable[float]) -> str:
    return ", ".join(f"{size:,.0f}" for size in sizes)


def exponent_p(gained: float, residuals: Floats, seeds: float) -> float:
    """How often exponent 1 gives points that a free exponent fits better by `gained`, a difference of sums of squares.

    F test of one number more, against the scatter about the free fit (`residuals`) or the variance that `seeds` have,
    whichever is larger.
    """
    from scipy.special import fdtrc

    freedom = len(residuals) - 3
    variance = max(float((residuals**2).sum()) / freedom, seeds)
    return float(fdtrc(1, freedom, gained / variance)) if variance else 0.0


def rising(sizes: Floats, logs: Floats, noise: Noise) -> list[float]:
    """The batch sizes whose steps lie above those of a smaller one by more than chance explains.

    The largest rise over all pairs of points is held against the largest of as many points of equal steps, which is
    where a curve that never rises is most likely to seem to. Noise is that of the seeds, or else the scatter.
    """
    variance, freedom = (noise.seeds, noise.freedom) if noise.by_seeds else (noise.scatter, noise.left)
    if len(logs) < 2 or freedom < 1:
        return []
    rises = logs[1:] - numpy.minimum.accumulate(logs)[:-1]
    limit = max(_rise_limit(len(logs), freedom) * math.sqrt(variance), _SMALL)
    return [float(size) for size, rise in zip(sizes[1:], rises, strict=True) if rise > limit]


@lru_cache(maxsize=256)
def _rise_limit(points: int, freedom: int) -> float:
    """What the largest rise of so many equal points stays below in 95 %, in deviations known with `freedom`."""
    random = numpy.random.default_rng(0)
    draws = random.standard_normal((_DRAWS, points))
    largest = (draws[:, 1:] - numpy.minimum.accumulate(draws, axis=1)[:, :-1]).max(axis=1)
    return float(numpy.quantile(largest / numpy.sqrt(random.chisquare(freedom, _DRAWS) / freedom), 1 - ALPHA))


def _misfit(residuals: Floats, derivatives: Floats, noise: Noise) -> int | None:
    """The place of the point that lies furthest from the fit, where chance does not explain how far.

    Student's test of a residual whose variance is that of the other points (externally studentized; Cook and Weisberg
    1982) or that of the seeds, whichever is larger, and Bonferroni's correction for the number of points.
    """
    from scipy.special import stdtrit

    squares = numpy.linalg.pinv(derivatives.T @ derivatives)
    # Of a point that alone holds a number of the fit nothing is left to see.
    left = numpy.maximum(1 - numpy.einsum("ij,jk,ik->i", derivatives, squares, derivatives), 0.0)
    freedom = len(residuals) - derivatives.shape[1] - 1
    if freedom < 1:
        return None
    shares = numpy.where(left > 1e-6, residuals**2 / numpy.maximum(left, 1e-6), 0.0)
    others = numpy.maximum(float((residuals**2).sum()) - shares, 0.0) / freedom
    variance = numpy.maximum(others, noise.seeds)
    degrees = numpy.where(others < noise.seeds, noise.freedom, freedom)
    limits = stdtrit(degrees, 1 - ALPHA / 2 / len(residuals))
    far = (shares > limits**2 * variance) & (numpy.abs(residuals) > _SMALL)
    return int(numpy.argmax(numpy.where(far, numpy.abs(residuals), 0.0))) if far.any() else None
