"""How long studies take on so many devices: the runner's way of handing them out, carried out on paper."""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Forecast:
    """When the last of some studies ends, each of which takes some of `devices` devices at once.

    device_seconds: what each takes times its devices, in all.
    """

    devices: int
    makespan_seconds: float
    device_seconds: float
    longest_seconds: float

    @property
    def utilisation(self) -> float:
        """The share of the devices' time in which they work."""
        return self.device_seconds / (self.devices * self.makespan_seconds)

    @property
    def least_seconds(self) -> float:
        """What no schedule falls below: the longest study, and the device time of all shared out evenly."""
        return max(self.longest_seconds, self.device_seconds / self.devices)


def forecast(studies: Iterable[tuple[float, int]], devices: int) -> Forecast:
    """studies: (seconds, devices at once) of each, in the order in which the runner begins them; at least one, and none
    on more devices than there are.

    Each begins when it is its turn and so many devices are free. Where all take one device and the longest come first,
    that ends within 4/3 of the best schedule there is (Graham 1969).
    """
    taken = list(studies)
    running: list[tuple[float, int]] = []
    now, free = 0.0, devices
    for seconds, width in taken:
        while free < width:
            now, freed = heapq.heappop(running)
            free += freed
        heapq.heappush(running, (now + seconds, width))
        free -= width
    return Forecast(
        devices,
        max(end for end, _ in running),
        sum(seconds * width for seconds, width in taken),
        max(seconds for seconds, _ in taken),
    )


def step_seconds(measured: Mapping[int, float], batch_size: float) -> float:
    """A step's seconds at any batch size, from those measured, at least one: between them by a straight line on log
    axes; below the smallest as long as that, and above the largest in proportion to its examples.
    """
    points = sorted(measured.items())
    place = bisect.bisect_left([size for size, _ in points], batch_size)
    if place == len(points):
        largest, slowest = points[-1]
        return slowest * batch_size / largest
    if place == 0 or batch_size == points[place][0]:
        return points[place][1]
    (below, quick), (above, slow) = points[place - 1], points[place]
    share = math.log(batch_size / below) / math.log(above / below)
    return math.exp(math.log(quick) + share * (math.log(slow) - math.log(quick)))
