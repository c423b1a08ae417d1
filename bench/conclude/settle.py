"""What a comparison that settled nothing could have seen, and how many runs would settle it.

Both are by Student's t on logarithms, at a level alpha and with probability POWER; the exact test of seeds is about as
powerful (a simulation in the tests).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from bench.conclude.evidence import least_p
from bench.stats import Interval

POWER = 0.8
MOST_RUNS = 1000


def processes(logs: Sequence[float], limit: float, alpha: float) -> tuple[float, int | None]:
    """(how far from the limit the mean logarithm must lie to be told from it, the processes a side that would do if all
    else stayed as it is, None for more than MOST_RUNS), from the logarithms of paired ratios.
    """
    deviation = statistics.stdev(logs)

    def reach_of(count: int) -> float:
        return reach(deviation, 1 / count, count - 1, alpha)

    return reach_of(len(logs)), _needed(statistics.fmean(logs) - math.log(limit), reach_of)


def seeds(
    candidate: Sequence[float], base: Sequence[float], ratio: Interval | None, limit: float, alpha: float
) -> tuple[float, int | None]:
    """The same of seeds, infinity and None where nothing can be said.

    Those that missed tell no spread, and count as not there.
    """
    met = [[math.log(value) for value in sample if math.isfinite(value)] for sample in (candidate, base)]
    freedom = sum(map(len, met)) - 2
    if freedom < 1 or not all(met) or ratio is None or not ratio.resolved:
        return math.inf, None
    squares = sum((log - statistics.fmean(logs)) ** 2 for logs in met for log in logs)
    deviation = math.sqrt(squares / freedom)

    def reach_of(count: int) -> float:
        return reach(deviation, 2 / count, 2 * count - 2, alpha) if least_p(count, count) <= alpha else math.inf

    seen = reach(deviation, sum(1 / len(logs) for logs in met), freedom, alpha)
    return seen, _needed(math.log(ratio.value / limit), reach_of)


def reach(deviation: float, share: float, freedom: int, alpha: float) -> float:
    """How far from its null a mean logarithm must lie to be told from it.

    deviation: of one observation.  share: its variance's factor, such as 1/n + 1/m for two samples.
    """
    from scipy.special import stdtrit

    return deviation * math.sqrt(share) * float(stdtrit(freedom, 1 - alpha) + stdtrit(freedom, POWER))


def _needed(off: float, reach_of: Callable[[int], float]) -> int | None:
    return next((count for count in range(2, MOST_RUNS + 1) if reach_of(count) <= abs(off)), None)
