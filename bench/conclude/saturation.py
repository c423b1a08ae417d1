"""Does the best learning rate grow along a straight line on log-log axes, or does it saturate?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

# How often, at most, a shape is ruled out that the rates follow.
ALPHA = 0.05
_HALVES = 400


@dataclass(frozen=True)
class Shape:
    """What learning rates against batch size may follow; neither is ruled out by fewer than four points.

    straight: whether a power of the batch size is not ruled out.  saturating: whether lr_max/(1 + B_half/B) is not,
    with lr_max `most` and B_half `half`.
    """

    straight: bool
    saturating: bool
    most: float
    half: float


def shape_of(batch_sizes: Sequence[float], rates: Sequence[float]) -> Shape:
    """Holds the logarithms of learning rates to a line, and to log lr_max - log(1 + B_half/B), the best step of
    McCandlish et al. 2018 (eq. 2.7), both by least squares.

    Each is ruled out where a parabola, which bends as either may, leaves significantly less: F test at `ALPHA`, with
    one degree of freedom for the bend.
    """
    x, y = numpy.log(numpy.asarray(batch_sizes, float)), numpy.log(numpy.asarray(rates, float))
    halves = numpy.linspace(x.min() - 5, x.max() + 5, _HALVES)
    curves = -numpy.logaddexp(0.0, halves[:, None] - x)
    offsets = (y - curves).mean(axis=1)
    left = ((y - curves - offsets[:, None]) ** 2).sum(axis=1)
    best = int(left.argmin())
    most, half = float(numpy.exp(offsets[best])), float(numpy.exp(halves[best]))
    if len(x) < 4:
        return Shape(True, True, most, half)
    bent = _left(x, y, 2)
    return Shape(
        not _ruled_out(_left(x, y, 1), bent, len(x)), not _ruled_out(float(left[best]), bent, len(x)), most, half
    )


def _left(x: NDArray[numpy.floating], y: NDArray[numpy.floating], degree: int) -> float:
    """The sum of squares that a polynomial leaves."""
    centred = x - x.mean()
    return float(((y - numpy.polyval(numpy.polyfit(centred, y, degree), centred)) ** 2).sum())


def _ruled_out(left: float, bent: float, count: int) -> bool:
    from scipy.special import fdtrc

    freedom = count - 3
    # Points on the curve leave nothing but rounding.
    more = left - bent
    if more <= 1e-9:
        return False
    return bent <= 1e-12 or float(fdtrc(1, freedom, more / (bent / freedom))) < ALPHA
