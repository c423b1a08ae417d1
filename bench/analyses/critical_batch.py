"""The critical batch size: S = S_min + E_min/B fitted to steps to target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.conclude.curve_fit import CurveFit, fit_curve, power_law
from bench.conclude.measures import Summary, by_workload
from bench.conclude.points import curve_of
from bench.numbers import interval, number, raw, raw_interval
from bench.table import Table

_COLUMNS = ["batch size", "steps to target", "fitted", "measured / fitted"]


def critical_batch(summaries: Sequence[Summary]) -> list[Table]:
    """The fit of each workload that met its target at two batch sizes or more."""
    fits = [fit_curve(curve_of(rows)) for _, rows in by_workload(summaries)]
    return [table_of(fit) for fit in fits if fit]


def table_of(fitted: CurveFit) -> Table:
    """A fit, point by point, with its numbers, their intervals and every doubt below."""
    rows = []
    for point, residual in zip(fitted.curve.points, fitted.residuals, strict=True):
        rows.append(
            [
                f"{point.batch_size:,.0f}",
                point.missed if math.isinf(point.median) else number(point.median, 6),
                number(fitted.fit.steps(point.batch_size), 6),
                "" if math.isinf(point.median) else f"{math.exp(residual):.2f}",
            ]
        )
    explains = f"; explains {fitted.explained:.1%} of log S" if math.isfinite(fitted.explained) else ""
    notes = [
        f"S = S_min + E_min/B: S_min {interval(fitted.minimum_steps)} steps, E_min {interval(fitted.minimum_examples)} "
        f"examples{explains}.",
        f"B_crit = E_min/S_min: {interval(fitted.critical_batch)}; there a run takes twice the least steps and twice "
        "the least examples.",
        f"{fitted.overhead:.0%} critical batch size, with {1 + fitted.overhead:g}x the examples of batch size "
        f"{fitted.reference:,.0f}: {interval(fitted.overhead_batch)}.",
        *(f"doubt: {doubt}." for doubt in fitted.doubts),
    ]
    record = {
        "label": fitted.curve.label,
        "size": fitted.curve.size,
        **{
            name: raw_interval(getattr(fitted, name))
            for name in ("minimum_steps", "minimum_examples", "critical_batch", "overhead_batch")
        },
        "overhead": fitted.overhead,
        "reference_batch_size": fitted.reference,
        "explained": raw(fitted.explained),
        "batch_sizes": [point.batch_size for point in fitted.curve.points],
        "residuals": [raw(residual) for residual in fitted.residuals],
        "doubts": list(fitted.doubts),
    }
    return Table(
        f"{fitted.curve.label}: the critical batch size", _COLUMNS, rows, set(_COLUMNS), notes, records=[record]
    )


def power_law_table(fits: Sequence[tuple[float, CurveFit]]) -> Table:
    """The critical batch sizes of curves against their sizes, and the power law through those that have one."""
    resolved = [(size, fit) for size, fit in fits if fit.overhead_batch.resolved]
    rows = [
        [fit.curve.label, number(size), interval(fit.critical_batch), interval(fit.overhead_batch)]
        for size, fit in fits
    ]
    overhead = f"{fits[0][1].overhead:.0%} critical batch size"
    notes = []
    record: dict[str, Any] = {"factor": None, "exponent": None, "sizes": [size for size, _ in resolved]}
    if len({size for size, _ in resolved}) > 1:
        factor, exponent = power_law([size for size, _ in resolved], [fit.overhead_batch.value for _, fit in resolved])
        notes.append(f"{overhead} = {number(factor)} x size^{interval(exponent)}.")
        record |= {"factor": factor, "exponent": raw_interval(exponent)}
        if len(resolved) < 3:
            notes.append("doubt: two curves make a line whatever they are.")
    else:
        notes.append(f"a power law needs the {overhead} resolved at two sizes or more.")
    if left_out := [fit.curve.label for _, fit in fits if not fit.overhead_batch.resolved]:
        notes.append(f"doubt: the power law leaves out {', '.join(left_out)}, whose {overhead} is unresolved.")
    columns = ["curve", "size", "B_crit", overhead]
    title = "the critical batch size against size"
    return Table(title, columns, rows, set(columns[1:]), notes, records=[record])
