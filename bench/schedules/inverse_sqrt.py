"""Decay with the inverse square root of the step."""

from __future__ import annotations

import math

from pydantic import PositiveInt

from bench.contracts import Schedule


def inverse_sqrt(horizon: int, *, constant_steps: PositiveInt = 1) -> Schedule:  # noqa: ARG001 (it never ends)
    """1 for the first c steps, then sqrt(c/(t + 1)) at step t, counted from 0; c is `constant_steps`.

    With warmup_steps: c it is the schedule of Vaswani et al. 2017 (arXiv 1706.03762, eq. 3), whose peak is 1 here.
    """
    return lambda step: min(1.0, math.sqrt(constant_steps / (step + 1)))
