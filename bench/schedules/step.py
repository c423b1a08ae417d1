"""A learning rate that falls by a factor at each of some steps."""

from __future__ import annotations

from pydantic import PositiveInt

from bench.contracts import Schedule
from bench.options import Fraction


def step(
    horizon: int,
    *,
    milestones: list[PositiveInt] | list[Fraction] = [0.5, 0.75],  # noqa: B006
    factor: Fraction = 0.1,
) -> Schedule:
    """factor^n, n being how many milestones lie at or before the step (He et al. 2016, arXiv 1512.03385, section 4.2).

    Whole milestones are steps, and others shares of the horizon (the search's budget in steps).
    """
    whole = all(isinstance(milestone, int) for milestone in milestones)
    steps = milestones if whole else [milestone * horizon for milestone in milestones]
    return lambda now: float(factor ** sum(milestone <= now for milestone in steps))
