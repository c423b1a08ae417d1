"""How the batch of a trial grows while it trains. Arithmetic alone, in units: a unit is a batch as large as the first.

A study counts steps in units, so that a step stands for as many examples whatever the batch is by then; a step of the
optimizer takes a whole number of them. Schedules go by units too, and scaling rules by the batch size at the start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from bench.ask.suite import Adaptive, Doubling

# At most so many looks are averaged: one alone says little, and the first ones are of weights that are long gone.
LOOKS = 4
# However sure a look seems, it makes the batch at most so many times as large.
_MOST_AT_ONCE = 2


class Batch:
    """The batch of one trial, which began at `batch_size` examples."""

    def __init__(self, growth: Doubling | Adaptive, batch_size: int) -> None:
        self._growth = growth
        self._batch_size = batch_size
        self._most = growth.largest(batch_size) // batch_size
        self._doubles = growth.double_at if isinstance(growth, Doubling) else []
        # What a trial that goes on later is given back.
        self.looks: list[tuple[float, float]] = []
        self.measured = 1

    def units(self, seen: int) -> int:
        """How many units the optimizer's next step takes, after so many."""
        return self.measured << sum(examples <= seen * self._batch_size for examples in self._doubles)

    def stretches(self, seen: int, until: int) -> Iterator[tuple[int, int]]:
        """(units a step, steps) in order: what the optimizer takes after `seen` units without passing `until`."""
        while seen < until:
            units = self.units(seen)
            ahead = [examples for examples in self._doubles if examples > seen * self._batch_size]
            end = min(until, math.ceil(min(ahead) / self._batch_size)) if ahead else until
            # The step that passes the next doubling is still of this size.
            steps = min((until - seen) // units, math.ceil((end - seen) / units))
            if not steps:
                return
            yield units, steps
            seen += units * steps

    def look(self, gradient_squared: float, noise_trace: float) -> None:
        """Lets the batch grow by estimates of |G|^2 and tr(Sigma), each averaged over the last looks, then divided.

        noise_scale: to B_simple = tr(Sigma)/|G|^2, rounded down (McCandlish et al. 2018, arXiv 1812.06162, eq. 2.9).
        norm_test: to tr(Sigma)/(eta^2 |g|^2), rounded up, |g|^2 = |G|^2 + tr(Sigma)/B being what the gradient of a
        batch of the present size B has on average (Lau et al. 2024, arXiv 2402.11215). Where the noise hides the
        gradient, and |G|^2 seems negative, nothing is known, and nothing grows; nothing shrinks either.
        """
        growth = self._growth
        assert isinstance(growth, Adaptive)
        self.looks = [*self.looks, (gradient_squared, noise_trace)][-LOOKS:]
        signal, noise = (sum(column) / len(self.looks) for column in zip(*self.looks, strict=True))
        if growth.eta is not None:
            signal = growth.eta**2 * (signal + noise / (self.measured * self._batch_size))
        if signal <= 0 or noise < 0:
            return
        wanted = min(noise / signal / self._batch_size, float(self._most))
        units = math.floor(wanted) if growth.eta is None else math.ceil(wanted)
        self.measured = max(self.measured, min(units, _MOST_AT_ONCE * self.measured))
