"""Linear decay to a fraction of the learning rate."""

from __future__ import annotations

from pydantic import PositiveInt

from bench.contracts import Schedule
from bench.options import Fraction


def linear(horizon: int, *, decay_steps: PositiveInt | None = None, end_factor: Fraction = 0.0) -> Schedule:
    """1 - (1 - f) t/T for t <= T, then f (Shallue et al. 2019).

    f is `end_factor`; T is `decay_steps`, or the whole horizon (the search's budget in steps) where none is given.
    """
    last = decay_steps or horizon
    return lambda step: 1 - (1 - end_factor) * min(step / last, 1.0)
