"""Statistics that know what a miss is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.9


@dataclass(frozen=True)
class MedianInterval:
    """A median and the interval around it; math.inf stands for "a miss": beyond everything that was tried."""

    median: float
    low: float
    high: float
    confidence: float


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> MedianInterval:
    """The median and an interval for the population's, from order statistics alone; a miss is math.inf.

    [x_(l), x_(n+1-l)] covers the median with probability 1 - 2 P(Binomial(n, 1/2) < l), whatever the distribution.
    Taken is the narrowest that covers with at least `confidence`; where n is too small for any, the widest. Its own
    coverage is returned beside it: five values give 0.9375. Misses need no more than their order, so they count
    without being given a number. Raises ValueError for no values or a NaN.
    """
    ordered = sorted(values)
    if not ordered or any(map(math.isnan, ordered)):
        raise ValueError("the median of nothing, or of NaN, is not a number")
    count = len(ordered)

    def coverage(rank: int) -> float:
        return 1 - sum(math.comb(count, below) for below in range(rank)) / (1 << (count - 1))

    rank = max((rank for rank in range(1, (count + 1) // 2 + 1) if coverage(rank) >= confidence), default=1)
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return MedianInterval(middle, ordered[rank - 1], ordered[count - rank], max(0.0, coverage(rank)))
