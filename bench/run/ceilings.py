"""The batch size of each workload above which nothing fits in memory: of `to: max`, what lies there is not tried."""

from __future__ import annotations

import math


class Ceilings:
    """The smallest batch sizes that did not fit, by workload and measure. What is too large for a forward pass is too
    large to train, and not the other way round.
    """

    def __init__(self) -> None:
        self._least: dict[tuple[str, bool], int] = {}

    def lower(self, workload: str, measure: str, batch_size: int) -> None:
        """A batch size did not fit."""
        for trains in {True, measure != "inference"}:
            key = workload, trains
            self._least[key] = min(batch_size, self._least.get(key, batch_size))

    def below(self, workload: str, measure: str, batch_size: int) -> bool:
        """Whether a smaller batch size did not fit."""
        return self._least.get((workload, measure != "inference"), math.inf) < batch_size
