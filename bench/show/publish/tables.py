"""Comparisons and verdicts as tables, and every number of them as records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.conclude.compare import ALPHA, Comparison, Measure, Row, Values
from bench.conclude.verdicts import VERDICTS, Judgement, Ruling
from bench.numbers import interval, number, raw, raw_interval
from bench.stats import CONFIDENCE, Interval
from bench.table import Table

# What a person calls a measure, and what its values are multiplied by for it.
_SHOWN: dict[Measure, tuple[str, float]] = {
    "steps_to_target": ("steps to target", 1.0),
    "throughput": ("throughput, examples/s", 1.0),
    "step_seconds": ("step time, ms", 1e3),
    "peak_memory": ("peak memory, MB", 1e-6),
    "test_error": ("test error", 1.0),
}
_COMPARED = ["workload", "batch size", "measure", "base", "candidate", "ratio", "p", "n", "verdict"]
_JUDGED = ["workload", "batch size", "measure", "base", "candidate", "ratio", "limit", "n", "verdict"]
_NUMERIC = {"batch size", "base", "candidate", "ratio", "limit", "p", "n"}
_SPARE = ["n", "p", "base"]


def shown(measure: Measure) -> str:
    """What a person calls a measure."""
    return _SHOWN[measure][0]


def comparison_table(comparison: Comparison) -> Table:
    """A row for each measure of each study, and the geometric means last."""
    rows = [[*_cells(row), _p(row.p), _counts(row), _told(row)] for row in comparison.rows]
    for whole in comparison.pooled:
        sizes = f"{whole.sizes} together"
        rows.append(
            [
                whole.title,
                sizes,
                shown("steps_to_target"),
                "",
                "",
                _ratio(whole.ratio),
                _p(whole.p),
                "",
                whole.difference,
            ]
        )
    for measure, (mean, count) in comparison.means.items():
        rows.append(["geometric mean", "", shown(measure), "", "", number(mean), "", str(count), ""])
    base, candidate = comparison.base, comparison.candidate
    notes = [
        f"better, worse: p at most {ALPHA} after adjusting for the false discovery rate, apart for steps, for times "
        "and memory, and for test errors; ~: nothing can be said; the ratio would have been seen four times of five.",
        *_levels(comparison.rows),
        *(f"{_place(row)}: {row.note}." for row in comparison.rows if row.note),
        *_environments(comparison),
    ]
    records = [_record(row) for row in comparison.rows]
    title = f"{candidate.name} against {base.name}"
    return Table(title, _COMPARED, rows, _NUMERIC, notes, _SPARE, records)


def judgement_table(judgement: Judgement) -> Table:
    """A row for each rule, the worst verdict first, and why under it."""
    rulings = sorted(judgement.rulings, key=lambda ruling: VERDICTS.index(ruling.verdict))
    rows = [
        [*_cells(ruling), number(ruling.limit) if ruling.limit else "", _counts(ruling), ruling.verdict]
        for ruling in rulings
    ]
    notes = [
        *_levels(rulings),
        *judgement.notes,
        *(f"{_place(ruling)}: {ruling.verdict}: {ruling.note}." for ruling in rulings if ruling.note),
    ]
    return Table(title(judgement), _JUDGED, rows, _NUMERIC, notes, _SPARE, [ruling_record(each) for each in rulings])


def title(judgement: Judgement) -> str:
    """A gate's answer in a line."""
    counts = [f"{judgement.count(verdict)} {verdict}" for verdict in VERDICTS if judgement.count(verdict)]
    return (
        f"gate {judgement.suite}: {judgement.verdict} ({', '.join(counts)}); "
        f"{judgement.candidate.name} against {judgement.base.name}"
    )


def ruling_record(ruling: Ruling) -> dict[str, Any]:
    """Every number of a ruling, with its raw values; a miss is null."""
    return {
        **_record(ruling),
        "tolerance": ruling.tolerance,
        "limit": ruling.limit,
        "p_worse": ruling.p_worse,
        "p_within": ruling.p_within,
        "detectable": ruling.detectable,
        "needed": ruling.needed,
        "exit_code": ruling.exit_code,
    }


def _record(row: Row | Ruling) -> dict[str, Any]:
    verdict = (
        {"verdict": row.verdict}
        if isinstance(row, Ruling)
        else {"verdict": row.difference, "p": row.p, "detectable": row.detectable}
    )
    return {
        "workload": row.workload,
        "devices": row.devices,
        "batch_size": row.batch_size,
        "measure": row.measure,
        "base": _raw_values(row.base),
        "candidate": _raw_values(row.candidate),
        "ratio": {**raw_interval(row.ratio), "confidence": CONFIDENCE} if row.ratio else None,
        **verdict,
        "note": row.note,
    }


def _raw_values(values: Values) -> dict[str, Any]:
    median = values.median
    return {
        "values": [raw(value) for value in values.each],
        "budget": raw(values.budget),
        "contenders": [
            {"metaparameters": each.metaparameters, "steps": [[after, raw(by)] for after, by in each.each]}
            for each in values.contenders
        ],
        "median": raw(median.median) if median else None,
        "low": raw(median.low) if median else None,
        "high": raw(median.high) if median else None,
        "confidence": median.confidence if median else None,
    }


def _cells(row: Row | Ruling) -> list[str]:
    factor = _SHOWN[row.measure][1]
    ratio = _ratio(row.ratio) if row.ratio else ""
    sides = [_values(values, factor) for values in (row.base, row.candidate)]
    return [row.title, f"{row.batch_size:,}", shown(row.measure), *sides, ratio]


def _ratio(ratio: Interval) -> str:
    if not ratio.resolved or math.isnan(ratio.low):
        return number(ratio.value) or "unresolved"
    return interval(ratio)


def _values(values: Values, factor: float) -> str:
    median = values.median
    if median is None:
        return "NaN" if values.each else ""
    middle = _amount(median.median, values.budget, factor)
    if not median.confidence:
        return middle
    return f"{middle} [{_amount(median.low, values.budget, factor)}, {_amount(median.high, values.budget, factor)}]"


def _amount(value: float, budget: float, factor: float) -> str:
    return f">{budget:,.0f}" if math.isinf(value) else number(value * factor, 4)


def _told(row: Row) -> str:
    """The difference; where nothing can be said, with how large a one would have been seen."""
    return f"{row.difference} (sees {number(row.detectable)}x)" if row.detectable else row.difference


def _p(p: float | None) -> str:
    return "" if p is None else f"{p:.2g}" if p >= 1e-4 else "<0.0001"


def _counts(row: Row | Ruling) -> str:
    base, candidate = len(row.base.each), len(row.candidate.each)
    return f"{base}" if base == candidate else f"{base}, {candidate}"


def _place(row: Row | Ruling) -> str:
    return f"{row.title}, batch size {row.batch_size:,}, {shown(row.measure)}"


def _levels(rows: Sequence[Row | Ruling]) -> list[str]:
    """How sure the intervals of a table are, in a sentence; none where there is no interval."""
    medians = {
        (len(each.each), each.median.confidence) for row in rows for each in (row.base, row.candidate) if each.median
    }
    known: dict[int, list[str]] = {}
    for count, confidence in sorted(medians):
        if confidence:
            known.setdefault(count, []).append(f"{confidence:.0%}")
    levels = [f"of {count} values {' or '.join(each)}" for count, each in known.items()]
    if not levels:
        return []
    return [f"[low, high]: the interval of a ratio is one of {CONFIDENCE:.0%}, that of a median {', '.join(levels)}."]


def _environments(comparison: Comparison) -> Sequence[str]:
    devices = [
        sorted({str(environment.get("device")) for environment in side.environments})
        for side in (comparison.base, comparison.candidate)
    ]
    if devices[0] == devices[1]:
        return []
    here, there = (" and ".join(found) or "an unknown device" for found in devices)
    return [f"the base was measured on {here}, the candidate on {there}: steps to target may be compared, times not."]
