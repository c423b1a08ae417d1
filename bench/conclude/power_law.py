"""Power laws: of one size, and of several at once, each point weighted by its own interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy

from bench.conclude.points import Floats
from bench.stats import CONFIDENCE, Interval

# Of an exact point; a deviation of nothing has no weight.
_EXACT = 1e-6


@dataclass(frozen=True)
class PowerLaw:
    """value = factor x the product of size^exponent.

    together: sizes left out since they rise together with those that are in the law, so that their exponents cannot be
    told apart.  curves: how many points it is of.
    """

    factor: float
    exponents: dict[str, Interval]
    together: tuple[str, ...]
    curves: int


def power_law(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, Interval]:
    """(c, exponent) of value = c size^exponent by least squares in logarithms, with Student's interval.

    Needs two sizes; two give no interval.
    """
    matrix = numpy.column_stack([numpy.ones(len(sizes)), numpy.log(sizes)])
    numbers, deviations = _weighted(matrix, numpy.log(values), numpy.ones(len(sizes)), least=0.0)
    return math.exp(numbers[0]), _interval(numbers[1], deviations[1], len(sizes) - 2)


def joint_power_law(sizes: Sequence[Mapping[str, float]], values: Sequence[Interval]) -> PowerLaw | None:
    """The power law of values in all of their sizes at once, such as the critical batch size in model size and tokens.

    Least squares in logarithms. A value weighs 1/(s^2 + t^2), s being the deviation that its interval tells of and t
    how far values lie from the law beyond that (Paule and Mandel 1982). The exponents' intervals are Student's, with
    the variance that the weighted residuals show where that is larger (Hartung and Knapp 2001). Sizes that do not vary
    are left out. None where fewer than two points differ in a size; as many points as numbers give no interval.
    """
    from scipy.special import ndtri

    names = [name for name in (sizes[0] if sizes else ()) if len({of[name] for of in sizes}) > 1]
    if not names:
        return None
    kept, together = _told_apart({name: numpy.log([of[name] for of in sizes]) for name in names})
    matrix = numpy.column_stack([numpy.ones(len(sizes)), *kept.values()])
    logs = numpy.log([value.value for value in values])
    reach = 2 * float(ndtri((1 + CONFIDENCE) / 2))
    known = numpy.array([max(math.log(value.high / value.low) / reach, _EXACT) for value in values])
    between = _between(matrix, logs, known)
    numbers, deviations = _weighted(matrix, logs, numpy.sqrt(known**2 + between), least=1.0)
    freedom = len(logs) - matrix.shape[1]
    exponents = {name: _interval(numbers[at], deviations[at], freedom) for at, name in enumerate(kept, start=1)}
    return PowerLaw(math.exp(numbers[0]), exponents, tuple(together), len(logs))


def _told_apart(columns: Mapping[str, Floats]) -> tuple[dict[str, Floats], list[str]]:
    """The columns that are no combination of those before them and a constant, and the names of the others."""
    kept: dict[str, Floats] = {}
    for name, column in columns.items():
        matrix = numpy.column_stack([numpy.ones(len(column)), *kept.values(), column])
        if numpy.linalg.matrix_rank(matrix, tol=1e-6 * numpy.linalg.norm(matrix)) == matrix.shape[1]:
            kept[name] = column
    return kept, [name for name in columns if name not in kept]


def _weighted(matrix: Floats, values: Floats, deviations: Floats, least: float) -> tuple[list[float], list[float]]:
    """The numbers of weighted least squares and their deviations, whose scale is that of the residuals, or `least`."""
    weighed = matrix / deviations[:, None]
    numbers = numpy.linalg.lstsq(weighed, values / deviations)[0]
    freedom = len(values) - matrix.shape[1]
    squares = float((((values - matrix @ numbers) / deviations) ** 2).sum())
    scale = max(squares / freedom, least) if freedom > 0 else math.nan
    covariance = numpy.linalg.pinv(weighed.T @ weighed)
    return numbers.tolist(), [math.sqrt(scale * float(each)) for each in numpy.diag(covariance)]


def _between(matrix: Floats, values: Floats, known: Floats) -> float:
    """The variance beyond the known ones with which the weighted residuals are as large as they should be."""
    freedom = len(values) - matrix.shape[1]
    low, high = 0.0, float(values.var()) * 10
    for _ in range(60 if freedom > 0 else 0):
        middle = (low + high) / 2
        deviations = numpy.sqrt(known**2 + middle)
        numbers = numpy.linalg.lstsq(matrix / deviations[:, None], values / deviations)[0]
        more = float((((values - matrix @ numbers) / deviations) ** 2).sum()) > freedom
        low, high = (middle, high) if more else (low, middle)
    return low


def _interval(value: float, deviation: float, freedom: int) -> Interval:
    from scipy.special import stdtrit

    reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * deviation if freedom > 0 else math.inf
    return Interval(value, value - reach, value + reach)
