"""How steps to target scale with the batch size: local slopes of the fit on log-log axes, and the regimes they tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.conclude.curve_fit import fit_curve, no_fit
from bench.conclude.measures import Summary, by_workload
from bench.conclude.points import Curve, curve_of
from bench.conclude.slopes import MAXIMAL, NAMED, PERFECT, maximal_from, perfect_until, slopes
from bench.numbers import count_interval, interval, raw, raw_interval
from bench.table import Table

_COLUMNS = ["batch size", "steps to target", "examples", "slope", "regime"]


def batch_scaling(summaries: Sequence[Summary]) -> list[Table]:
    """Slope and regime at each batch size, a table for each workload measured at two or more."""
    curves = [curve_of(rows) for _, rows in by_workload(summaries)]
    return [_table(curve) for curve in curves if len(curve.points) > 1]


def _table(curve: Curve) -> Table:
    rows, records = [], []
    for point, slope in zip(curve.points, slopes(curve), strict=True):
        steps, miss = point.interval, math.isinf(point.median)
        rows.append(
            [
                f"{point.batch_size:,.0f}",
                point.missed if miss else count_interval(steps),
                f">{point.tried * point.batch_size:,.0f}" if miss else f"{steps.median * point.batch_size:,.0f}",
                interval(slope.slope) if slope.slope.resolved else "",
                slope.regime,
            ]
        )
        records.append(
            {
                "batch_size": point.batch_size,
                "steps_to_target": raw(steps.median),
                "examples_to_target": raw(steps.median * point.batch_size),
                "slope": raw_interval(slope.slope),
                "regime": slope.regime,
            }
        )
    title = f"{curve.label}: scaling with the batch size"
    return Table(title, _COLUMNS, rows, set(_COLUMNS[:-1]), _notes(curve), ["examples"], records)


def _notes(curve: Curve) -> list[str]:
    notes = [
        f"slope: of the fit, on log-log axes. perfect scaling: at most {PERFECT} (-1 halves the steps at twice the "
        f"batch size); maximal data parallelism: at least {MAXIMAL}; rising: steps rise with the batch size; "
        f"undecided: no regime holds in {NAMED:.0%} of the fits to resamples."
    ]
    if fitted := fit_curve(curve):
        notes.append(
            f"perfect scaling up to batch size {interval(perfect_until(fitted))}; maximal data parallelism from "
            f"{interval(maximal_from(fitted))}."
        )
    elif reason := no_fit(curve):
        notes.append(f"no fit: {reason}.")
    if alone := [f"{point.batch_size:,.0f}" for point in curve.points if len(point.steps) == 1]:
        notes.append(
            f"doubt: one seed at batch size {', '.join(alone)}: all noise is taken from the scatter of the points "
            "about the fit."
        )
    return notes
