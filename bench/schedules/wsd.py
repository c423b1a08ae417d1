"""Warm-up, stable, decay: the learning rate stays until a last share of the training, in which it falls."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import PositiveInt

from bench.contracts import Schedule
from bench.options import Fraction


def wsd(
    horizon: int,
    *,
    decay_share: Fraction = 0.2,
    shape: Literal["linear", "1-sqrt"] = "1-sqrt",
    end_factor: Fraction = 0.0,
    total_steps: PositiveInt | None = None,
) -> Schedule:
    """1 for t <= (1 - s) T, then falling to f at T, and f from there on; warm it up with warmup_steps.

    s is `decay_share`, f `end_factor`; T is `total_steps`, or the whole horizon where none is given. With u the share
    of the decay that is over the factor is 1 - (1 - f) u (linear) or 1 - (1 - f) sqrt(u) (1-sqrt). Hu et al. 2024
    (arXiv 2404.06395); the shapes are those of Haegele et al. 2024 (arXiv 2405.18392).
    """
    last = total_steps or horizon
    stable = (1 - decay_share) * last

    def factor(step: int) -> float:
        if step <= stable and step < last:
            return 1.0
        over = 1.0 if step >= last else (step - stable) / (last - stable)
        return 1 - (1 - end_factor) * (over if shape == "linear" else math.sqrt(over))

    return factor
