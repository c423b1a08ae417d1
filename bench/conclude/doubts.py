"""Every reason not to believe a fit, a sentence each."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy

from bench.conclude.fit import Fit
from bench.conclude.points import Curve, Floats

# A residual that a person would see on the plot.
_LARGE = 0.25


def doubts_of(curve: Curve, best: Fit, residuals: Floats, derivatives: Floats) -> list[str]:
    """Every reason not to believe the fit, a sentence each."""
    doubts = []
    points = curve.points
    met = [point for point in points if math.isfinite(point.median)]
    sizes = [point.batch_size for point in met]
    missed = [point for point in points if point not in met]
    if bounded := [f"{point.batch_size:,.0f}" for point in missed if point.tried]:
        doubts.append(
            f"no steps to target at batch size {', '.join(bounded)}: the fit knows them only as more than was tried"
        )
    if unknown := [f"{point.batch_size:,.0f}" for point in missed if not point.tried]:
        doubts.append(
            f"no steps to target at batch size {', '.join(unknown)}, nor how many were tried: the fit knows nothing of "
            "them"
        )
    if len(met) < 4:
        doubts.append(f"{len(met)} batch sizes met the target; a fit of two numbers wants four or more")
    if best.critical_batch > max(sizes):
        doubts.append(
            f"only the side of perfect scaling was seen: B_crit lies beyond the largest batch size, {max(sizes):,.0f}"
        )
    if best.critical_batch < min(sizes):
        doubts.append(
            f"only the side of maximal data parallelism was seen: B_crit lies below the smallest batch size, "
            f"{min(sizes):,.0f}"
        )
    rises = [f"{after.batch_size:,.0f}" for before, after in pairwise(met) if after.median > before.median]
    if rises:
        doubts.append(f"steps rise with the batch size at {', '.join(rises)}, which the model cannot follow")
    worst = max(range(len(points)), key=lambda place: abs(residuals[place]))
    if abs(residuals[worst]) > _LARGE:
        doubts.append(
            f"the fit is {abs(math.expm1(-residuals[worst])):.0%} {'below' if residuals[worst] > 0 else 'above'} "
            f"what was measured at batch size {points[worst].batch_size:,.0f}"
        )
    known = [point in met for point in points]
    if _bent(numpy.log(sizes), residuals[known], derivatives[known]):
        doubts.append("the residuals bend from one end to the other: the curve has another shape than the model")
    return doubts


def _bent(logs: Floats, residuals: Floats, derivatives: Floats) -> bool:
    """Whether a parabola beside the model's two terms lowers the residuals more than chance would (F test at 5 %, one
    degree of freedom for the parabola), and they matter at all.
    """
    from scipy.special import fdtrc

    freedom = len(logs) - 3
    if freedom < 2 or numpy.abs(residuals).max() < 0.05:
        return False
    parabola = (logs - logs.mean()) ** 2
    beside = numpy.column_stack([derivatives, parabola])
    before, after = (
        float(((residuals - columns @ numpy.linalg.lstsq(columns, residuals)[0]) ** 2).sum())
        for columns in (derivatives, beside)
    )
    return after <= 0 or float(fdtrc(1, freedom, (before - after) / (after / freedom))) < 0.05
