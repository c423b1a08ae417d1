"""Decay with the inverse square root of the step."""

from __future__ import annotations

import math

from pydantic import PositiveInt

from bench.contracts import Schedule


def inverse_sqrt(
    horizon: int,  # noqa: ARG001 (it never ends)
    warmup_steps: float = 0.0,
    *,
    constant_steps: PositiveInt | None = None,
) -> Schedule:
    """1 for the first c steps, then sqrt(c/(t + 1)) at step t, counted from 0.

    c is `constant_steps`, or the steps of the warm-up where none is given, and 1 without one. So a warm-up alone makes
    it the schedule of Vaswani et al. 2017 (arXiv 1706.03762, eq. 3), whose peak is 1 here.
    """
    constant = constant_steps or max(warmup_steps, 1.0)
    return lambda step: min(1.0, math.sqrt(constant / (step + 1)))
