"""What a comparison that settled nothing could have seen, and how many runs would settle it.

Both are by Student's t on logarithms, at a level alpha and with probability POWER; the tests of seeds are about as
powerful (simulations in the tests).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from bench.conclude.evidence import Medians, least_p

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


def seeds(spread: Medians | None, alpha: float) -> float:
    """The same of seeds, for their number alone: how far from the limit the logarithm of the ratio must lie, infinity
    where they tell no spread.
    """
    if spread is None or not spread.freedom > 0:
        return math.inf
    return reach(float(spread.error), 1.0, int(spread.freedom), alpha) + hidden(spread)


def more_seeds(spread: Medians | None, off: float, now: int, candidates: int, alpha: float) -> int | None:
    """The seeds a side that would settle a difference `off` from the limit, if all else stayed as it is, None for more
    than MOST_RUNS; now: how many there are, of each of so many candidates.
    """
    if spread is None or not spread.freedom > 0:
        return None
    per_seed = float(spread.error) * math.sqrt(now)

    def reach_of(count: int) -> float:
        few = least_p([(count, count)] * candidates) > alpha
        return math.inf if few else hidden(spread) + reach(per_seed, 1 / count, 2 * candidates * (count - 1), alpha)

    return _needed(off, reach_of)


def hidden(spread: Medians) -> float:
    """What the logarithm of the ratio loses since seeds are only known between evaluations: half of what is not known
    of it.
    """
    return float(spread.high - spread.low) / 2


def reach(deviation: float, share: float, freedom: int, alpha: float) -> float:
    """How far from its null a mean logarithm must lie to be told from it.

    deviation: of one observation.  share: its variance's factor, such as 1/n + 1/m for two samples.
    """
    from scipy.special import stdtrit

    return deviation * math.sqrt(share) * float(stdtrit(freedom, 1 - alpha) + stdtrit(freedom, POWER))


def _needed(off: float, reach_of: Callable[[int], float]) -> int | None:
    return next((count for count in range(2, MOST_RUNS + 1) if reach_of(count) <= abs(off)), None)
