"""Steps to target against batch size: medians and intervals, the fit, the slope of perfect scaling, the regimes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy
from matplotlib.axes import Axes

from bench.conclude.curve_fit import fit_curve
from bench.conclude.measures import Summary
from bench.conclude.points import Curve, curve_of
from bench.conclude.slopes import Regime, slopes
from bench.keep.archive import Archive
from bench.numbers import interval
from bench.show.pictures._axes import BLUE, GREEN, GREY, ORANGE, YELLOW, amounts, batch_sizes, legend

_SHADES: dict[Regime, str] = {
    "perfect scaling": GREEN,
    "diminishing returns": YELLOW,
    "maximal data parallelism": ORANGE,
}


def batch_scaling(panel: Axes, rows: Sequence[Summary], archive: Archive) -> bool:  # noqa: ARG001 (the contract)
    """Log-log; a miss is a triangle at the budget it was given. False without a point."""
    curve = curve_of(rows)
    if not curve.points:
        return False
    met = [point for point in curve.points if math.isfinite(point.median)]
    missed = [point for point in curve.points if point not in met]
    _regimes(panel, curve)
    if met:
        sizes = numpy.array([point.batch_size for point in met])
        panel.plot(sizes, met[0].median * sizes[0] / sizes, "--", color=GREY, label="slope -1: perfect scaling")
        intervals = [point.interval for point in met]
        # An interval that reaches the misses goes up to the budget.
        highs = [min(each.high, point.tried) for each, point in zip(intervals, met, strict=True)]
        medians = numpy.array([point.median for point in met])
        reach = [medians - [each.low for each in intervals], numpy.maximum(numpy.array(highs) - medians, 0)]
        panel.errorbar(sizes, medians, reach, fmt="o", color=BLUE, capsize=3, label="median over seeds, with interval")
    if missed:
        budgets = [point.tried for point in missed]
        panel.plot([point.batch_size for point in missed], budgets, "^", color=ORANGE, label="a miss, at its budget")
    if fitted := fit_curve(curve):
        along = numpy.geomspace(curve.points[0].batch_size, curve.points[-1].batch_size, 200)
        label = f"S_min (1 + (B_crit/B)^{fitted.fit.exponent:.3g}), B_crit {interval(fitted.critical_batch)}"
        panel.plot(along, [fitted.fit.steps(size) for size in along], color=BLUE, label=label)
    batch_sizes(panel, [point.batch_size for point in curve.points])
    amounts(panel, "steps to target")
    legend(panel)
    return True


def _regimes(panel: Axes, curve: Curve) -> None:
    """Shades each batch size in the colour of its regime, half-way to the next ones."""
    sizes = [point.batch_size for point in curve.points]
    edges = [sizes[0], *(math.sqrt(before * after) for before, after in pairwise(sizes)), sizes[-1]]
    told: set[Regime] = set()
    for slope, (left, right) in zip(slopes(curve), pairwise(edges), strict=True):
        if shade := _SHADES.get(slope.regime):
            label = None if slope.regime in told else slope.regime
            panel.axvspan(left, right, color=shade, alpha=0.15, linewidth=0, label=label)
            told.add(slope.regime)
