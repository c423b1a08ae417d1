"""A learning rate that stays what it is."""

from __future__ import annotations

from bench.contracts import Schedule


def constant(horizon: int) -> Schedule:  # noqa: ARG001 (every schedule is given it)
    """1 at every step."""
    return lambda step: 1.0  # noqa: ARG005
