"""Cosine decay to a fraction of the learning rate."""

from __future__ import annotations

import math

from pydantic import PositiveInt

from bench.contracts import Schedule
from bench.options import Fraction


def cosine(horizon: int, *, decay_steps: PositiveInt | None = None, end_factor: Fraction = 0.0) -> Schedule:
    """f + (1 - f) (1 + cos(pi t/T))/2 for t <= T, then f (Loshchilov and Hutter 2017, without restarts).

    f is `end_factor`; T is `decay_steps`, or the whole horizon (the search's budget in steps) where none is given.
    """
    last = decay_steps or horizon
    return lambda step: end_factor + (1 - end_factor) * (1 + math.cos(math.pi * min(step / last, 1.0))) / 2
