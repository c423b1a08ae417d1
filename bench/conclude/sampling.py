"""How well a target is known: a validation set is a sample, and another would put steps to target elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.crossing import SETTLE

# Above this share of the steps, the validation set is too small for its target.
LARGE = 0.25


def target_uncertainty(
    paths: Sequence[Mapping[int, float]], crossings: Sequence[float], target: float, examples: int
) -> float | None:
    """The share of the steps by which steps to target would move, were the validation set another sample as large: one
    standard deviation.

    paths: the validation error at each step, of each seed.  crossings: steps to target of each, math.inf for a miss.

    An error p of n examples has a standard deviation of sqrt(p (1 - p)/n). Divided by p and by the slope of log p
    against log step about the crossing (least squares, all seeds together), it is one of log steps. All batch sizes
    share the validation set, so that this moves whole curves more than it bends them. None where the curve does not
    fall there.
    """
    above = below = 0.0
    for path, crossing in zip(paths, crossings, strict=True):
        near = [
            (math.log(step), math.log(error))
            for step, error in path.items()
            if error > 0 and crossing / SETTLE["isotonic"] <= step <= crossing * SETTLE["isotonic"]
        ]
        if len(near) < 3:
            continue
        middle = [sum(values) / len(near) for values in zip(*near, strict=True)]
        above += sum((step - middle[0]) * (error - middle[1]) for step, error in near)
        below += sum((step - middle[0]) ** 2 for step, _ in near)
    slope = above / below if below else 0.0
    return math.sqrt((1 - target) / (target * examples)) / -slope if slope < 0 and 0 < target < 1 else None
