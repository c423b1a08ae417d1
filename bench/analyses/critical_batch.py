"""The critical batch size: S = S_min (1 + (B_crit/B)^alpha) fitted to steps to target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.analyses._points import steps_cell, unfitted
from bench.conclude.curve_fit import EXPONENT_DEVIATION, OVERHEAD, CurveFit, fit_curve, no_fit
from bench.conclude.fit import Fit
from bench.conclude.measures import Summary, by_workload
from bench.conclude.points import Curve, curve_of
from bench.conclude.power_law import joint_power_law
from bench.numbers import interval, number, raw, raw_interval
from bench.table import Table

_COLUMNS = ["batch size", "steps to target", "exponent 1", "free exponent", "measured / fitted"]


def critical_batch(summaries: Sequence[Summary]) -> list[Table]:
    """The fit of each workload that met its target at two batch sizes or more, or why there is none."""
    tables = [table_of(curve_of(rows)) for _, rows in by_workload(summaries)]
    return [table for table in tables if table]


def table_of(curve: Curve, overhead: float = OVERHEAD, reference: float | None = None) -> Table | None:
    """The fit of a curve, point by point, with its numbers, their intervals and every doubt below, or why there is
    none; None where fewer than two batch sizes met the target.
    """
    title = f"{curve.label}: the critical batch size"
    if fitted := fit_curve(curve, overhead, reference):
        rows = _rows(fitted)
        return Table(
            title, _COLUMNS, rows, set(_COLUMNS), _notes(fitted), ["free exponent"], [_record(fitted)]
        ).without_empty({"free exponent"})
    reason = no_fit(curve)
    return unfitted(title, curve, reason, [f"no fit: {reason}."]) if reason else None


def _rows(fitted: CurveFit) -> list[list[str]]:
    return [
        [
            f"{point.batch_size:,.0f}",
            steps_cell(point),
            number(fitted.exponent_one.steps(point.batch_size), 6),
            number(fitted.free.steps(point.batch_size), 6) if fitted.free else "",
            f"{math.exp(residual):.2f}" if math.isfinite(point.log) else "",
        ]
        for point, residual in zip(fitted.curve.points, fitted.residuals, strict=True)
    ]


def _notes(fitted: CurveFit) -> list[str]:
    explains = f"; explains {fitted.explained:.1%} of log S" if math.isfinite(fitted.explained) else ""
    free, examples = fitted.free, fitted.minimum_examples
    return [
        f"S = S_min (1 + (B_crit/B)^{number(fitted.fit.exponent)}): S_min {interval(fitted.minimum_steps)} steps, "
        f"B_crit {interval(fitted.critical_batch)}, where a run takes twice the least steps{explains}.",
        "E_min: none, for only exponent 1 has a least number of examples."
        if math.isnan(examples.low)
        else f"E_min {interval(examples)} examples, if the exponent is 1.",
        *(
            [
                f"exponent 1: {_numbers(fitted.exponent_one)}; free exponent {free.exponent:.2f}: {_numbers(free)}; "
                f"exponent 1 bends so far by chance in {fitted.exponent_p:.1%} of cases."
            ]
            if free
            else []
        ),
        f"{fitted.overhead:.0%} critical batch size, with {1 + fitted.overhead:g}x the examples of batch size "
        f"{fitted.reference:,.0f}: {interval(fitted.overhead_batch)}.",
        "intervals contain the noise of seeds and of tuning, the spacing of evaluations, and an exponent that is 1 "
        f"give or take {EXPONENT_DEVIATION:.0%}.",
        *(f"doubt: {doubt}." for doubt in fitted.doubts),
    ]


def _numbers(fit: Fit) -> str:
    least = "below " * (fit.unseen == "minimum_steps")
    return f"S_min {least}{number(fit.minimum_steps)}, B_crit {'above ' * bool(least)}{number(fit.critical_batch)}"


def _record(fitted: CurveFit) -> dict[str, Any]:
    names = ("minimum_steps", "minimum_examples", "critical_batch", "overhead_batch")
    return {
        "label": fitted.curve.label,
        "sizes": dict(fitted.curve.sizes),
        **{name: raw_interval(getattr(fitted, name)) for name in names},
        "exponent": fitted.fit.exponent,
        "exponent_one": _raw_fit(fitted.exponent_one),
        "free_exponent": _raw_fit(fitted.free) if fitted.free else None,
        "exponent_p": raw(fitted.exponent_p),
        "overhead": fitted.overhead,
        "reference_batch_size": fitted.reference,
        "explained": raw(fitted.explained),
        "batch_sizes": [point.batch_size for point in fitted.curve.points],
        "residuals": [raw(residual) for residual in fitted.residuals],
        "doubts": list(fitted.doubts),
    }


def _raw_fit(fit: Fit) -> dict[str, Any]:
    return {
        "exponent": fit.exponent,
        "minimum_steps": fit.minimum_steps,
        "critical_batch": raw(fit.critical_batch),
        "unseen": fit.unseen,
    }


def power_law_table(fits: Sequence[CurveFit]) -> Table:
    """The critical batch sizes of curves against all of their sizes, and the power law through those that have one."""
    names = [name for name, _ in fits[0].curve.sizes]
    overhead = f"{fits[0].overhead:.0%} critical batch size"
    columns = ["curve", *(name.replace("_", " ") for name in names), "B_crit", overhead]
    rows = [
        [
            fit.curve.label,
            *(number(size) for _, size in fit.curve.sizes),
            interval(fit.critical_batch),
            interval(fit.overhead_batch),
        ]
        for fit in fits
    ]
    weighed = [fit for fit in fits if _weight_known(fit)]
    law = joint_power_law([dict(fit.curve.sizes) for fit in weighed], [fit.overhead_batch for fit in weighed])
    notes = [f"a power law needs the {overhead} resolved, with both ends of its interval, at two sizes or more."]
    if law:
        powers = " x ".join(f"{name}^{interval(of)}" for name, of in law.exponents.items())
        notes = [f"{overhead} = {number(law.factor)} x {powers}; each curve counts by its interval."]
        notes += [
            f"doubt: {name} rises as the other sizes do: their exponents cannot be told apart." for name in law.together
        ]
        if law.curves <= len(law.exponents) + 1:
            notes.append(f"doubt: {law.curves} curves make such a law whatever they are.")
    if left_out := [fit.curve.label for fit in fits if fit not in weighed]:
        notes.append(
            f"doubt: the power law leaves out {', '.join(left_out)}, whose {overhead} is unresolved or open at one end."
        )
    record: dict[str, Any] = {
        "factor": law.factor if law else None,
        "exponents": {name: raw_interval(of) for name, of in law.exponents.items()} if law else None,
        "curves": [fit.curve.label for fit in weighed],
    }
    title = "the critical batch size against size"
    return Table(title, columns, rows, set(columns[1:]), notes, records=[record])


def _weight_known(fit: CurveFit) -> bool:
    """Whether a curve's overhead batch size has an interval with two ends, which tells its weight."""
    known = fit.overhead_batch
    return known.resolved and known.low > 0 and math.isfinite(known.high)
