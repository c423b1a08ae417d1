"""How steps to target scale with the batch size: local slopes on log-log axes, and the regimes they tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.conclude.measures import Summary, by_workload
from bench.conclude.points import Curve, curve_of
from bench.conclude.slopes import MAXIMAL, PERFECT, slopes
from bench.numbers import count_interval, interval, raw, raw_interval
from bench.stats import median_interval
from bench.table import Table

_COLUMNS = ["batch size", "steps to target", "examples", "slope from the row above", "regime"]


def batch_scaling(summaries: Sequence[Summary]) -> list[Table]:
    """Slope and regime from each batch size to the next, a table for each workload measured at two or more."""
    curves = [curve_of(rows) for _, rows in by_workload(summaries)]
    return [_table(curve) for curve in curves if len(curve.points) > 1]


def _table(curve: Curve) -> Table:
    by_size = {slope.batch_size: slope for slope in slopes(curve)}
    rows, records = [], []
    for point in curve.points:
        steps, slope = median_interval(point.steps), by_size.get(point.batch_size)
        miss = math.isinf(steps.median)
        rows.append(
            [
                f"{point.batch_size:,.0f}",
                point.missed if miss else count_interval(steps),
                f">{point.tried * point.batch_size:,.0f}" if miss else f"{steps.median * point.batch_size:,.0f}",
                interval(slope.slope) if slope else "",
                slope.regime if slope else "",
            ]
        )
        records.append(
            {
                "batch_size": point.batch_size,
                "steps_to_target": raw(steps.median),
                "examples_to_target": raw(steps.median * point.batch_size),
                "slope": raw_interval(slope.slope) if slope else None,
                "regime": slope.regime if slope else None,
            }
        )
    notes = [
        f"perfect scaling: a slope of at most {PERFECT} (-1 halves the steps at twice the batch size); maximal data "
        f"parallelism: at least {MAXIMAL}; rising: above {-MAXIMAL}; undecided: the slope's interval, from the seeds "
        "and from how far apart evaluations are, spans a border."
    ]
    if alone := [f"{point.batch_size:,.0f}" for point in curve.points if len(point.steps) == 1]:
        notes.append(f"doubt: one seed at batch size {', '.join(alone)}: what it would be with another is left out.")
    numeric = {"batch size", "steps to target", "examples", "slope from the row above"}
    return Table(f"{curve.label}: scaling with the batch size", _COLUMNS, rows, numeric, notes, ["examples"], records)
